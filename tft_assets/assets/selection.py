"""Phase 2, selection: which features stay important from fold to fold."""

import dagster as dg

from tft_assets.assets.common import AssetNode, Lifecycle, WorkspaceParam, materialize


def selection_assets(lifecycle: Lifecycle) -> list[AssetNode]:
    """``vsn_stability_report``."""

    @dg.asset(**lifecycle.asset("vsn_stability_report", group="selection", kinds={"json"}))
    def vsn_stability_report(
        context: dg.AssetExecutionContext, workspace: WorkspaceParam
    ) -> dg.MaterializeResult:
        """Features that stand out from shuffled copies over the exploration folds up to k.

        With fewer folds than `selection.min_folds` it says so and passes the pre-filtered set
        on. The HTML report shows weights for each fold, groups, and the comparison with chance.
        """
        return materialize(context, workspace)

    return [vsn_stability_report]
