"""Which hyper-parameters told good trials from the others, and whether that beats chance.

A few dozen trials always make some parameter look important, so each figure comes with what
the same trials show when their values are dealt out at random.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from tft_core.hp_tuner.space import Choice, SearchSpace

MIN_TRIALS = 10
"""Fewer complete trials say nothing about any parameter."""
_TOP_TRIALS = 5
"""Trials that the estimator should have in its best group; 10 % of the study if that is more."""
N_SHUFFLES = 100
CHANCE_QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class Importance:
    """One hyper-parameter's share in telling the best trials apart; shares add up to 1."""

    name: str
    share: float
    chance: float
    """Share that 95 % of studies with shuffled values stay below."""

    @property
    def is_above_chance(self) -> bool:
        return self.share > self.chance


def importances(trials: pd.DataFrame, space: SearchSpace, *, seed: int = 0) -> list[Importance]:
    """PED-ANOVA importances of a study's complete trials, largest first.

    Empty where fewer than ``MIN_TRIALS`` are complete or the space has one dimension: nothing
    can be said. Pruned trials have no value to compare and are left out.

    Args:
        trials: ``TuningResult.trials``.
        seed: Of the shuffles that give the level of chance.

    Source:
        Watanabe, Bansal & Hutter 2023 (PED-ANOVA), with conditional parameters as in Optuna 5.
    """
    complete = trials[trials["state"] == "complete"]
    names = [name for name in space.dimensions if complete[f"params_{name}"].nunique() > 1]
    if len(complete) < MIN_TRIALS or len(names) < 2:
        return []
    params = [
        {n: row[f"params_{n}"] for n in names if not pd.isna(row[f"params_{n}"])}
        for row in complete.to_dict(orient="records")
    ]
    values = complete["value"].to_numpy(dtype=np.float64)
    found = _shares(params, values, space)
    rng = np.random.default_rng(seed)
    drawn = pd.DataFrame(
        [_shares(params, rng.permutation(values), space) for _ in range(N_SHUFFLES)]
    )
    chance = drawn.quantile(CHANCE_QUANTILE)
    ranked = sorted(found, key=lambda name: -found[name])
    return [Importance(name, found[name], float(chance[name])) for name in ranked]


def _shares(params: list[dict], values: np.ndarray, space: SearchSpace) -> dict[str, float]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # one study per shuffle is no news
    try:
        study = optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
    kinds = {name: _distribution(space, name) for drawn in params for name in drawn}
    study.add_trials(
        optuna.create_trial(
            params=_plain(drawn), distributions={n: kinds[n] for n in drawn}, value=float(value)
        )
        for drawn, value in zip(params, values, strict=True)
    )
    quantile = float(np.clip(_TOP_TRIALS / len(params), 0.1, 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
        return get_param_importances(study, evaluator=evaluator)


def _distribution(space: SearchSpace, name: str) -> BaseDistribution:
    dimension = space.dimensions[name]
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _plain(drawn: dict) -> dict:
    """Values as a distribution knows them: numbers of a column may have become NumPy's."""
    return {n: v.item() if isinstance(v, np.generic) else v for n, v in drawn.items()}
