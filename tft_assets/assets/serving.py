"""Phase 5, serving: positions of a session, and the signals published from them."""

import dagster as dg

from tft_assets.assets.common import AssetNode, Lifecycle, WorkspaceParam, materialize


def serving_assets(lifecycle: Lifecycle) -> list[AssetNode]:
    """``inference`` and ``strategy_signals``."""

    @dg.asset(**lifecycle.asset("inference", group="serving", kinds={"pytorch"}, carries_over=True))
    def inference(
        context: dg.AssetExecutionContext, workspace: WorkspaceParam
    ) -> dg.MaterializeResult:
        """Positions for one session, or the reason why a symbol has none.

        Uses the model that was in production on that session, else that of its fold, so a
        backfill of the past is the walk-forward record and not hindsight.
        """
        return materialize(context, workspace)

    @dg.asset(
        **lifecycle.asset("strategy_signals", group="serving", kinds={"sqlite"}, carries_over=True)
    )
    def strategy_signals(
        context: dg.AssetExecutionContext, workspace: WorkspaceParam
    ) -> dg.MaterializeResult:
        """Signals of the session in the ledger, through the same functions as `TFTStrategy`.

        Exactly once for each session: a rerun is a no-op or a new revision, never a double.
        """
        return materialize(context, workspace)

    return [inference, strategy_signals]
