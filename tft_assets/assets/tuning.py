"""Phase 3, tuning: hyper-parameters from inner folds of the training window."""

import dagster as dg

from tft_assets.assets.common import AssetNode, Lifecycle, WorkspaceParam, materialize
from tft_assets.config import TuningOverrides


def tuning_assets(lifecycle: Lifecycle) -> list[AssetNode]:
    """``optuna_study``."""

    @dg.asset(**lifecycle.asset("optuna_study", group="tuning", kinds={"optuna", "pytorch"}))
    def optuna_study(
        context: dg.AssetExecutionContext, workspace: WorkspaceParam, config: TuningOverrides
    ) -> dg.MaterializeResult:
        """The Optuna study of fold k, on the newest inner folds of its training window.

        Tuned at the first fold, every `tuning.retune_every` folds and at `live`; the other
        keys hold a pointer to the study that they use. An interrupted study goes on where it
        stopped.
        """
        return materialize(context, workspace, config)

    return [optuna_study]
