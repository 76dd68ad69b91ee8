"""Processes of this machine, known by number and start: a number alone is given away again."""

import os
from pathlib import Path

_ENDED_STATES = ("Z", "X")
"""A zombie has ended; where nobody waits for it, as in many containers, its number stays."""


def started_at(pid: int) -> int | None:
    """Start of a process in clock ticks since boot.

    ``None`` where the system does not tell (no ``/proc``), and for one that has ended.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if state in _ENDED_STATES else int(fields[18])


def has_ended(pid: int, started: int | None) -> bool:
    """Whether the process that had this number and start is gone.

    False where that can't be seen: without ``/proc`` a number that was given to another process
    looks alive.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's, whose start may be hidden
        now = started_at(pid)
        return now is not None and now != started
    return started_at(pid) != started
