"""What several commands take and show: a CSV file named by an option, a bar of progress."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from tft_core.errors import DataError


def csv_of(option: str, path: str | None) -> pd.DataFrame | None:
    """The table that an option names; ``None`` where it was not given.

    Raises:
        DataError: There is no such file.
    """
    if path is None:
        return None
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{option} must be a CSV file, found nothing at {file}; correct the path")
    return pd.read_csv(file)


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, nothing elsewhere; gives ``show(line, done, total)``."""
    with tqdm(total=1, unit=unit, disable=not sys.stderr.isatty(), desc=title) as bar:

        def show(line: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_description(line)
            bar.update(done - bar.n)

        yield show
