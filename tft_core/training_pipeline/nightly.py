"""The night's work: positions and signals of every closed session that has none yet, in order.

Running it again does nothing; after a crash it goes on where it stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from tft_core.data.calendar import is_session, last_closed_session, sessions
from tft_core.errors import OutOfOrderError
from tft_core.strategy.ledger import Ledger
from tft_core.strategy_adapter import STRATEGY_ID
from tft_core.training_pipeline.config import OperationsConfig
from tft_core.training_pipeline.workspace import Progress, Workspace

NIGHTLY_CAUSE = "nightly"
"""Cause of a night's first publication; a backfill of the record has another."""
LIVE_CAUSES = (NIGHTLY_CAUSE, "scheduled", "scan")
"""Causes of publications made when their session was new: by the night, by an orchestrator, by
a strategy that publishes for itself."""


@dataclass(frozen=True, slots=True)
class NightlyReport:
    """What was done, and what could not be."""

    closed: date
    """The last closed session in the market's zone."""
    done: tuple[dict[str, object], ...]
    """One summary of ``strategy_signals`` per session, oldest first."""
    without_bars: tuple[date, ...]
    """Sessions of the calendar that the store has no bar of: holidays, or data not there yet."""

    @property
    def is_waiting(self) -> bool:
        """True where the last closed session itself has no bars yet."""
        return self.closed in self.without_bars

    def text(self) -> str:
        lines = [
            f"{d['session']}: {d['n_signals']} signals, "
            + (f"revision {d['revision']}" if d["published"] else str(d["note"]))
            + (f"; no new position: {d['unavailable']}" if d["unavailable"] else "")
            for d in self.done
        ]
        skipped = [d.isoformat() for d in self.without_bars if d != self.closed]
        if skipped:
            lines.append(f"passed over, without any bar: {', '.join(skipped)}")
        if not self.done and not self.is_waiting:
            lines.append(f"nothing to do: every session up to {self.closed} is published")
        if self.is_waiting:
            lines.append(
                f"no bars of {self.closed} yet: run `tft ingest`, then this again "
                "(or the market was closed)"
            )
        return "\n".join(lines)


def newest_session(ledger_path: Path, causes: Sequence[str]) -> date | None:
    """Newest session first published for one of the causes; ``None`` before the first."""
    if not ledger_path.exists():
        return None
    with Ledger(ledger_path) as ledger:
        heads = ledger.publications(STRATEGY_ID, revision="first")
    live = heads.loc[heads["cause"].isin(causes), "session"]
    return date.fromisoformat(live.max()) if len(live) else None


def sessions_due(ledger_path: Path, exchange: str, closed: date) -> list[date]:
    """Calendar sessions after the newest of a night up to ``closed``, oldest first.

    Before the first night only ``closed`` itself is due: the past is the record's business.
    """
    newest = newest_session(ledger_path, [NIGHTLY_CAUSE])
    if newest is None:
        return [closed]
    if newest >= closed:
        return []
    return [d.date() for d in sessions(exchange, newest + timedelta(days=1), closed)]


def session_overdue(
    ledger_path: Path, operations: OperationsConfig, now: datetime
) -> tuple[date, date] | None:
    """The newest session that should be published by now and is not, and the newest that is.

    A session is due ``publish_within_hours`` after the nightly run of its day, whoever publishes
    it. Before the first night nothing is overdue.
    """
    newest = newest_session(ledger_path, LIVE_CAUSES)
    if newest is None or newest_session(ledger_path, [NIGHTLY_CAUSE]) is None:
        return None
    late = now.astimezone(ZoneInfo(operations.timezone)) - timedelta(
        hours=operations.nightly_hour + operations.publish_within_hours
    )
    day = late.date()
    while day > newest:
        if is_session(operations.exchange, day):
            return day, newest
        day -= timedelta(days=1)
    return None


def run_nightly(
    workspace: Workspace, now: datetime | None = None, progress: Progress | None = None
) -> NightlyReport:
    """Infer and publish what is due, oldest first.

    Args:
        now: The moment; default now (UTC).

    Raises:
        TftError: A session must not be published; the ones before it are, the ones after wait.
    """
    say = progress or (lambda line: None)
    operations = workspace.settings.build(OperationsConfig, "operations")
    closed = last_closed_session(operations.exchange, now or datetime.now(UTC))
    due = sessions_due(workspace.settings.ledger_path, operations.exchange, closed)
    done, without = [], []
    for session in due:
        if not _has_bars(workspace, session):
            without.append(session)
            continue
        say(f"nightly {session}")
        workspace.build("inference", session.isoformat())
        artifact = workspace.build("strategy_signals", session.isoformat())
        done.append(dict(artifact.summary))
    return NightlyReport(closed, tuple(done), tuple(without))


def refuse_out_of_order(workspace: Workspace, session: date, before: date | None) -> None:
    """A live session needs the one before it to be published, if any live one was.

    Args:
        before: The newest session of the universe before ``session``.

    Raises:
        OutOfOrderError: A session in between has not been published.
    """
    newest = newest_session(workspace.settings.ledger_path, [NIGHTLY_CAUSE])
    if newest is not None and before is not None and newest < before < session:
        raise OutOfOrderError(
            f"sessions must be published in order, found {newest} as the newest before {session} "
            f"while {before} is not; run `tft nightly`, or materialize the sessions between"
        )


def _has_bars(workspace: Workspace, session: date) -> bool:
    with workspace.store() as store:
        symbols = workspace.universe(store.symbols()).symbols
        return len(store.session_dates(symbols, session, session)) > 0
