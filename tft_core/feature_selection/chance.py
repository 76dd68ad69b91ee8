"""What luck alone would look like: shadow thresholds and the test of features against shadows.

A shadow is a time-shifted copy of a real column that the network saw like any feature. With
no signal a feature is exchangeable with a shadow, and that is the only null used here. The
same shadow column must go by the same name in every seed and fold, so that it overfits the
same accident every time, as a useless feature does.
"""

import math

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

MIN_SHADOWS = 8
"""With fewer a tail can't be told."""
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

    For every k up to half of all inputs: how unlikely is it that so many of the top k are
    features (hypergeometric tail)? The least of these is the statistic, so it does not matter
    how many true features there are; its null distribution is that of 5,000 permuted
    labellings, so the level holds if useless features are like shadows. With n features, m
    shadows and t true features the p value can't fall much below (n / (n + m)) ** t: more
    shadows are the only remedy. NaN without features or shadows.

    Source:
        Eden, Lipson, Yogev, Yakhini, PLoS Computational Biology 3 (2007): the minimum
        hypergeometric statistic of a ranked list.
    """
    features, shadows = features[np.isfinite(features)], shadows[np.isfinite(shadows)]
    n, m = len(features), len(shadows)
    if not n or not m:
        return float("nan")
    n_top = max((n + m) // 2, 1)
    top = np.arange(1, n_top + 1)
    # row c: log probability of c or more features among the top k
    log_tail = stats.hypergeom.logsf(np.arange(-1, n_top)[:, None], n + m, n, top[None, :])
    is_feature = np.concatenate([np.ones(n, dtype=np.int64), np.zeros(m, dtype=np.int64)])
    # of equal evidence the shadow stands first
    order = np.lexsort((is_feature, -np.concatenate([features, shadows])))

    def least(labels: Int[np.ndarray, "draw input"]) -> Float[np.ndarray, " draw"]:
        counts = np.cumsum(labels[:, :n_top], axis=1)
        return log_tail[counts, top - 1].min(axis=1)

    observed = float(least(is_feature[order][None])[0])
    rng = np.random.default_rng(seed)
    labels = np.tile(is_feature, (_AT_ONCE, 1))
    drawn = np.concatenate(
        [least(rng.permuted(labels, axis=1)) for _ in range(_PERMUTATIONS // _AT_ONCE)]
    )
    return float((1 + np.sum(drawn <= observed + 1e-9)) / (1 + _PERMUTATIONS))


def tail_p_values(
    features: Float[np.ndarray, " feature"], shadows: Float[np.ndarray, " shadow"]
) -> Float[np.ndarray, " feature"]:
    """Probability that a shadow's evidence reaches each feature's.

    (1 + number of shadows at or above) / (1 + n) up to the shadows' upper quartile u. Beyond it
    too few shadows are left to count, and the exceedances over u are taken as exponential:
    P(> t) = P(> u) · exp(−(t − u)/mean excess), a generalised Pareto tail of shape 0. Where
    evidence has a heavier tail these are too small (``docs/EXPERIMENTS.md``), so no verdict
    rests on them alone. NaN where evidence is missing; all NaN with fewer than 8 shadows.

    Source:
        Knijnenburg, Wessels, Reinders, Shmulevich, Bioinformatics 25 (2009): fewer
        permutations, more accurate p values.
    """
    known = np.sort(shadows[np.isfinite(shadows)])
    out = np.full(len(features), np.nan)
    n = len(known)
    if n < MIN_SHADOWS:
        return out
    here = np.isfinite(features)
    n_above = n - np.searchsorted(known, features[here], side="left")
    p = (1.0 + n_above) / (1.0 + n)
    n_tail = n // 4
    u = float(known[-n_tail - 1])
    excess = float(np.mean(known[-n_tail:] - u))
    if excess > 0.0:  # no spread above u: the count is all there is
        tail = (1.0 + n_tail) / (1.0 + n) * np.exp(-(features[here] - u) / excess)
        p = np.where(features[here] > u, np.minimum(p, tail), p)
    out[here] = p
    return out


def q_values(p: Float[np.ndarray, " feature"]) -> Float[np.ndarray, " feature"]:
    """Least false discovery rate at which each feature is among the discoveries; NaN stays.

    Source:
        Benjamini & Hochberg 1995.
    """
    out = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        out[known] = stats.false_discovery_control(p[known], method="bh")
    return out


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
