"""Are the newest features distributed as in training? Two distances from training's quantiles."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class Drift(NamedTuple):
    """Distances per session and feature; NaN where they cannot be measured."""

    psi: Float[np.ndarray, "session feature"]
    """Population stability index Σ_b (q_b − p_b) ln(q_b / p_b), half a row added to each bin:
    weighs what lies where training had little."""
    ks: Float[np.ndarray, "session feature"]
    """Largest |F(x) − F_training(x)| at training's inner quantiles, in [0, 1]: how far the bulk
    has moved. The Kolmogorov–Smirnov distance is at least this, and at most one bin more."""


def has_bins(
    quantiles: Float[np.ndarray, "feature quantile"],
) -> Bool[np.ndarray, " feature"]:
    """True for features whose training quantiles rise; an indicator or a flag has ties."""
    inner = quantiles[:, 1:-1]
    return np.all(np.isfinite(inner), axis=1) & np.all(np.diff(inner, axis=1) > 0, axis=1)


def drift_by_session(
    values: Float[np.ndarray, "time asset feature"],
    quantiles: Float[np.ndarray, "feature quantile"],
    rows: np.ndarray,
    window: int,
) -> Drift:
    """Distances of each feature over the ``window`` rows that end at ``rows``.

    NaN for a feature without enough values, or whose training quantiles have ties (an
    indicator, a calendar flag): it has no such bins.

    Args:
        quantiles: Of the feature over the training rows, equally spaced, both ends included.

    As of:
        Session i reads rows ≤ ``rows[i]``.
    """
    first = max(0, int(rows.min()) - window + 1)
    used = values[first : int(rows.max()) + 1]
    n_bins = quantiles.shape[1] - 1
    inner = quantiles[:, 1:-1]
    is_binned = has_bins(quantiles)
    known = np.where(np.isfinite(used) & is_binned, used, np.nan)
    # how many assets lie above no edge at all, above the first one, …, above the last one
    above = np.stack(
        [np.isfinite(known).sum(axis=1), *((known > edge).sum(axis=1) for edge in inner.T)], axis=2
    )
    counts = np.zeros((len(used) + 1, len(quantiles), n_bins))
    counts[1:, :, :-1] = above[..., :-1] - above[..., 1:]
    counts[1:, :, -1] = above[..., -1]
    total = np.cumsum(counts, axis=0)
    ends = rows - first + 1
    inside = total[ends] - total[np.maximum(ends - window, 0)]
    n = inside.sum(axis=2, keepdims=True)
    expected, actual = 1.0 / n_bins, (inside + 0.5) / (n + 0.5 * n_bins)
    psi = np.sum((actual - expected) * np.log(actual / expected), axis=2)
    below = np.cumsum(inside, axis=2)[..., :-1] / np.maximum(n, 1.0)
    ks = np.abs(below - np.arange(1, n_bins) / n_bins).max(axis=2)
    is_known = is_binned & (n[..., 0] >= 5 * n_bins)
    return Drift(np.where(is_known, psi, np.nan), np.where(is_known, ks, np.nan))
