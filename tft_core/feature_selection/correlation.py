"""Pairwise-complete correlation of many features over many rows, and what follows from it.

Only the mathematics of "these two say the same" belongs here; which feature is dropped
for it, and how that is told, is ``prefilter``'s job.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

MIN_PAIR_ROWS = 30
"""A correlation on fewer common rows is undefined."""

_CHUNK_ROWS = 8_192
_DECIMALS = 6
"""Correlations are compared at this many decimals, well above float32 round-off."""


def pairwise_correlation(
    values: Float[np.ndarray, "row feature"], *, clip: float
) -> tuple[Float[np.ndarray, "feature feature"], Float[np.ndarray, "feature feature"]]:
    """Pearson's r over the rows where both features are finite, and the number of such rows.

    Columns are standardised over their own finite rows and clipped, then four masked matrix
    products per block of rows give every pair at once. Undefined pairs (too few common rows,
    or one of them constant there) are NaN.

    Args:
        clip: Standard deviations at which a standardised value is clipped.

    Returns:
        r (rounded to 6 decimals, symmetric) and the common row counts.
    """
    n_features = values.shape[1]
    mean, std = _finite_moments(values)
    both = np.zeros((n_features, n_features))
    first, second, cross = both.copy(), both.copy(), both.copy()
    for start in range(0, len(values), _CHUNK_ROWS):
        block = values[start : start + _CHUNK_ROWS].astype(np.float64)
        valid = np.isfinite(block)
        scaled = np.clip((block - mean) / std, -clip, clip)
        z = np.where(valid & np.isfinite(scaled), scaled, 0.0).astype(np.float32)
        m = valid.astype(np.float32)
        both += m.T @ m
        first += z.T @ m  # sum of feature i over the rows where j is known
        second += (z * z).T @ m
        cross += z.T @ z
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = first / both
        variance = second / both - centre**2
        variance[variance < 1e-6] = np.nan
        r = (cross / both - centre * centre.T) / np.sqrt(variance * variance.T)
    r[both < MIN_PAIR_ROWS] = np.nan
    r = np.clip((r + r.T) / 2.0, -1.0, 1.0)
    return np.round(r, _DECIMALS), both


def _finite_moments(
    values: Float[np.ndarray, "row feature"],
) -> tuple[Float[np.ndarray, " feature"], Float[np.ndarray, " feature"]]:
    count = np.zeros(values.shape[1])
    total = np.zeros(values.shape[1])
    for start in range(0, len(values), _CHUNK_ROWS):
        block = values[start : start + _CHUNK_ROWS].astype(np.float64)
        valid = np.isfinite(block)
        count += valid.sum(axis=0)
        total += np.where(valid, block, 0.0).sum(axis=0)
    mean = total / np.maximum(count, 1.0)
    squares = np.zeros(values.shape[1])
    for start in range(0, len(values), _CHUNK_ROWS):
        block = values[start : start + _CHUNK_ROWS].astype(np.float64) - mean
        squares += (np.where(np.isfinite(block), block, 0.0) ** 2).sum(axis=0)
    std = np.sqrt(squares / np.maximum(count, 1.0))
    return mean, np.where(std > 0.0, std, np.nan)


def medoid_cover(
    r: Float[np.ndarray, "feature feature"],
    common_rows: Float[np.ndarray, "feature feature"],
    threshold: float,
) -> Int[np.ndarray, " feature"]:
    """For each feature the index of the one that stands for it: itself if it is kept.

    The feature that explains most of its still undecided neighbours is kept, its neighbours
    are dropped for it, and so on. So no two kept features exceed the threshold, and every
    dropped one exceeds it with the very feature that stands for it; a chain of neighbours
    never ends in a stand-in that is a stranger. Ties go to coverage, then to the lower index:
    hand the columns in a canonical order.

    Centrality of i is the sum over neighbours j of |r_ij| times the share of j's rows on
    which i is known too, so a sparse feature does not stand for a full one.
    """
    rows_of = np.diag(common_rows)
    linked = (np.abs(np.nan_to_num(r)) > threshold) & ~np.eye(len(r), dtype=bool)
    share = common_rows / np.maximum(rows_of[None, :], 1.0)
    pull = np.where(linked, np.abs(np.nan_to_num(r)) * share, 0.0)
    stand_in = np.arange(len(r))
    undecided = np.any(linked, axis=1)
    while undecided.any():
        centrality = np.round(pull @ undecided, 9)
        order = np.lexsort((np.arange(len(r)), -rows_of, -centrality))
        centre = order[undecided[order]][0]
        followers = undecided & linked[centre]
        stand_in[followers] = centre
        undecided &= ~followers
        undecided[centre] = False
    return stand_in


def correlation_clusters(
    r: Float[np.ndarray, "feature feature"], threshold: float
) -> list[list[int]]:
    """Average-linkage clusters of |r| above a threshold, two members or more, medoid first."""
    if len(r) < 2:
        return []
    distance = 1.0 - np.abs(np.nan_to_num(r))
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="average")
    label = fcluster(tree, t=1.0 - threshold, criterion="distance")
    clusters = []
    for one in np.unique(label):
        members: Bool[np.ndarray, " feature"] = label == one
        index = np.flatnonzero(members)
        if len(index) > 1:
            closeness = np.round(distance[np.ix_(index, index)].sum(axis=1), 9)
            medoid = int(index[np.argmin(closeness)])
            clusters.append([medoid, *(int(i) for i in index if i != medoid)])
    return sorted(clusters)
