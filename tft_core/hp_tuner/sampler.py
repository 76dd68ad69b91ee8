"""A TPE sampler whose random numbers follow from (seed, slot) alone.

Optuna's sampler draws from one stream, so a resumed study would go on with other numbers than
an uninterrupted one. Here each trial gets a stream of its own: what it draws depends on the
seed, its slot and the finished trials it can see. With one worker those are always the same.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState


class SlotSampler(BaseSampler):
    """One freshly seeded ``TPESampler`` per trial."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._tpe = TPESampler(seed=seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        # a trial without a slot is handed back unsampled
        entropy = (self._seed, trial.user_attrs.get("slot", 0))
        self._tpe = TPESampler(seed=int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        self._tpe.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._tpe.after_trial(study, trial, state, values)
