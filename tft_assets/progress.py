"""Progress of long work as log lines: not too many, and with a time left."""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

LINE_EVERY_S = 5.0
"""Each line is a commit to Dagster's event log, so a fast phase must not write every step."""


def throttled(
    write: Callable[[str], None], *, every_s: float = LINE_EVERY_S
) -> Callable[[str], None]:
    """``write``, but at most once in ``every_s`` seconds; lines in between are dropped."""
    last = float("-inf")

    def line(text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            write(text)

    return line


OF = re.compile(r"\b(\d+) of (\d+)\b")


def with_time_left(write: Callable[[str], None]) -> Callable[[str], None]:
    """``write``, with the time left added to a line that counts, ``trial 3 of 40``.

    The first such line has none: work that was resumed began before it.
    """
    first: tuple[float, int] | None = None

    def line(text: str) -> None:
        nonlocal first
        now, found = time.monotonic(), OF.search(text)
        if found is not None:
            done, total = int(found[1]), int(found[2])
            if first is None or done <= first[1]:
                first = (now, done)
            else:
                left = (now - first[0]) / (done - first[1]) * (total - done)
                text = f"{text}; about {spoken(left)} left"
        write(text)

    return line


class Durations:
    """How long each asset's partitions took, to say how long the rest will take."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def add(self, asset: str, seconds: float) -> None:
        self._seconds[asset].append(seconds)

    def expected(self, asset: str) -> float | None:
        """Seconds that one partition takes; ``None`` where none was timed."""
        seconds = self._seconds.get(asset)
        return sum(seconds) / len(seconds) if seconds else None

    def left(self, assets: Iterable[str]) -> str:
        """Time for the given builds, ``at least`` where an asset has not been timed yet."""
        total, is_known = 0.0, True
        for asset in assets:
            seconds = self.expected(asset)
            if seconds is not None:
                total += seconds
            else:
                is_known = False
        if not is_known and total == 0.0:
            return "time left not known yet"
        return f"{'about' if is_known else 'at least'} {spoken(total)} left"


def spoken(seconds: float) -> str:
    """A duration as people say it: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
