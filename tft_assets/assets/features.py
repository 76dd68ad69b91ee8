"""Phase 1, features: 292 mega features, and the ones worth exploring."""

import dagster as dg

from tft_assets.assets.common import AssetNode, Lifecycle, WorkspaceParam, materialize


def feature_assets(lifecycle: Lifecycle) -> list[AssetNode]:
    """``mega_features`` and ``prefiltered_features``."""

    @dg.asset(**lifecycle.asset("mega_features", group="features", kinds={"parquet", "pandas"}))
    def mega_features(
        context: dg.AssetExecutionContext, workspace: WorkspaceParam
    ) -> dg.MaterializeResult:
        """All 292 features, one row for each (session, symbol), float32.

        Partition k holds the rows from the previous fold's test start up to the day before
        fold k's, the first one all history before it. So every row is built once, fold k
        trains on the partitions up to k, and its test window is partition k+1, which nothing
        made for fold k has upstream.
        """
        return materialize(context, workspace)

    @dg.asset(**lifecycle.asset("prefiltered_features", group="features", kinds={"json"}))
    def prefiltered_features(
        context: dg.AssetExecutionContext, workspace: WorkspaceParam
    ) -> dg.MaterializeResult:
        """Features with enough coverage and no near twin, judged on fold k's training rows.

        Each dropped feature is listed with the reason, and with the twin that stands for it.
        """
        return materialize(context, workspace)

    return [mega_features, prefiltered_features]
