"""How far repeated selections agree: Nogueira's stability, Kendall's tau, Jaccard's index.

Pure statistics of sets and rankings; what they are repeated over (seeds within a fold,
folds within a seed) is the caller's business.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import stats


@dataclass(frozen=True, slots=True)
class NogueiraStability:
    """Stability of M feature sets: 1 if all are equal, about 0 if chosen at random."""

    phi: float
    lower: float
    upper: float


def nogueira(chosen: Bool[np.ndarray, "set feature"], confidence: float) -> NogueiraStability:
    """Nogueira's stability of feature sets with its asymptotic interval.

    Undefined (NaN) for fewer than two sets, and where every set is empty or full.

    Source:
        Nogueira, Sechidis, Brown, JMLR 18 (2018), theorems 4 and 9.
    """
    undefined = NogueiraStability(float("nan"), float("nan"), float("nan"))
    n_sets, d = chosen.shape
    if n_sets < 2 or d == 0:
        return undefined
    z = chosen.astype(np.float64)
    frequency, sizes = z.mean(axis=0), z.sum(axis=1)
    mean_size = float(sizes.mean())
    spread = mean_size / d * (1.0 - mean_size / d)
    if not spread > 0.0:
        return undefined
    disagreement = n_sets / (n_sets - 1) * float(np.mean(frequency * (1.0 - frequency)))
    phi = 1.0 - disagreement / spread
    per_set = (
        z @ frequency / d
        - sizes * mean_size / d**2
        + phi / 2.0 * (2.0 * sizes * mean_size / d**2 - sizes / d - mean_size / d + 1.0)
    ) / spread
    error = 2.0 / n_sets * float(np.sqrt(np.sum((per_set - per_set.mean()) ** 2)))
    reach = float(stats.norm.ppf(0.5 + confidence / 2.0)) * error
    return NogueiraStability(phi, phi - reach, phi + reach)


def jaccard(a: Bool[np.ndarray, " feature"], b: Bool[np.ndarray, " feature"]) -> float:
    """Size of the intersection over that of the union; NaN where both sets are empty."""
    union = int(np.sum(a | b))
    return float(np.sum(a & b)) / union if union else float("nan")


def kendall(a: Float[np.ndarray, " feature"], b: Float[np.ndarray, " feature"]) -> float:
    """Kendall's tau-b over the features both rankings know; NaN where one is constant."""
    return _over_common(stats.kendalltau, a, b)


def spearman(a: Float[np.ndarray, " feature"], b: Float[np.ndarray, " feature"]) -> float:
    """Spearman's correlation over the features both know; NaN where one is constant."""
    return _over_common(stats.spearmanr, a, b)


def pairwise_agreement(
    evidence: pd.DataFrame, chosen: pd.DataFrame, *, within: str
) -> dict[str, float]:
    """Mean Kendall tau and Jaccard index over all pairs of runs that share one index level.

    Args:
        evidence: Runs (index ``fold``, ``seed``) × features; NaN where a run lacks a feature.
        chosen: Same shape: 1.0 chosen, 0.0 not, NaN missing.
        within: The level the two runs of a pair share: ``"fold"`` compares seeds
            (optimisation noise), ``"seed"`` compares folds (change of the market).
    """
    taus: list[float] = []
    indices: list[float] = []
    ranks = evidence.to_numpy(dtype=np.float64)
    picks = chosen.reindex(index=evidence.index).to_numpy(dtype=np.float64)
    for runs in evidence.groupby(level=within).indices.values():
        for a, b in combinations(runs, 2):
            taus.append(kendall(ranks[a], ranks[b]))
            first, second = picks[a], picks[b]
            both = np.isfinite(first) & np.isfinite(second)
            indices.append(jaccard(first[both] > 0.5, second[both] > 0.5))
    return {
        "kendall": _mean(taus),
        "kendall_sd": _spread(taus),
        "jaccard": _mean(indices),
        "jaccard_sd": _spread(indices),
        "n_pairs": float(len(taus)),
    }


def _over_common(
    correlation: Callable[..., Any],
    a: Float[np.ndarray, " feature"],
    b: Float[np.ndarray, " feature"],
) -> float:
    """One of SciPy's rank correlations; its results are made at run time: no checker knows them."""
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 2 or np.ptp(a[known]) == 0.0 or np.ptp(b[known]) == 0.0:
        return float("nan")
    return float(correlation(a[known], b[known]).statistic)


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def _spread(values: Sequence[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")
