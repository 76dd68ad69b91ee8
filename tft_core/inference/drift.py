"""Are the newest features distributed as in training? The population stability index."""

import numpy as np
from jaxtyping import Float


def stability_by_session(
    values: Float[np.ndarray, "time asset feature"],
    quantiles: Float[np.ndarray, "feature quantile"],
    rows: np.ndarray,
    window: int,
) -> Float[np.ndarray, "session feature"]:
    """Population stability index of each feature over the ``window`` rows that end at ``rows``.

    NaN for a feature without enough values, or whose training quantiles have ties (an
    indicator, a calendar flag): it has no such bins.

    Args:
        quantiles: Of the feature over the training rows, equally spaced, both ends included.

    As of:
        Session i reads rows ≤ ``rows[i]``.

    Source:
        PSI = Σ_b (q_b − p_b) ln(q_b / p_b), with half a row added to each bin.
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
    figures = np.sum((actual - expected) * np.log(actual / expected), axis=2)
    return np.where(has_bins & (n[..., 0] >= 5 * n_bins), figures, np.nan)


def median_psi(
    values: Float[np.ndarray, "row feature"],
    quantiles: Float[np.ndarray, "feature quantile"],
) -> float:
    """Median index over the features of some rows; NaN if none is known."""
    figures = stability_by_session(values[None], quantiles, np.array([0]), 1)[0]
    return float(np.nanmedian(figures)) if np.isfinite(figures).any() else float("nan")
