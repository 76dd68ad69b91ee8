"""Flat rows, windows over them and context sets: torch-free index arithmetic.

Rows are (asset, session) pairs, asset-major. Everything a model sees of time is an integer
array of row numbers made here; the networks only gather.
"""

from tft_core.sequences.contexts import (
    NO_CONTEXT,
    ContextMode,
    ContextWindows,
    choose_contexts,
    context_candidates,
    sample_contexts,
    sample_pool,
)
from tft_core.sequences.rows import UNKNOWN_DATE, RowTable
from tft_core.sequences.segments import Segments, find_segments
from tft_core.sequences.windows import (
    PADDING,
    calendar_tile,
    epoch_windows,
    first_loss_date,
    minibatches,
    window_index,
)

__all__ = [
    "NO_CONTEXT",
    "PADDING",
    "UNKNOWN_DATE",
    "ContextMode",
    "ContextWindows",
    "RowTable",
    "Segments",
    "calendar_tile",
    "choose_contexts",
    "context_candidates",
    "epoch_windows",
    "find_segments",
    "first_loss_date",
    "minibatches",
    "sample_contexts",
    "sample_pool",
    "window_index",
]
