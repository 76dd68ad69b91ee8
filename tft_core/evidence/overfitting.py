"""Probability of backtest overfitting: does the best trial in one half lead in the other?"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from tft_core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class OverfittingResult:
    """Outcome of combinatorially symmetric cross-validation; NaN where it is undefined."""

    probability: float
    """Share of splits in which the in-sample best lands in the lower half out of sample."""
    loss_probability: float
    """Share of splits in which the in-sample best has a negative Sharpe ratio out of sample."""
    n_splits: int
    n_trials: int

    @property
    def sentence(self) -> str:
        if math.isnan(self.probability):
            return (
                f"The probability of overfitting is undefined: {self.n_trials} complete trials "
                "and these few days cannot be split."
            )
        return (
            f"In {self.probability:.0%} of {self.n_splits:,} ways to halve the study's days, the "
            "best trial of one half fell below the middle of the other (50% is what choosing "
            f"among noise gives); in {self.loss_probability:.0%} it lost money there."
        )


def overfitting_probability(daily: pd.DataFrame, *, n_blocks: int = 16) -> OverfittingResult:
    """PBO by CSCV over the stored daily returns of a study's complete trials.

    The days are cut into ``n_blocks`` successive blocks; every half of them is once the
    sample in which the best trial is chosen, and the other half where it is ranked.

    Args:
        daily: Net daily returns, days × trials; trials with a NaN (pruned) are left out.
        n_blocks: Even number of blocks; 16 gives 12,870 splits.

    Source:
        Bailey, Borwein, López de Prado & Zhu 2017, "The Probability of Backtest Overfitting".
    """
    if n_blocks < 2 or n_blocks % 2 or n_blocks > 20:
        raise ConfigError(f"n_blocks must be an even number from 2 to 20, found {n_blocks}")
    values = daily.dropna(axis=1).to_numpy(dtype=np.float64)
    n_days, n_trials = values.shape
    if n_trials < 2 or n_days < 2 * n_blocks:
        return OverfittingResult(math.nan, math.nan, 0, n_trials)
    blocks = np.array_split(values, n_blocks)
    days = np.array([len(block) for block in blocks], dtype=np.float64)
    sums = np.array([block.sum(axis=0) for block in blocks])
    squares = np.array([(block**2).sum(axis=0) for block in blocks])
    halves = np.zeros((math.comb(n_blocks, n_blocks // 2), n_blocks))
    for row, chosen in enumerate(combinations(range(n_blocks), n_blocks // 2)):
        halves[row, list(chosen)] = 1.0
    inside = _sharpe_of(halves, days, sums, squares)
    outside = _sharpe_of(1.0 - halves, days, sums, squares)
    best = inside.argmax(axis=1)
    of_best = np.take_along_axis(outside, best[:, None], axis=1)
    # middle rank among ties, so that clones of the best are not counted as beating it
    rank = (outside < of_best).sum(axis=1) + ((outside == of_best).sum(axis=1) + 1) / 2
    relative = rank / (n_trials + 1)
    return OverfittingResult(
        probability=float(np.mean(relative <= 0.5)),
        loss_probability=float(np.mean(of_best < 0.0)),
        n_splits=len(halves),
        n_trials=n_trials,
    )


def _sharpe_of(
    chosen: np.ndarray, days: np.ndarray, sums: np.ndarray, squares: np.ndarray
) -> np.ndarray:
    """Sharpe ratio per day [split, trial] of the chosen blocks; 0 where there is no spread."""
    count = (chosen @ days)[:, None]
    mean = chosen @ sums / count
    variance = np.maximum(chosen @ squares / count - mean**2, 0.0)
    flat = variance <= 1e-14 * np.maximum(chosen @ squares / count, 1e-300)
    return np.where(flat, 0.0, mean / np.sqrt(np.where(flat, 1.0, variance)))
