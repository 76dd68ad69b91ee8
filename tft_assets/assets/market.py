"""Phase 1, data: the bars a fold may see."""

import dagster as dg

from tft_assets.assets.common import AssetNode, Lifecycle, WorkspaceParam, materialize


def market_assets(lifecycle: Lifecycle) -> list[AssetNode]:
    """``market_data``."""

    @dg.asset(**lifecycle.asset("market_data", group="market", kinds={"duckdb", "pandas"}))
    def market_data(
        context: dg.AssetExecutionContext, workspace: WorkspaceParam
    ) -> dg.MaterializeResult:
        """Bars of the market store that the feature rows of this partition are built from.

        Partition k ends the day before fold k's test window; `live` ends with the newest bar.
        The data version is a hash of the rows, so new or restated bars are noticed and an
        equal load is not. The store itself (DuckDB) stays where it is; this is its quality
        report.
        """
        return materialize(context, workspace)

    return [market_data]
