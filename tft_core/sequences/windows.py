"""Windows of consecutive own sessions of one asset, as row numbers.

A window never reaches past its last loss-bearing row, so nothing later than that row can
enter a batch (not even a batch statistic).
"""

import numpy as np
from jaxtyping import Bool, Int64

from tft_core.errors import ConfigError, TrainingError
from tft_core.sequences.rows import RowTable

PADDING = -1
"""Row number of a step before the asset's first row."""


def window_index(
    rows: RowTable, end_rows: Int64[np.ndarray, " window"], length: int
) -> Int64[np.ndarray, "window step"]:
    """Row numbers of the ``length`` own sessions ending at each row, padded at the front."""
    steps = np.arange(length - 1, -1, -1, dtype=np.int64)
    index = end_rows[:, None] - steps
    first = rows.asset_start[rows.asset_id[end_rows]]
    return np.where(index >= first[:, None], index, PADDING)


def epoch_windows(
    rows: RowTable,
    loss_rows: Bool[np.ndarray, " row"],
    length: int,
    warmup: int,
    rng: np.random.Generator,
    stride: int | None = None,
    calendar_phase: int | None = None,
) -> tuple[Int64[np.ndarray, "window step"], Bool[np.ndarray, "window step"]]:
    """Tile each asset's rows so that every loss row bears loss exactly once.

    Tiles of ``stride`` rows with a random phase per asset; each becomes a window that ends
    at the tile's last loss row. Windows stay in (asset, time) order, so that neighbours
    share their warm-up rows.

    Args:
        length: Steps of a window.
        warmup: Steps at the start of a window that bear no loss.
        stride: Rows per tile; default (and most) ``length - warmup``.
        calendar_phase: Tiles are ``stride`` dates of the calendar instead, shifted by this
            phase, the same for all assets.

    Returns:
        Row numbers, and which steps bear loss.
    """
    longest = length - warmup
    tile = longest if stride is None else stride
    if not 1 <= tile <= longest:
        raise ConfigError(f"stride must lie in [1, {longest}] (length − warmup), found {tile}")
    ends: list[np.ndarray] = []
    tiles: list[np.ndarray] = []
    next_tile = 0
    for first, stop in zip(rows.asset_start[:-1], rows.asset_start[1:], strict=True):
        own = np.flatnonzero(loss_rows[first:stop]) + first
        if calendar_phase is None:
            number = (own - first + int(rng.integers(tile))) // tile
        else:
            number = calendar_tile(rows, own, tile, calendar_phase)
        if not len(own):
            continue
        is_last = np.append(np.diff(number) > 0, True)
        ends.append(own[is_last])
        tiles.append(next_tile + np.cumsum(np.append(False, is_last[:-1])))
        next_tile += len(ends[-1])
    if not ends:
        empty = np.empty((0, length), dtype=np.int64)
        return empty, empty.astype(bool)
    end_rows = np.concatenate(ends).astype(np.int64)
    index = window_index(rows, end_rows, length)
    tile_of_row = np.full(len(rows), -1, dtype=np.int64)
    tile_of_row[loss_rows] = np.concatenate(tiles)
    is_padding = index == PADDING
    same_tile = tile_of_row[index] == np.arange(len(end_rows))[:, None]
    return index, same_tile & ~is_padding


def calendar_tile(
    rows: RowTable, at: Int64[np.ndarray, " row"], stride: int, phase: int
) -> Int64[np.ndarray, " row"]:
    """Number of the ``stride`` dates long piece of the calendar that each row lies in."""
    return (rows.date_index[at] + phase) // stride


def first_loss_date(
    rows: RowTable,
    index: Int64[np.ndarray, "window step"],
    bears_loss: Bool[np.ndarray, "window step"],
) -> Int64[np.ndarray, " window"]:
    """Date index of each window's first loss-bearing step: what its contexts must precede."""
    step = bears_loss.argmax(axis=1)
    return rows.date_index[index[np.arange(len(index)), step]]


def minibatches(
    bears_loss: Bool[np.ndarray, "window step"],
    batch_size: int,
    min_steps: int,
    rng: np.random.Generator,
    run_length: int | None = None,
    together: Int64[np.ndarray, " window"] | None = None,
) -> list[Int64[np.ndarray, " window"]]:
    """Shuffle windows into near-equal minibatches of short runs of neighbouring windows.

    Neighbours share rows, which are then encoded once; runs are at most four windows long
    and at most an eighth of the batch, so a batch still sees many assets and dates.

    Args:
        batch_size: Most windows in a minibatch.
        min_steps: Fewest minibatches; the batch is made smaller to reach it.
        together: Windows of the same number follow one another (in random order) instead,
            so that a minibatch holds many assets on few dates.

    Raises:
        TrainingError: There are too few windows or loss rows for ``min_steps`` minibatches.
            (Short tiles, the ``stride`` of ``epoch_windows``, make more windows.)
    """
    n = len(bears_loss)
    n_pairs = int(bears_loss.sum())
    n_batches = max(min_steps, -(-n // batch_size))
    if n < n_batches or n_pairs < 2 * n_batches:
        raise TrainingError(
            f"an epoch must hold at least {n_batches} windows and {2 * n_batches} loss rows, "
            f"found {n} windows and {n_pairs} loss rows; give more training rows or lower "
            "min_steps_per_epoch"
        )
    if together is None:
        run = max(1, min(4, n // n_batches // 8)) if run_length is None else run_length
        starts = np.arange(0, n, run)
        rng.shuffle(starts)
        order = (starts[:, None] + np.arange(run)).ravel()
        order = order[order < n]
    else:
        numbers, place = np.unique(together, return_inverse=True)
        order = np.lexsort((rng.random(n), rng.permutation(len(numbers))[place]))
    pairs = bears_loss.sum(axis=1)
    parts: list[Int64[np.ndarray, " window"]] = []
    for n_parts in range(n_batches, n + 1):
        parts = _join_small(np.array_split(order, n_parts), pairs)
        if len(parts) >= n_batches:
            return parts
    return parts


def _join_small(
    parts: list[Int64[np.ndarray, " window"]], pairs: Int64[np.ndarray, " window"]
) -> list[Int64[np.ndarray, " window"]]:
    """Join a part of fewer than two loss rows, which has no spread, to its neighbour."""
    joined: list[np.ndarray] = []
    for part in parts:
        if joined and min(pairs[joined[-1]].sum(), pairs[part].sum()) < 2:
            joined[-1] = np.concatenate([joined[-1], part])
        else:
            joined.append(part)
    return [np.sort(part) for part in joined]
