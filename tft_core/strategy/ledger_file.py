"""The ledger's SQLite file: its schema, which makes published rows immutable, and how it is opened.

What is published, and when two answers are the same, is the business of ``ledger``.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tft_core.checkpoint_manager.atomic import locked, make_directory
from tft_core.errors import LedgerError

LEDGER_VERSION = 1
_BUSY_TIMEOUT_S = 30.0

_TABLES = ("publications", "signals", "positions")
_SCHEMA = """
CREATE TABLE publications (
    strategy_id TEXT NOT NULL, session TEXT NOT NULL, revision INTEGER NOT NULL,
    cause TEXT NOT NULL, checkpoint_hash TEXT, published_at TEXT NOT NULL,
    payload_hash TEXT NOT NULL,
    PRIMARY KEY (strategy_id, session, revision)
) WITHOUT ROWID;
CREATE TABLE signals (
    strategy_id TEXT NOT NULL, session TEXT NOT NULL, symbol TEXT NOT NULL,
    instrument_type TEXT NOT NULL, strike REAL NOT NULL, expiry TEXT NOT NULL,
    revision INTEGER NOT NULL, direction TEXT NOT NULL, conviction REAL NOT NULL,
    ttl_bars INTEGER NOT NULL, metadata TEXT NOT NULL, is_correction INTEGER NOT NULL,
    PRIMARY KEY (strategy_id, session, symbol, instrument_type, strike, expiry, revision),
    FOREIGN KEY (strategy_id, session, revision) REFERENCES publications
) WITHOUT ROWID;
CREATE TABLE positions (
    strategy_id TEXT NOT NULL, session TEXT NOT NULL, symbol TEXT NOT NULL,
    revision INTEGER NOT NULL, position REAL, status TEXT,
    PRIMARY KEY (strategy_id, session, symbol, revision),
    FOREIGN KEY (strategy_id, session, revision) REFERENCES publications
) WITHOUT ROWID;
""" + "".join(
    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
    "BEGIN SELECT RAISE(ABORT, 'published rows are immutable'); END;\n"
    for table in _TABLES
    for verb in ("UPDATE", "DELETE")
)


def ledger_version(path: Path) -> int | None:
    """Version of an existing ledger, whether it can be read today or not; ``None``: no file.

    Raises:
        LedgerError: The file is no SQLite data base.
    """
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise LedgerError(
            f"{path} must be a ledger, found: {error}; restore it from a backup"
        ) from error


class LedgerFile:
    """Opens the file for one call at a time; it is made on first use.

    Raises:
        LedgerError: (from every method) The file is damaged, of another version, or locked by
            another process for more than 30 s.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_ready = False

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are all kept, or none of them."""
        with self.connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading."""
        try:
            self._make_ready()
            with closing(self._open()) as connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(
                f"the ledger must be readable and writable at {self.path}, found: {error}; "
                "nothing was changed"
            ) from error

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _make_ready(self) -> None:
        """Create the file under a lock: switching to WAL does not wait for other openers."""
        if self._is_ready:
            return
        make_directory(self.path.resolve().parent)
        lock = self.path.with_name(f".{self.path.name}.lock")
        with (
            locked(lock, _BUSY_TIMEOUT_S, f"the ledger {self.path}", LedgerError),
            closing(self._open()) as connection,
        ):
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(
                    f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {LEDGER_VERSION}; COMMIT;"
                )
            elif version != LEDGER_VERSION:
                raise LedgerError(
                    f"{self.path} must be a ledger of version {LEDGER_VERSION}, found "
                    f"{version}; use the code version that wrote it"
                )
        self._is_ready = True
