"""Opens the study database so that many workers can share it, and knows who they are.

SQLite is created once under a lock, in WAL mode with a long busy timeout. Claims take a lock
too: a file beside SQLite, an advisory lock inside Postgres. Both are freed if their holder is
killed. Any other server goes to SQLAlchemy as it is, and only its row locks guard the claims.
"""

import contextlib
import os
import socket
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.engine import make_url

from tft_core.processes import has_ended, started_at

SQLITE_TIMEOUT_SECONDS = 60
_ADVISORY_KEY = 7_466_703_031
"""Names the lock among all that a Postgres database may hold; any number of our own."""


def open_storage(
    url: str,
    *,
    heartbeat_seconds: int,
    on_stale: Callable[[optuna.Study, optuna.trial.FrozenTrial], None] | None = None,
) -> RDBStorage:
    """Open the database, creating it where it is missing."""
    file = sqlite_file(url)
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        arguments = {"connect_args": {"timeout": SQLITE_TIMEOUT_SECONDS}}
    with storage_lock(url), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if file is not None:
            with contextlib.closing(sqlite3.connect(file, timeout=SQLITE_TIMEOUT_SECONDS)) as db:
                db.execute("PRAGMA journal_mode=WAL")
        return RDBStorage(
            url,
            engine_kwargs=arguments,
            heartbeat_interval=heartbeat_seconds,
            grace_period=2 * heartbeat_seconds,
            heartbeat_stale_trial_callback=on_stale,
        )


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; ``None`` for a server."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)


def storage_lock(url: str) -> AbstractContextManager[Any]:
    """Lock shared by all processes that use one database; freed if its holder is killed."""
    file = sqlite_file(url)
    if file is None:
        return _advisory_lock(url) if is_postgres(url) else contextlib.nullcontext()
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{file}.lock")


def has_lock(url: str) -> bool:
    """True where ``storage_lock`` keeps claims apart; else only the server's row locks do."""
    return sqlite_file(url) is not None or is_postgres(url)


def is_postgres(url: str) -> bool:
    """Whether the database has advisory locks."""
    return make_url(url).get_backend_name() == "postgresql"


@contextlib.contextmanager
def _advisory_lock(url: str) -> Iterator[None]:
    # the session holds the lock: closing it, or its process dying, lets the next one in
    with _lock_engine(url).connect() as db:
        db.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_KEY})
        yield


@cache
def _lock_engine(url: str) -> Engine:
    return create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")


def worker_identity() -> dict[str, Any]:
    """Who runs a trial: enough to tell later, on the same host, whether it still lives."""
    pid = os.getpid()
    return {"host": _host(), "pid": pid, "started": started_at(pid)}


def is_of_this_host(identity: dict[str, Any]) -> bool:
    """Whether its process would be seen from here."""
    return identity["host"] == _host()


def has_beaten(storage: RDBStorage, trial_id: int) -> bool:
    """Whether any heartbeat of a trial was ever recorded; Optuna overlooks those without one."""
    query = text("SELECT 1 FROM trial_heartbeats WHERE trial_id = :trial_id")
    with storage.engine.connect() as db:
        return db.execute(query, {"trial_id": trial_id}).first() is not None


def is_known_dead(identity: dict[str, Any]) -> bool:
    """True if the worker ran on this host and is gone; False if it lives or can't be seen.

    A dead worker that looks alive (see ``has_ended``) is found by its heartbeat, later.
    """
    if not is_of_this_host(identity):
        return False
    return has_ended(identity["pid"], identity["started"])


class Heartbeat:
    """Tells the database that a trial's worker lives, for as long as the context is open."""

    def __init__(self, storage: RDBStorage, trial_id: int) -> None:
        self._storage, self._trial_id, self._stop = storage, trial_id, Event()
        self._thread = Thread(target=self._beat, name="tuner-heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        interval = self._storage.get_heartbeat_interval()
        try:
            while True:
                self._storage.record_heartbeat(self._trial_id)
                if self._stop.wait(interval):
                    return
        finally:
            self._storage.remove_session()


def _host() -> str:
    """Host name and, where containers may share one, the process-id name space."""
    name_space = Path("/proc/self/ns/pid")
    inside = name_space.readlink().name if name_space.is_symlink() else ""
    return f"{socket.gethostname()}/{inside}"
