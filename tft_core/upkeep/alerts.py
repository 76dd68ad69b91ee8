"""Alerts: what a person must be told, each cause once, and which sinks have taken it.

An alert is kept before it is sent, so a sink that cannot be reached loses nothing: it is sent
again until it is taken. What raises alerts, and when they are sent, is the caller's business.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from tft_core.checkpoint_manager.atomic import make_directory
from tft_core.errors import AlertError
from tft_core.inference import REASONS
from tft_core.schema import utc_stamp
from tft_core.upkeep.pages import docs_url

ALARM_CODES = (
    "run_failed",
    "run_killed",
    "gate_refused",
    "nightly_not_published",
)
"""Codes of alerts beside those of findings (``checks``) and of refused sessions (``REASONS``)."""

MAX_AGE = timedelta(days=7)
"""An older alert is not sent any more: to a new sink, or one that was away for so long."""
RUNBOOK = "runbook.md"
AT_ONCE = 20
"""Alerts that a sink is sent by one call; the next goes on. A sensor's tick has a minute."""
_BUSY_TIMEOUT_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS alerts (
    cause TEXT PRIMARY KEY, raised_at TEXT NOT NULL, key TEXT NOT NULL, alert TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS taken (
    cause TEXT NOT NULL REFERENCES alerts, sink TEXT NOT NULL, taken_at TEXT NOT NULL,
    PRIMARY KEY (cause, sink)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that a person must be told."""

    cause: str
    """What it is about, the same however often it is noticed; told once."""
    code: str
    """Stable, made for programs; the runbook has a section for each."""
    message: str
    """The reason, in words."""
    run_id: str = ""
    """Dagster's run, where one is behind it."""
    asset: str = ""
    """Where one is concerned."""
    key: str = ""
    """The asset's fold, session or other partition."""

    @property
    def look(self) -> str:
        """Where to read on: the code's section of the runbook."""
        section = code_section(self.code)
        return f"{docs_url(RUNBOOK) or f'docs/{RUNBOOK}'}#{section}"

    def text(self) -> str:
        """All of it, as a few lines."""
        about = "/".join(part for part in (self.asset, self.key) if part)
        lines = [
            f"{self.code}: {about}" if about else self.code,
            self.message,
            f"run {self.run_id}" if self.run_id else "",
            f"see {self.look}",
        ]
        return "\n".join(line for line in lines if line)


def code_section(code: str) -> str:
    """Anchor in the runbook: refusals of a session share a table, details their check's section."""
    return "the-whole-session" if code in REASONS else code.partition(".")[0]


class AlertSink(Protocol):
    """Where alerts go."""

    @property
    def name(self) -> str:
        """Stable: what was taken is remembered under it."""
        ...

    def send(self, alert: Alert) -> None:
        """Hand an alert over.

        Raises:
            AlertError: It was not taken.
        """
        ...


class AlertBook:
    """All alerts that were raised, in one SQLite file.

    Raises:
        AlertError: (from every method) The file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def raise_alert(self, alert: Alert, now: datetime | None = None) -> bool:
        """Keep an alert; False if its cause was told before."""
        with self._open() as book:
            done = book.execute(
                "INSERT OR IGNORE INTO alerts VALUES (?, ?, ?, ?)",
                [alert.cause, utc_stamp(now), alert.key, json.dumps(asdict(alert))],
            )
            return done.rowcount == 1

    def is_known(self, key: str) -> bool:
        """Whether any alert is about a partition."""
        with self._open() as book:
            return bool(book.execute("SELECT 1 FROM alerts WHERE key = ?", [key]).fetchall())

    def pending(self, sink: str, now: datetime | None = None) -> list[Alert]:
        """Alerts that a sink has not taken yet, oldest first."""
        since = utc_stamp((now or datetime.now(UTC)) - MAX_AGE)
        with self._open() as book:
            rows = book.execute(
                "SELECT alert FROM alerts a WHERE raised_at >= ? AND NOT EXISTS "
                "(SELECT 1 FROM taken t WHERE t.cause = a.cause AND t.sink = ?) "
                "ORDER BY raised_at, cause",
                [since, sink],
            ).fetchall()
        return [Alert(**json.loads(row[0])) for row in rows]

    def deliver(self, sinks: Sequence[AlertSink], now: datetime | None = None) -> int:
        """Send each sink what it has not taken yet; returns the number of alerts taken.

        Raises:
            AlertError: A sink did not take one, or raised what a sink must not. The others have
                what is theirs; the next call tries again.
        """
        taken, problems = 0, []
        for sink in sinks:
            for alert in self.pending(sink.name, now)[:AT_ONCE]:
                try:
                    sink.send(alert)
                except AlertError as error:
                    problems.append(str(error))
                    break  # the next alert would fare no better
                except Exception as error:  # noqa: BLE001 - one's own sink must not starve the rest
                    problems.append(
                        f"sink {sink.name} must raise nothing but AlertError, found "
                        f"{type(error).__name__}: {error}"
                    )
                    break
                self._mark(alert.cause, sink.name)
                taken += 1
        if problems:
            raise AlertError("; ".join(problems))
        return taken

    def _mark(self, cause: str, sink: str) -> None:
        with self._open() as book:
            book.execute("INSERT OR IGNORE INTO taken VALUES (?, ?, ?)", [cause, sink, utc_stamp()])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            make_directory(self.path.resolve().parent)
            with closing(
                sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            ) as book:
                book.executescript(_SCHEMA)
                yield book
        except (sqlite3.Error, OSError) as error:
            raise AlertError(
                f"the alerts must be readable and writable at {self.path}, found: {error}; "
                "correct the rights or make room"
            ) from error
