"""Are the newest features distributed as in training? Two distances from training's quantiles."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Drift(NamedTuple):
    """Distances per session and feature; NaN where they cannot be measured."""

    psi: Float[np.ndarray, "session feature"]
    """Population stability index Σ_b (q_b − p_b) ln(q_b / p_b), half a row added to each bin:
    weighs what lies where training had little."""
    ks: Float[np.ndarray, "session feature"]
    """Largest |F(x) − F_training(x)| at training's inner quantiles, in [0, 1]: how far the bulk
    has moved. The Kolmogorov–Smirnov distance is at least this, and at most one bin more."""


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
    n_time, n_features, n_bins = len(used), len(quantiles), quantiles.shape[1] - 1
    counts = np.zeros((n_time + 1, n_features, n_bins))
    time_of = np.repeat(np.arange(n_time), used.shape[1])
    flat = used.reshape(-1, n_features)
    has_bins = np.zeros(n_features, dtype=bool)
    for j, edges in enumerate(quantiles):
        inner = edges[1:-1]
        has_bins[j] = bool(np.isfinite(inner).all() and (np.diff(inner) > 0).all())
        if not has_bins[j]:
            continue
        finite = np.isfinite(flat[:, j])
        place = time_of[finite] * n_bins + np.searchsorted(inner, flat[finite, j])
        counts[1:, j] = np.bincount(place, minlength=n_time * n_bins).reshape(n_time, n_bins)
    total = np.cumsum(counts, axis=0)
    ends = rows - first + 1
    inside = total[ends] - total[np.maximum(ends - window, 0)]
    n = inside.sum(axis=2, keepdims=True)
    expected, actual = 1.0 / n_bins, (inside + 0.5) / (n + 0.5 * n_bins)
    psi = np.sum((actual - expected) * np.log(actual / expected), axis=2)
    below = np.cumsum(inside, axis=2)[..., :-1] / np.maximum(n, 1.0)
    ks = np.abs(below - np.arange(1, n_bins) / n_bins).max(axis=2)
    is_known = has_bins & (n[..., 0] >= 5 * n_bins)
    return Drift(np.where(is_known, psi, np.nan), np.where(is_known, ks, np.nan))
