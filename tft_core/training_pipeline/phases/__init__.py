"""One function per asset: read upstream artifacts, call the science, fill the draft."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tft_core.training_pipeline.artifacts import Draft
from tft_core.training_pipeline.phases import (
    checkpoint,
    market,
    out_of_sample,
    production,
    selection,
    serving,
    tuning,
)
from tft_core.training_pipeline.workspace import Progress, Workspace

PhaseFunction = Callable[[Workspace, str, Draft, Mapping[str, Any], Progress], None]


@dataclass(frozen=True, slots=True)
class Phase:
    """How an asset is made, and which settings one build of it may override."""

    run: PhaseFunction
    overrides: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()
    """Those of ``overrides`` that replace no setting but say what a person has decided."""

    def replaced(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Of some overrides those that replace settings."""
        return {name: value for name, value in values.items() if name not in self.decisions}


PHASES: dict[str, Phase] = {
    "market_data": Phase(market.market_data),
    "mega_features": Phase(market.mega_features),
    "prefiltered_features": Phase(selection.prefiltered_features),
    "exploration_fold": Phase(selection.exploration_fold, ("seed", "n_seeds")),
    "vsn_stability_report": Phase(selection.vsn_stability_report),
    "optuna_study": Phase(tuning.optuna_study, ("n_trials", "timeout_seconds")),
    "production_fold": Phase(production.production_fold, ("seed", "n_seeds")),
    "out_of_sample": Phase(out_of_sample.out_of_sample),
    "production_checkpoint": Phase(
        checkpoint.production_checkpoint, ("force_reason",), decisions=("force_reason",)
    ),
    "inference": Phase(serving.inference),
    "strategy_signals": Phase(serving.strategy_signals),
}
