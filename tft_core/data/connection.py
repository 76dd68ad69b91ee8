"""The DuckDB file of the market store: opening it with a bounded wait, transactions, statements.

The one module that imports DuckDB. What the statements mean is ``store``'s business.
"""

import os
import re
import threading
import time as clock
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from tft_core.errors import DataError, StoreLockedError

READABLE_STATEMENTS = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
_LOCK_HOLDER = re.compile(r"lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
# nothing is downloaded at run time
_CONFIG: dict[str, Any] = {"autoinstall_known_extensions": "false"}
LOCK_TIMEOUT_S = 10.0
"""How long to wait for another process to let go of the file, where nobody says otherwise."""


class Connection:
    """One open DuckDB file; threads of a process share it, writes take turns."""

    def __init__(self, path: Path, read_only: bool, lock_timeout_s: float) -> None:
        """Open the file, making it if it is to be written and does not exist.

        Raises:
            StoreLockedError: Another process held the file for ``lock_timeout_s``.
            DataError: There is nothing to read, or the file is something else.
        """
        self._write_lock = threading.RLock()
        self._con = _open(path, read_only, lock_timeout_s)

    def close(self) -> None:
        """Let go of the file."""
        self._con.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what ``run`` does inside, or nothing of it."""
        with self._write_lock:
            self.run("BEGIN TRANSACTION")
            try:
                yield
            except BaseException:
                self.run("ROLLBACK")
                raise
            self.run("COMMIT")

    @contextmanager
    def registered(self, **frames: pd.DataFrame) -> Iterator[None]:
        """Frames that ``run`` sees as tables of these names."""
        for name, frame in frames.items():
            self._con.register(name, frame)
        try:
            yield
        finally:
            for name in frames:
                self._con.unregister(name)

    def run(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run on the writing connection, thus inside its transaction."""
        result = self._con.execute(query, list(params)) if params else self._con.execute(query)
        return result.fetchall() if result.description else []

    def run_frame(self, query: str, params: Sequence[Any] = ()) -> pd.DataFrame:
        """Rows as the writing connection sees them, thus with what its transaction changed."""
        return self._con.execute(query, list(params)).df()

    def scalar(self, query: str) -> int:
        """The one value of a one-row result, on the writing connection."""
        return self.run(query)[0][0]

    def rows(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a read, as of the last commit."""
        with self._con.cursor() as cursor:
            return cursor.execute(query, list(params)).fetchall()

    def frame(self, query: str, params: Sequence[Any] = ()) -> pd.DataFrame:
        """The same as a frame."""
        with self._con.cursor() as cursor:
            return cursor.execute(query, list(params)).df()

    def arrays(self, query: str, params: Sequence[Any] = ()) -> dict[str, np.ndarray]:
        """Columns as plain arrays, NULL as NaN: three times as fast as a DataFrame."""
        with self._con.cursor() as cursor:
            columns = cursor.execute(query, list(params)).fetchnumpy()
        return {
            name: values.filled(np.nan)
            if isinstance(values, np.ma.MaskedArray)
            else np.asarray(values)
            for name, values in columns.items()
        }

    def select(self, query: str, params: Sequence[Any], views: str) -> pd.DataFrame:
        """A caller's own SELECT over temporary views, unable to write.

        Raises:
            DataError: The statement would write, is not one statement, or fails.
        """
        try:
            kinds = [statement.type for statement in duckdb.extract_statements(query)]
            if len(kinds) != 1 or kinds[0] not in READABLE_STATEMENTS:
                found = ", ".join(kind.name for kind in kinds) or "nothing"
                raise DataError(
                    f"sql must be one SELECT, found {found}; "
                    "write through ingest, ingest_series and set_instruments"
                )
            with self._con.cursor() as cursor:
                cursor.execute(views)
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                return cursor.execute(query, list(params)).df()
        except duckdb.Error as error:
            raise DataError(
                f"sql must be a query that DuckDB can run on this store, found: {error}"
            ) from error


@contextmanager
def without_writers(path: Path, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Keep a store of whatever schema from changing, to copy its file.

    Raises:
        StoreLockedError: A writer held the file for ``lock_timeout_s``.
    """
    connection = Connection(path, read_only=True, lock_timeout_s=lock_timeout_s)
    try:
        yield
    finally:
        connection.close()


def _open(path: Path, read_only: bool, timeout_s: float) -> duckdb.DuckDBPyConnection:
    if read_only and not path.is_file():
        raise DataError(
            f"market store must exist to be read, found nothing at {path}; "
            "run `tft sample` or `tft ingest PATH`"
        )
    if not read_only:
        path.parent.mkdir(parents=True, exist_ok=True)
    deadline = clock.monotonic() + timeout_s
    pause = 0.02
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only, config=_CONFIG)
        except duckdb.ConnectionException as error:
            if "different configuration" not in str(error):
                raise DataError(f"{path} must be openable by DuckDB, found: {error}") from error
            if read_only:  # this process writes it already: share that, this object won't write
                return _open(path, False, timeout_s)
            holder = "this process", os.getpid()
        except duckdb.IOException as error:
            match = _LOCK_HOLDER.search(str(error))
            if match is None:
                raise DataError(
                    f"{path} must be a DuckDB file that can be opened, found: {error}; "
                    "give another path"
                ) from error
            holder = match["program"], int(match["pid"])
        if clock.monotonic() >= deadline:
            program, pid = holder
            raise StoreLockedError(
                f"market store {path} must be free, found it held by PID {pid} ({program}) for "
                f"{timeout_s:g} s; wait for that process or end it (`ps -p {pid}`), "
                "and open stores that only read with read_only=True"
            )
        clock.sleep(pause)
        pause = min(pause * 1.5, 0.25)
