"""Settings of a study: its budget, its objective and how it is run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tft_core.errors import ConfigError
from tft_core.limits import require_at_least

_AT_LEAST = {
    "n_trials": 1,
    "n_folds_per_trial": 1,
    "n_seeds_per_trial": 1,
    "pretrain_epochs": 0,
    "finetune_epochs": 1,
    "n_jobs": 1,
    "retune_every": 1,
    "inner_test_sessions": 10,
    "prune_startup_trials": 1,
    "prune_warmup_folds": 1,
    "heartbeat_seconds": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TunerConfig:
    """What one study may spend, and what it maximises."""

    n_trials: int | float = 40
    """Finished trials (complete and pruned) that a study ends with, over all its resumes;
    ``inf`` leaves the time as the only limit."""
    timeout_seconds: float | None = 14400.0
    """Wall time of one call of ``tune``; ``None`` or ``inf`` is no limit."""
    n_folds_per_trial: int = 3
    """Newest inner walk-forward folds each trial is scored on."""
    seed: int = 42
    n_seeds_per_trial: int = 1
    pretrain_epochs: int = 15
    finetune_epochs: int = 25
    se_penalty: float = 0.5
    """k: the objective is the Sharpe ratio minus k of its standard errors."""
    n_jobs: int = 1
    """Worker processes; more than one gives up exact repeatability of the trials."""
    retune_every: int = 4
    """A study is run at the first fold, every this many folds, and at ``live``."""
    inner_test_sessions: int = 63
    prune_startup_trials: int = 4
    """Complete trials before the first one may be pruned."""
    prune_warmup_folds: int = 1
    """A trial is not pruned before this many inner folds and one more."""
    heartbeat_seconds: int = 60
    """How often a worker reports that it lives; twice this without one is death."""
    space: Mapping[str, Any] = field(default_factory=dict)
    """Search space as written in ``tft.toml``; empty is the plan's (``PLAN_SPACE``)."""

    def __post_init__(self) -> None:
        require_at_least(self, "tuning", **_AT_LEAST)
        if self.n_trials != math.inf and self.n_trials != int(self.n_trials):
            raise ConfigError(
                f"tuning.n_trials must be a whole number or inf, found {self.n_trials:g}"
            )
        limit = self.timeout_seconds
        if limit is not None and not limit > 0.0:
            raise ConfigError(
                f"tuning.timeout_seconds must be positive, found {limit:g}; "
                "write inf (or None in code) for no limit"
            )
        if self.n_trials == self.time_limit == math.inf:
            raise ConfigError(
                "a study must have a limit, found neither tuning.n_trials nor "
                "tuning.timeout_seconds; set one of them"
            )
        if not 0.0 <= self.se_penalty <= 3.0:
            raise ConfigError(f"tuning.se_penalty must lie in [0, 3], found {self.se_penalty:g}")
        if self.n_jobs > self.n_trials:
            raise ConfigError(
                f"tuning.n_jobs must not exceed n_trials ({self.n_trials}), found {self.n_jobs}"
            )

    @property
    def time_limit(self) -> float:
        """Wall time of one call in seconds, infinite where there is no limit."""
        return math.inf if self.timeout_seconds is None else self.timeout_seconds

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds, the same for every trial so that trials differ by parameters only."""
        return tuple(self.seed + i for i in range(self.n_seeds_per_trial))

    def identity(self) -> dict[str, Any]:
        """The settings that change what a trial's value means; budgets and machinery do not."""
        return {
            name: getattr(self, name)
            for name in (
                "n_folds_per_trial",
                "seed",
                "n_seeds_per_trial",
                "pretrain_epochs",
                "finetune_epochs",
                "se_penalty",
                "inner_test_sessions",
                "prune_startup_trials",
                "prune_warmup_folds",
            )
        }
