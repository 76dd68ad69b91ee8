"""Phase 2, exploration: short training whose selection weights are read."""

import dagster as dg

from tft_assets.assets.common import AssetNode, Lifecycle, WorkspaceParam, materialize
from tft_assets.config import TrainingOverrides


def exploration_assets(lifecycle: Lifecycle) -> list[AssetNode]:
    """``exploration_fold``."""

    @dg.asset(**lifecycle.asset("exploration_fold", group="exploration", kinds={"pytorch"}))
    def exploration_fold(
        context: dg.AssetExecutionContext, workspace: WorkspaceParam, config: TrainingOverrides
    ) -> dg.MaterializeResult:
        """An abbreviated training of fold k on all pre-filtered features, for several seeds.

        Records the variable selection network's weight of every feature, its lift over chance
        and its permutation importance, shadow features included.
        """
        return materialize(context, workspace, config)

    return [exploration_fold]
