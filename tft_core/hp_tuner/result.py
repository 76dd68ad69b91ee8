"""What a study found: the best and the default configuration, every trial, every day."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from tft_core.errors import TuningError
from tft_core.hp_tuner.config import TunerConfig
from tft_core.hp_tuner.objective import DEFAULT_SLOT, dates_key, fold_key, fold_sharpe
from tft_core.hp_tuner.space import TUNABLE, SearchSpace
from tft_core.schema import finite_or_none, float_or_nan, json_value


@dataclass(frozen=True, slots=True)
class Budget:
    """Which limit ended the study."""

    kind: Literal["trials", "time", "none"]
    spent: bool
    """True if all planned trials are finished or, where only time is limited, the time is over."""
    sentence: str


@dataclass(frozen=True, slots=True, eq=False)
class TuningResult:
    """A study as it stands; undefined figures are NaN."""

    best_params: dict[str, Any]
    default_params: dict[str, Any]
    best_number: int
    best_value: float
    """Objective of the best trial: pooled net Sharpe minus its penalty. It is the maximum of
    many noisy values, so it says nothing about the future by itself (``tft_core.evidence``)."""
    default_value: float
    """Objective of trial 0, the default configuration; NaN if it is undefined."""
    trials: pd.DataFrame
    """One row per finished trial: number, state, value, sharpe, sharpe_se, params_*,
    sharpe_fold_*, pruned_reason, seconds, optimiser_steps, attempts."""
    daily: pd.DataFrame
    """Net returns (float64), inner days × trial number, averaged over seeds; NaN where a
    pruned trial was not evaluated."""
    n_finished: int
    n_pruned: int
    budget: Budget
    study_name: str

    @property
    def best_sharpe(self) -> float:
        """Annualised pooled net Sharpe ratio of the best trial, before the penalty."""
        return self._sharpe(self.best_number)

    @property
    def default_sharpe(self) -> float:
        """Annualised pooled net Sharpe ratio of the default configuration."""
        return self._sharpe(DEFAULT_SLOT)

    def _sharpe(self, number: int) -> float:
        values = dict(zip(self.trials["number"], self.trials["sharpe"], strict=True))
        return float(values.get(number, float("nan")))

    def to_dict(self) -> dict[str, Any]:
        """Everything but the daily returns, as JSON-able data; undefined figures are null."""
        return {
            "study_name": self.study_name,
            "best_number": self.best_number,
            "best_params": self.best_params,
            "best_value": finite_or_none(self.best_value),
            "best_sharpe": finite_or_none(self.best_sharpe),
            "default_params": self.default_params,
            "default_value": finite_or_none(self.default_value),
            "default_sharpe": finite_or_none(self.default_sharpe),
            "n_finished": self.n_finished,
            "n_pruned": self.n_pruned,
            "optimiser_steps": int(np.sum(np.asarray(self.trials["optimiser_steps"]))),
            "seconds": float(np.sum(np.asarray(self.trials["seconds"]))),
            "budget": {
                "kind": self.budget.kind,
                "spent": self.budget.spent,
                "sentence": self.budget.sentence,
            },
            "trials": json_value(self.trials.to_dict(orient="records")),
        }


def collect(
    study: optuna.Study,
    owners: dict[int, FrozenTrial],
    config: TunerConfig,
    space: SearchSpace,
    elapsed: float = 0.0,
) -> TuningResult:
    """Read a study's finished trials.

    Args:
        elapsed: Seconds that the call which ran trials took; 0 if none were run.

    Raises:
        TuningError: No trial is complete.
    """
    finished = {slot: owners[slot] for slot in sorted(owners) if owners[slot].state.is_finished()}
    complete = {s: t for s, t in finished.items() if t.state == TrialState.COMPLETE}
    if not complete:
        reasons = sorted({str(t.user_attrs.get("pruned_reason")) for t in finished.values()})
        raise TuningError(
            f"study {study.study_name} must have a complete trial, found {len(finished)} finished "
            f"and none complete; reasons: {'; '.join(reasons[:3]) or 'no trial was run'}"
        )
    failed = [t.user_attrs.get("slot") for t in study.get_trials(states=(TrialState.FAIL,))]
    rows = [
        _row(slot, trial, config, space, 1 + failed.count(slot)) for slot, trial in finished.items()
    ]
    best = max(complete, key=lambda slot: (float_or_nan(complete[slot].value), -slot))
    n_pruned = len(finished) - len(complete)
    default = complete.get(DEFAULT_SLOT)
    return TuningResult(
        best_params=complete[best].user_attrs["params"],
        default_params=space.default_params(),
        best_number=best,
        best_value=float_or_nan(complete[best].value),
        default_value=float("nan") if default is None else float_or_nan(default.value),
        trials=pd.DataFrame(rows).reset_index(drop=True),
        daily=_daily(study, finished, config),
        n_finished=len(finished),
        n_pruned=n_pruned,
        budget=_budget(len(finished), n_pruned, config, elapsed),
        study_name=study.study_name,
    )


def _row(
    slot: int, trial: FrozenTrial, config: TunerConfig, space: SearchSpace, attempts: int
) -> dict[str, Any]:
    attrs = trial.user_attrs
    params = attrs.get("params", {})
    folds = [attrs.get(fold_key(fold)) for fold in range(config.n_folds_per_trial)]
    done = [fold for fold in folds if fold is not None]
    return {
        "number": slot,
        "state": trial.state.name.lower(),
        "value": float_or_nan(trial.value) if trial.state == TrialState.COMPLETE else float("nan"),
        "sharpe": float_or_nan(attrs.get("sharpe")),
        "sharpe_se": float_or_nan(attrs.get("sharpe_se")),
        **{
            # a setting the trial had no use for: NaN, so that numbers stay a column of numbers
            f"params_{name}": params.get(name, None if TUNABLE[name][1] is str else float("nan"))
            for name in space.dimensions
        },
        **{
            f"sharpe_fold_{i}": float("nan")
            if fold is None
            else fold_sharpe([np.asarray(net) for net in fold["net"]])
            for i, fold in enumerate(folds)
        },
        "pruned_reason": attrs.get("pruned_reason"),
        "seconds": sum(fold["seconds"] for fold in done),
        "optimiser_steps": sum(fold["optimiser_steps"] for fold in done),
        "attempts": attempts,
    }


def _daily(
    study: optuna.Study, finished: dict[int, FrozenTrial], config: TunerConfig
) -> pd.DataFrame:
    blocks = []
    for fold in range(config.n_folds_per_trial):
        dates = pd.DatetimeIndex(study.user_attrs.get(dates_key(fold), []), name="date")
        columns = {}
        for slot, trial in finished.items():
            record = trial.user_attrs.get(fold_key(fold))
            columns[slot] = (
                np.full(len(dates), np.nan)
                if record is None
                else np.mean(np.asarray(record["net"], dtype=np.float64), axis=0)
            )
        blocks.append(pd.DataFrame(columns, index=dates, dtype=np.float64))
    daily = pd.concat(blocks)
    if not (daily.index.is_monotonic_increasing and daily.index.is_unique):
        raise TuningError(
            "test windows of the inner folds must follow each other without overlap, found dates "
            "out of order; pass the folds oldest first"
        )
    return daily.rename_axis(columns="trial")


def _budget(n_finished: int, n_pruned: int, config: TunerConfig, elapsed: float) -> Budget:
    counts = f"{n_finished - n_pruned} complete, {n_pruned} pruned"
    if n_finished >= config.n_trials:
        return Budget("trials", True, f"All {config.n_trials} trials are finished: {counts}.")
    is_timed = config.n_trials == math.inf
    planned = "" if is_timed else f" of {config.n_trials}"
    if elapsed < config.time_limit:
        return Budget("none", False, f"{n_finished}{planned} trials are finished so far: {counts}.")
    return Budget(
        "time",
        is_timed,
        f"The time limit of {config.time_limit:.0f} s ended the study after {n_finished}{planned} "
        f"trials ({counts}); running it again goes on from here.",
    )
