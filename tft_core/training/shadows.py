"""Shadow features: copies of real ones without a tie to the label, which say what luck looks like.

Only how they are made belongs here; what a network makes of them is measured in ``exploration``
and judged in ``feature_selection``.
"""

import hashlib

import numpy as np
from jaxtyping import Bool, Int64

from tft_core.errors import TrainingError
from tft_core.sequences import RowTable

SHADOW_PREFIX = "shadow::"
SHIFTS = 4
"""Most shadows of one feature."""


def with_shadows(rows: RowTable, val_rows: Bool[np.ndarray, " row"], n_shadows: int) -> RowTable:
    """Append circularly time-shifted copies of real features.

    A shadow has its original's distribution and memory but no tie to the label. Rows before
    the validation are shifted among themselves, later ones among themselves, so nothing
    crosses into the training rows; a shadow is shifted by as many sessions in all assets with
    periods about as long, so its cross-section stays real. Which features are copied and how
    far they are shifted follows from their names and the power of two below the period's
    length: a shadow meets the same labels in every seed and in folds that overlap, so that it
    overfits the same accident every time, as a useless feature does. (A shift by a share of the
    length would make new accidents in every fold, which average out, and the null too narrow.)

    Args:
        n_shadows: How many; every feature is copied once before one is copied again, at
            another shift, and at most ``SHIFTS`` times.
    """
    count = min(n_shadows, SHIFTS * rows.n_features)
    # copy 0 of every feature in the order of its draw, then copy 1, …
    draws = np.array(
        [_draw_of(_copy(name, k)) for k in range(SHIFTS) for name in rows.feature_names]
    )
    rank = np.lexsort((draws[:, 0], np.repeat(np.arange(SHIFTS), rows.n_features)))[:count]
    copy, originals = np.divmod(rank, rows.n_features)
    shares = 0.25 + 0.5 * draws[rank, 1]
    shadows = np.empty((len(rows), count), dtype=np.float32)
    for block in blocks_of(rows, val_rows):
        length = len(block)
        offsets = np.round(shares * 2 ** (length.bit_length() - 1)).astype(np.int64)
        source = (np.arange(length)[:, None] - offsets) % length
        shadows[block] = rows.features[block[source], originals]
    names = tuple(
        f"{SHADOW_PREFIX}{_copy(rows.feature_names[j], k)}"
        for k, j in zip(copy, originals, strict=True)
    )
    return rows.with_features(
        np.concatenate([rows.features, shadows], axis=1), (*rows.feature_names, *names)
    )


def _copy(name: str, number: int) -> str:
    """A copy's name: the feature's own for the first."""
    return f"{name}#{number + 1}" if number else name


def _draw_of(name: str) -> tuple[float, float]:
    """Two numbers in [0, 1) that belong to a name, the same on every machine."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64, int.from_bytes(digest[8:16]) / 2**64


def blocks_of(
    rows: RowTable, val_rows: Bool[np.ndarray, " row"]
) -> list[Int64[np.ndarray, " some_row"]]:
    """Row numbers of each asset, before the first validation date and from it on."""
    if not val_rows.any():
        raise TrainingError("exploration must be given validation rows, found none")
    boundary = rows.date_index[val_rows].min()
    blocks = []
    for first, stop in zip(rows.asset_start[:-1], rows.asset_start[1:], strict=True):
        own = np.arange(first, stop)
        is_late = rows.date_index[own] >= boundary
        blocks += [own[~is_late], own[is_late]]
    return [block for block in blocks if len(block)]
