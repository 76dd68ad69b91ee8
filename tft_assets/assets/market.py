"""Phase 1, data: the store, and the bars of it that a fold may see."""

import dagster as dg
from dagster import _check as check

from tft_assets.arrivals import MARKET_STORE, observed
from tft_assets.assets.common import OWNERS, AssetNode, Lifecycle, WorkspaceParam, materialize
from tft_core.training_pipeline.graph import SPECS


def market_assets(lifecycle: Lifecycle) -> list[AssetNode]:
    """``market_store``, which Dagster observes and never makes, and ``market_data``."""
    market_store = dg.AssetSpec(
        MARKET_STORE,
        partitions_def=lifecycle.partitions.of(SPECS["market_data"]),
        group_name="market",
        kinds={"duckdb"},
        owners=OWNERS,
        description="The market store that `tft ingest` writes. Its version is a hash of the bars "
        "of each fold's rows, observed when `market_data` is made and by the sensor `new_data`: "
        "with new or restated bars `market_data` is shown as stale.",
    )

    @dg.asset(
        **lifecycle.asset(
            "market_data", group="market", kinds={"duckdb", "pandas"}, source=MARKET_STORE
        )
    )
    def market_data(
        context: dg.AssetExecutionContext, workspace: WorkspaceParam
    ) -> dg.MaterializeResult:
        """Bars of the market store that the feature rows of this partition are built from.

        Partition k ends the day before fold k's test window; `live` ends with the newest bar.
        The data version is a hash of the rows, so new or restated bars are noticed and an
        equal load is not. The store itself (DuckDB) stays where it is; this is its quality
        report.
        """
        made = materialize(context, workspace)
        # also of bars that fail their check, which ``read`` refuses
        bars = check.not_none(workspace.artifacts.current("market_data", context.partition_key))
        context.log_event(observed(context.partition_key, bars.summary["data_hash"]))
        # the step read the store's version before it was observed: read it again
        context.get_step_execution_context().fetch_external_input_asset_version_info()
        return made

    return [market_store, market_data]
