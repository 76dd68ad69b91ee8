"""Which rows see one and the same set of vintages."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple


class VintageBlock(NamedTuple):
    """Days whose rows may be built from one reading of the store."""

    first: date
    last: date
    known_at: date | None
    """Read as of the end of this day; ``None``: all that is known."""


def blocks_of(
    sessions: Sequence[date], changes: Sequence[date], start: date, end: date
) -> list[VintageBlock]:
    """Blocks that tile start … end, both included.

    Args:
        sessions: Days of [start, end] with bars, ascending.
        changes: Days after ``start`` on which something about earlier bars became known,
            ascending.

    As of:
        Row t of a block sees, at the block's ``known_at``, the bars up to t that were known at
        the end of day t, neither more nor less.
    """
    firsts = [start]
    for change in changes:  # a block begins at the first session that sees the change
        at = bisect_left(sessions, change)
        if 0 < at < len(sessions) and sessions[at] > firsts[-1]:
            firsts.append(sessions[at])
    blocks: list[VintageBlock] = []
    for first, following in zip(firsts, [*firsts[1:], None], strict=True):
        last = end if following is None else following - timedelta(days=1)
        before = bisect_right(sessions, last)
        # what becomes known between the last session and the next block is the next block's
        known = sessions[before - 1] if before and sessions[before - 1] >= first else last
        is_all = following is None and (not changes or changes[-1] <= known)
        blocks.append(VintageBlock(first, last, None if is_all else known))
    return blocks
