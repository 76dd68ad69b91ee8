"""Context sets: windows of the past that a target may attend to, and when it may.

The gate: a context counts from the date on which its last label is realised (and, for a
change-point segment, its end detected), and that date must lie before the target's first
loss-bearing step.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from tft_core.errors import ModelError
from tft_core.sequences.rows import UNKNOWN_DATE, RowTable
from tft_core.sequences.segments import find_segments
from tft_core.sequences.windows import PADDING

ContextMode = Literal["random", "time", "segment", "none"]
"""``random`` windows whose final state counts (F) · ``time``: windows as long as the target,
whose k-th step the target's k-th step attends to (T) · change-point ``segment`` (C) · none."""

NO_CONTEXT = -1
"""Position that stands for "no eligible context left"."""


@dataclass(frozen=True, slots=True)
class ContextWindows:
    """Context windows, each of one asset, right-aligned."""

    index: Int64[np.ndarray, "context step"]
    """Row numbers; ``PADDING`` before a segment shorter than the window."""
    asset_id: Int64[np.ndarray, " context"]
    available: Int64[np.ndarray, " context"]
    """Date index from which on the context, its labels and its end are known."""

    def __len__(self) -> int:
        return len(self.index)

    def take(self, which: Int64[np.ndarray, " choice"]) -> "ContextWindows":
        return ContextWindows(self.index[which], self.asset_id[which], self.available[which])


def context_candidates(
    rows: RowTable,
    context_rows: Bool[np.ndarray, " row"],
    length: int,
    mode: ContextMode,
) -> ContextWindows:
    """Every context the rows offer, sorted by the date it becomes available.

    Args:
        context_rows: Rows a context may end in. All its labels are realised.
        length: Steps of a window; the longest segment.
    """
    if mode == "none":
        return ContextWindows(
            np.empty((0, length), np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
        )
    if mode == "segment":
        found = find_segments(rows, length)
        first, last = found.first_row, found.last_row
        available = np.maximum(rows.label_end[last], rows.date_index[found.detected_row])
        usable = context_rows[found.detected_row]
    else:
        last = np.arange(len(rows), dtype=np.int64)
        first = last - length + 1
        available = rows.label_end
        usable = context_rows & (first >= rows.asset_start[rows.asset_id])
    usable &= available < UNKNOWN_DATE
    order = np.flatnonzero(usable)
    order = order[np.argsort(available[order], kind="stable")]
    first, last, available = first[order], last[order], available[order]
    index = last[:, None] - np.arange(length - 1, -1, -1)
    index = np.where(index >= first[:, None], index, PADDING)
    return ContextWindows(index, rows.asset_id[last], available)


def sample_pool(
    candidates: ContextWindows,
    gates: Int64[np.ndarray, " target"],
    size: int,
    rng: np.random.Generator,
) -> ContextWindows:
    """Draw the contexts that a minibatch shares.

    Each draw picks a target, then a context that this target may see, so early targets get
    their share.

    Args:
        gates: Date index that a context must be available before, per target.
    """
    choices = np.searchsorted(candidates.available, gates, side="left")
    choices = choices[choices > 0]
    if not len(choices):
        return candidates.take(np.empty(0, dtype=np.int64))
    drawn = rng.integers(choices[rng.integers(len(choices), size=size)])
    return candidates.take(np.unique(drawn))


def choose_contexts(
    available: Int64[np.ndarray, " pool"],
    gates: Int64[np.ndarray, " target"],
    n_context: int,
    rng: np.random.Generator,
) -> Int64[np.ndarray, "target context"]:
    """Positions in the pool for each target, without repetition; ``NO_CONTEXT`` fills up.

    Args:
        available: Date index from which on each context of the pool is known.
        gates: Date index of each target's first loss-bearing step.
    """
    chosen = np.full((len(gates), n_context), NO_CONTEXT, dtype=np.int64)
    if not len(available):
        return chosen
    may_see = available[None, :] < gates[:, None]
    lottery = np.where(may_see, rng.random(may_see.shape), 2.0)
    take = min(n_context, len(available))
    ranked = np.argpartition(lottery, take - 1, axis=1)[:, :take]
    picked = np.take_along_axis(may_see, ranked, axis=1)
    chosen[:, :take] = np.where(picked, ranked, NO_CONTEXT)
    return chosen


def sample_contexts(
    rows: RowTable,
    n: int,
    length: int,
    mode: ContextMode,
    rng: np.random.Generator,
    *,
    before_date_index: int | None = None,
    context_rows: Bool[np.ndarray, " row"] | None = None,
) -> ContextWindows:
    """Draw ``n`` different contexts known before a date.

    Args:
        before_date_index: The contexts are available strictly before it; ``None``: any
            whose labels are realised within the table.
        context_rows: Rows they may end in; default all.

    Raises:
        ModelError: There are fewer than ``n``.
    """
    allowed = np.ones(len(rows), dtype=bool) if context_rows is None else context_rows
    candidates = context_candidates(rows, allowed, length, mode)
    stop = (
        len(candidates)
        if before_date_index is None
        else int(np.searchsorted(candidates.available, before_date_index, side="left"))
    )
    if stop < n:
        raise ModelError(
            f"the rows must offer at least {n} contexts of {length} steps (mode {mode}), "
            f"found {stop}; use fewer or shorter contexts, or more history"
        )
    return candidates.take(np.sort(rng.choice(stop, size=n, replace=False)))
