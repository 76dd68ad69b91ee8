"""Phase 4, production: full training, its record out of sample, and the promoted model."""

from collections.abc import Callable

import dagster as dg

from tft_assets.assets.common import AssetNode, Lifecycle, WorkspaceParam, made, materialize
from tft_assets.config import CheckpointOverrides, OnMissing, TrainingOverrides
from tft_assets.executors import executor_name, is_remote
from tft_assets.missing import build_missing, only_builder, refuse_missing
from tft_assets.provenance import code_tags
from tft_assets.retries import explained
from tft_assets.runs import owned, sweep_dead_runs


def production_assets(
    lifecycle: Lifecycle, assemble: Callable[[], dg.Definitions]
) -> list[AssetNode]:
    """``production_fold``, ``out_of_sample`` and ``production_checkpoint``.

    Args:
        assemble: Makes the definitions in which ``production_checkpoint`` builds what is
            missing; they hold these very assets, so they can't be given as they are.
    """

    @dg.asset(**lifecycle.asset("production_fold", group="production", kinds={"pytorch"}))
    def production_fold(
        context: dg.AssetExecutionContext, workspace: WorkspaceParam, config: TrainingOverrides
    ) -> dg.MaterializeResult:
        """The full training of fold k on the selected features, tuned and with defaults.

        Ends in candidates of the checkpoint registry. That of `live` is the one which
        `production_checkpoint` may promote.
        """
        return materialize(context, workspace, config)

    @dg.asset(**lifecycle.asset("out_of_sample", group="production", kinds={"parquet", "pandas"}))
    def out_of_sample(
        context: dg.AssetExecutionContext, workspace: WorkspaceParam
    ) -> dg.MaterializeResult:
        """Fold k's model walked through the test window it never saw, net of costs.

        Positions, returns and figures beside the baselines (long-only, 12-month momentum, the
        MACD blend) at the same costs and lag. The windows together are the record of the whole
        procedure, selection and tuning included.
        """
        return materialize(context, workspace)

    @dg.asset(**lifecycle.asset("production_checkpoint", group="production", kinds={"safetensors"}))
    def production_checkpoint(
        context: dg.AssetExecutionContext, workspace: WorkspaceParam, config: CheckpointOverrides
    ) -> dg.MaterializeResult:
        """The live fold's model, promoted if the out-of-sample records pass the gate.

        Builds first whatever upstream is missing or stale, as ordinary runs of one partition
        each (`on_missing: build`), or refuses and names it (`on_missing: fail`). A refused
        candidate is kept and not promoted.
        """
        remote = is_remote(executor_name())
        on_missing = config.on_missing or (OnMissing.fail if remote else OnMissing.build)
        defs = assemble()
        with (
            explained(context),
            only_builder(workspace.settings.home, context.run.run_id),
            owned(context, code_tags(workspace)),
        ):
            for line in sweep_dead_runs(context.instance):
                context.log.warning(line)
            if on_missing is OnMissing.fail:
                refuse_missing(context.instance, defs, workspace)
            else:
                build_missing(
                    context.instance,
                    defs,
                    workspace,
                    parent_run_id=context.run.run_id,
                    log=context.log.info,
                )
            # the step read its inputs' versions before they were built: read them again
            context.get_step_execution_context().fetch_external_input_asset_version_info()
            return made(context, workspace, config)

    return [production_fold, out_of_sample, production_checkpoint]
