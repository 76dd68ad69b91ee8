"""One trial: evaluate it on each inner fold, prune it if it lags, score the pooled record.

Every finished fold is stored with the trial, so that a trial whose worker was killed goes
on where it stopped.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import optuna
import pandas as pd

from tft_core.errors import TrainingError, TuningError
from tft_core.hp_tuner.config import TunerConfig
from tft_core.hp_tuner.space import SearchSpace
from tft_core.metrics import sharpe_ann, sharpe_se_ann
from tft_core.schema import finite_or_none

DEFAULT_SLOT = 0
"""The default configuration is always the first trial."""


@dataclass(frozen=True, slots=True, eq=False)
class DailyRecord:
    """Net portfolio returns of one inner test window, made by one training run."""

    dates: pd.DatetimeIndex
    net: np.ndarray
    """Daily returns (float64) after costs, as fractions of capital."""
    optimiser_steps: int

    def __post_init__(self) -> None:
        if len(self.dates) != len(self.net) or not len(self.net):
            raise TuningError(
                f"an inner record must hold one return per date, found {len(self.dates)} dates "
                f"and {len(self.net)} returns"
            )
        if not (self.dates.is_monotonic_increasing and self.dates.is_unique):
            raise TuningError("dates of an inner record must increase, found them out of order")
        if not np.isfinite(self.net).all():
            bad = self.dates.date[int(np.argmin(np.isfinite(self.net)))]
            raise TuningError(f"net returns of an inner record must be finite, found NaN on {bad}")


Evaluate = Callable[[dict[str, Any], int, int], DailyRecord]
"""``evaluate(params, inner_fold_index, seed)``: train on the inner fold, walk its test window."""


class Interrupted(Exception):
    """The trial was told to stop between two folds; what it has is stored."""


@dataclass(frozen=True, slots=True)
class Score:
    """Objective of one trial over the pooled inner days."""

    value: float
    """Mean over seeds of the Sharpe ratio, minus ``se_penalty`` standard errors."""
    sharpe: float
    sharpe_se: float


def score(nets: list[list[np.ndarray]], se_penalty: float) -> Score:
    """Score daily returns given per fold and seed: pooled over folds, averaged over seeds.

    The standard error is the mean of the seeds' own: they trade the same days, so averaging
    over seeds does not make the period longer.
    """
    per_seed = [np.concatenate(parts) for parts in zip(*nets, strict=True)]
    sharpe = float(np.mean([sharpe_ann(net) for net in per_seed]))
    error = float(np.mean([sharpe_se_ann(net) for net in per_seed]))
    return Score(sharpe - se_penalty * error, sharpe, error)


def run_trial(
    trial: optuna.trial.Trial,
    evaluate: Evaluate,
    config: TunerConfig,
    space: SearchSpace,
    should_stop: Callable[[], bool],
) -> float:
    """Evaluate one trial to its end and return its objective.

    Raises:
        optuna.TrialPruned: It lags behind, diverged, or has no defined objective; the reason
            is stored under ``pruned_reason``.
        Interrupted: ``should_stop`` said so between two folds.
        TuningError: The objective returned dates that differ from the other trials'.
    """
    stored = trial.user_attrs  # read once: each access asks the database
    is_default = stored["slot"] == DEFAULT_SLOT
    params = space.suggest(trial)
    trial.set_user_attr("params", params)
    nets: list[list[np.ndarray]] = []
    for fold in range(config.n_folds_per_trial):
        record = stored.get(fold_key(fold))
        if record is None:
            if should_stop() and not is_default:
                raise Interrupted
            record = _evaluate_fold(trial, evaluate, params, fold, config.seeds)
            trial.set_user_attr(fold_key(fold), record)
        nets.append([np.asarray(net) for net in record["net"]])
        _report(trial, fold, nets, config)
        is_last = fold == config.n_folds_per_trial - 1
        if not is_last and not is_default and trial.should_prune():
            _prune(trial, _lag_reason(trial, fold, config, nets))
    result = score(nets, config.se_penalty)
    trial.set_user_attr("sharpe", finite_or_none(result.sharpe))
    trial.set_user_attr("sharpe_se", finite_or_none(result.sharpe_se))
    if not np.isfinite(result.value):
        _prune(trial, "undefined: its inner returns have no spread (it never traded)")
    return result.value


def fold_key(fold: int) -> str:
    """Name under which a trial stores an inner fold's record."""
    return f"fold:{fold}"


def dates_key(fold: int) -> str:
    """Name under which a study stores an inner fold's dates, common to all its trials."""
    return f"dates:{fold}"


def fold_sharpe(nets: list[np.ndarray]) -> float:
    """Sharpe ratio of one inner fold, averaged over seeds."""
    return float(np.mean([sharpe_ann(net) for net in nets]))


def _evaluate_fold(
    trial: optuna.trial.Trial,
    evaluate: Evaluate,
    params: dict[str, Any],
    fold: int,
    seeds: tuple[int, ...],
) -> dict[str, Any]:
    started = time.monotonic()
    try:
        records = [evaluate(dict(params), fold, seed) for seed in seeds]
    except TrainingError as error:  # a finding about these parameters, not about the study
        _prune(trial, f"training failed in inner fold {fold}: {error}")
    for record in records:
        _require_common_dates(trial.study, fold, record.dates)
    return {
        "net": [record.net.tolist() for record in records],
        "optimiser_steps": sum(record.optimiser_steps for record in records),
        "seconds": time.monotonic() - started,
    }


def _require_common_dates(study: optuna.Study, fold: int, dates: pd.DatetimeIndex) -> None:
    found = [day.date().isoformat() for day in dates]
    common = study.user_attrs.get(dates_key(fold))
    if common is None:
        study.set_user_attr(dates_key(fold), found)
    elif common != found:
        raise TuningError(
            f"inner fold {fold} must have the same dates in every trial "
            f"({common[0]} to {common[-1]}, {len(common)} days), found {found[0]} to {found[-1]}, "
            f"{len(found)} days; burn the longest seq_len of the space in before the test window"
        )


def _report(
    trial: optuna.trial.Trial, fold: int, nets: list[list[np.ndarray]], config: TunerConfig
) -> None:
    """Tell the pruner: running means for the median rule, each fold's own for Wilcoxon's.

    The median pruner compares the best value a trial ever reported. So running means of the
    warm-up folds, which are mostly noise, are not reported.
    """
    if uses_wilcoxon(config):
        value = fold_sharpe(nets[-1])
    elif fold < config.prune_warmup_folds:
        return
    else:
        value = _running_mean(nets)
    if np.isfinite(value):
        trial.report(value, fold)


def uses_wilcoxon(config: TunerConfig) -> bool:
    """True where there are folds enough for a signed-rank test to reach its level."""
    return config.n_folds_per_trial >= 5


def _lag_reason(
    trial: optuna.trial.Trial, fold: int, config: TunerConfig, nets: list[list[np.ndarray]]
) -> str:
    done = f"after {fold + 1} of {config.n_folds_per_trial} inner folds"
    if uses_wilcoxon(config):
        return f"worse than the best trial {done} (Wilcoxon signed rank, p < 0.1)"
    complete = trial.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    peers = [t.intermediate_values[fold] for t in complete if fold in t.intermediate_values]
    return (
        f"mean Sharpe {_running_mean(nets):.2f} {done} lies below the median "
        f"{np.median(peers):.2f} of {len(peers)} complete trials"
    )


def _running_mean(nets: list[list[np.ndarray]]) -> float:
    return float(np.mean([fold_sharpe(parts) for parts in nets]))


def _prune(trial: optuna.trial.Trial, reason: str) -> NoReturn:
    trial.set_user_attr("pruned_reason", reason)
    raise optuna.TrialPruned(reason)
