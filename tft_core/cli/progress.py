"""The bar that long commands show on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, nothing elsewhere; gives ``show(line, done, total)``."""
    with tqdm(total=1, unit=unit, disable=not sys.stderr.isatty(), desc=title) as bar:

        def show(line: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_description(line)
            bar.update(done - bar.n)

        yield show
