"""What luck alone would look like: shadow thresholds and the test of features against shadows.

A shadow is a time-shifted copy of a real column that the network saw like any feature. With
no signal a feature is exchangeable with a shadow, and that is the only null used here. The
same shadow column must go by the same name in every seed and fold, so that it overfits the
same accident every time, as a useless feature does.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy import stats

_PERMUTATIONS, _AT_ONCE = 5_000, 500


def shadow_threshold(shadows: Float[np.ndarray, " shadow"], quantile: float) -> float:
    """The value that a feature like a shadow exceeds with probability at most 1 − quantile.

    This is the k-th largest shadow with k = floor((1 − quantile)(n + 1)). With fewer than
    1/(1 − quantile) − 1 shadows no such value exists and the largest one is taken. NaN
    without shadows.
    """
    known = np.sort(shadows[np.isfinite(shadows)])
    if not len(known):
        return float("nan")
    # the margin keeps 0.05 * 40 from becoming 1.9999999 and costing a whole rank
    k = math.floor((1.0 - quantile) * (len(known) + 1) + 1e-9)
    return float(known[-max(k, 1)])


def chance_p_value(
    features: Float[np.ndarray, " feature"], shadows: Float[np.ndarray, " shadow"], *, seed: int
) -> float:
    """Probability that features outrank shadows this clearly if labels were drawn at random.

    Savage (exponential) scores weigh the top ranks, where a few true features would stand;
    the label permutation distribution is drawn 5,000 times. With n features and m shadows
    and t true features the p value can't fall much below (n / (n + m)) ** t: more shadows
    are the only remedy. NaN without features or shadows.

    Source:
        Savage 1956; Hájek, Šidák & Sen 1999, section 4.1 (locally best for scale of
        exponential tails).
    """
    features, shadows = features[np.isfinite(features)], shadows[np.isfinite(shadows)]
    n, m = len(features), len(shadows)
    if not n or not m:
        return float("nan")
    total = n + m
    savage = np.cumsum(1.0 / np.arange(total, 0, -1))
    pooled = np.concatenate([features, shadows])
    low = stats.rankdata(pooled, method="min").astype(int) - 1
    high = stats.rankdata(pooled, method="max").astype(int)
    running = np.concatenate([[0.0], np.cumsum(savage)])
    scores = (running[high] - running[low]) / (high - low)  # tied values share their mean
    observed = scores[n:].sum()
    rng = np.random.default_rng(seed)
    drawn = np.concatenate(
        [
            # m ranks at random: where the m smallest of n + m uniform numbers stand
            scores[np.argpartition(rng.random((_AT_ONCE, total)), m - 1, axis=1)[:, :m]].sum(axis=1)
            for _ in range(_PERMUTATIONS // _AT_ONCE)
        ]
    )
    return float((1 + np.sum(drawn <= observed + 1e-9)) / (1 + _PERMUTATIONS))


def smallest_p_value(n_features: int, n_shadows: int, n_true: int) -> float:
    """Least p value ``n_true`` perfect features could reach: none of the top is a shadow."""
    ranks = np.arange(n_true)
    return float(np.prod((n_features - ranks) / (n_features + n_shadows - ranks)))


def mean_interval(
    values: Float[np.ndarray, "repeat feature"], confidence: float
) -> tuple[
    Float[np.ndarray, " feature"], Float[np.ndarray, " feature"], Float[np.ndarray, " feature"]
]:
    """Mean over repeats and its Student interval per feature; NaN bounds below two repeats."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    safe = np.where(known, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(count > 0, safe.sum(axis=0) / count, np.nan)
        squares = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0)
        error = np.where(count > 1, np.sqrt(squares / (count - 1) / count), np.nan)
    reach = stats.t.ppf(0.5 + confidence / 2.0, np.maximum(count - 1, 1)) * error
    return mean, mean - reach, mean + reach
