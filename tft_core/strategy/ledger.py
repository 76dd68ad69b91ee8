"""The signal ledger: what was published for each session, exactly once, and never changed.

One SQLite file. A publication is one transaction: a session's signals and positions are there
completely or not at all, and a session with no signal is there too. The first publication is
immutable; a different later answer is a new revision with its cause.
"""

import os
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

import pandas as pd

from tft_core.checkpoint_manager.atomic import make_directory, replace_file
from tft_core.config import load_settings
from tft_core.errors import LedgerError
from tft_core.schema import content_hash
from tft_core.strategy.ledger_file import LedgerFile
from tft_core.strategy.protocol import Leg, Signal
from tft_core.strategy.publication import (
    Publication,
    cause_of_revision,
    corrections,
    is_same_answer,
    metadata_json,
    signal_of_row,
    stored_form,
)

Revision = Literal["latest", "first", "all"]
_SIGNAL_COLUMNS = (
    "strategy_id, session, symbol, instrument_type, strike, expiry, revision, direction, "
    "conviction, ttl_bars, metadata, is_correction"
)
_CHOSEN = {
    "latest": "revision = (SELECT MAX(revision) FROM publications p WHERE "
    "p.strategy_id = t.strategy_id AND p.session = t.session)",
    "first": "revision = 1",
    "all": "1 = 1",
}


class Ledger:
    """Published signals and positions of every strategy and session.

    Args:
        path: The SQLite file; default the configured one. It is made on first use.

    Raises:
        LedgerError: (from every method) The file is damaged, of another version, or locked by
            another process for more than 30 s.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else load_settings().ledger_path
        self._file = LedgerFile(self.path)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing stays open between calls; here for ``with``."""

    # -- publish ---------------------------------------------------------------------------

    def publish(
        self,
        strategy_id: str,
        session: date,
        signals: Sequence[Signal],
        positions: Mapping[str, float],
        cause: str,
        checkpoint_hash: str | None = None,
        status: Mapping[str, str] | None = None,
    ) -> Publication:
        """Record a session's answer in one transaction.

        The same answer again (every number within 1e-6) changes nothing. A different one is a
        new revision; where the revision before put something on or off that this one doesn't
        speak of, a correcting signal is added, so that a reader who follows signals ends up
        where this revision wants to be.

        Args:
            session: The decision session.
            positions: Symbol → position held after the session, carried ones included.
            cause: Why it is published; of a later revision, why it differs. Where that only says
                again what the first publication said, what differs is added.
            status: Symbol → ``ok`` or why it has no new position.

        Returns:
            What stands in the ledger now; ``is_new`` tells whether this call wrote it.

        Raises:
            LedgerError: A signal or position is not this strategy's, doubled or not finite, or
                could not be read back as it is. Nothing is published then.
        """
        _refuse_bad_answer(strategy_id, session, signals, positions, cause)
        signals = [stored_form(signal) for signal in signals]
        positions = {symbol: float(p) + 0.0 for symbol, p in positions.items()}  # no negative zero
        documents = {signal.leg: metadata_json(signal) for signal in signals}
        with self._file.transaction() as connection:
            latest = self._publication(connection, strategy_id, session, "latest")
            if latest is not None and is_same_answer(latest, signals, positions, checkpoint_hash):
                return latest
            revision = 1 if latest is None else latest.revision + 1
            added: list[Signal] = []
            if latest is not None:
                cause = cause_of_revision(cause, latest, signals, positions, checkpoint_hash)
                before = self._open_legs(connection, strategy_id, session, inclusive=False)
                added = corrections(before, latest.signals, signals, revision)
                documents |= {signal.leg: metadata_json(signal) for signal in added}
            publication = Publication(
                strategy_id=strategy_id,
                session=session,
                revision=revision,
                cause=cause,
                checkpoint_hash=checkpoint_hash,
                published_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                signals=tuple(sorted([*signals, *added], key=lambda signal: signal.leg)),
                corrected=frozenset(signal.leg for signal in added),
                positions=dict(sorted(positions.items())),
                status=dict(sorted((status or {}).items())),
                is_new=True,
            )
            self._insert(connection, publication, documents)
            self._refuse_unreadable(connection, publication)
        return publication

    def _refuse_unreadable(self, connection: sqlite3.Connection, made: Publication) -> None:
        """What is there for ever must be what was given: rows are immutable from now on."""
        try:
            found = self._stored(connection, made.strategy_id, made.session, made.revision)
            is_whole = found is not None and content_hash(found[0].payload()) == found[1]
        except (TypeError, ValueError):
            is_whole = False
        if not is_whole:
            raise LedgerError(
                f"an answer of {made.strategy_id} must be read back as it was given, found other "
                f"values for {made.session}; give plain texts and numbers. Nothing was published"
            )

    @staticmethod
    def _insert(
        connection: sqlite3.Connection, made: Publication, documents: Mapping[Leg, str]
    ) -> None:
        try:
            payload_hash = content_hash(made.payload())
        except (TypeError, ValueError) as error:  # a lone surrogate is a ValueError
            raise LedgerError(
                f"an answer of {made.strategy_id} must be plain texts and finite numbers, found: "
                f"{error}; nothing was published"
            ) from error
        key = (made.strategy_id, made.session.isoformat())
        connection.execute(
            "INSERT INTO publications VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*key, made.revision, made.cause, made.checkpoint_hash, made.published_at,
             payload_hash),
        )  # fmt: skip
        connection.executemany(
            "INSERT INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (*key, *signal.leg, made.revision, signal.direction, float(signal.conviction),
                 signal.ttl_bars, documents[signal.leg], int(signal.leg in made.corrected))
                for signal in made.signals
            ],
        )  # fmt: skip
        connection.executemany(
            "INSERT INTO positions VALUES (?, ?, ?, ?, ?, ?)",
            [
                (*key, symbol, made.revision, made.positions.get(symbol), made.status.get(symbol))
                for symbol in sorted(made.positions.keys() | made.status.keys())
            ],
        )

    # -- read ------------------------------------------------------------------------------

    def read(
        self, strategy_id: str, session: date, revision: int | Literal["latest", "first"] = "latest"
    ) -> Publication | None:
        """One publication; ``None`` where the session was not published."""
        with self._file.connection() as connection:
            return self._publication(connection, strategy_id, session, revision)

    def previous_positions(self, strategy_id: str, before: date) -> dict[str, float] | None:
        """Positions after the newest published session before a day, by its latest revision.

        ``None`` where no earlier session was published: unknown, which is not flat.
        """
        with self._file.connection() as connection:
            row = connection.execute(
                "SELECT MAX(session) AS session FROM publications "
                "WHERE strategy_id = ? AND session < ?",
                (strategy_id, _iso_day(before)),
            ).fetchone()
            if row["session"] is None:
                return None
            last = date.fromisoformat(row["session"])
            publication = self._publication(connection, strategy_id, last, "latest")
        assert publication is not None
        return dict(publication.positions)

    def open_signals(
        self, strategy_id: str, before: date, *, inclusive: bool = False
    ) -> list[Signal]:
        """What a reader of the signals has on before a session: the last word on each
        instrument, where that was not ``flat``.

        Args:
            inclusive: Count what is already published for ``before`` itself.
        """
        with self._file.connection() as connection:
            legs = self._open_legs(connection, strategy_id, before, inclusive=inclusive)
        return [legs[leg] for leg in sorted(legs)]

    def signals(
        self,
        strategy_id: str | None = None,
        session: date | None = None,
        *,
        start: date | None = None,
        end: date | None = None,
        revision: Revision = "latest",
    ) -> pd.DataFrame:
        """Signals as rows, oldest first; ``session`` for one, ``start`` and ``end`` inclusive."""
        return self._frame(
            f"SELECT {_SIGNAL_COLUMNS} FROM signals t",
            strategy_id, session or start, session or end, revision,
            "strategy_id, session, symbol, instrument_type, strike, expiry, revision",
        )  # fmt: skip

    def positions(
        self,
        strategy_id: str | None = None,
        session: date | None = None,
        *,
        start: date | None = None,
        end: date | None = None,
        revision: Revision = "latest",
    ) -> pd.DataFrame:
        """Positions and statuses as rows."""
        return self._frame(
            "SELECT strategy_id, session, symbol, revision, position, status FROM positions t",
            strategy_id, session or start, session or end, revision,
            "strategy_id, session, symbol, revision",
        )  # fmt: skip

    def publications(
        self,
        strategy_id: str | None = None,
        *,
        start: date | None = None,
        end: date | None = None,
        revision: Revision = "all",
    ) -> pd.DataFrame:
        """Every publication with its cause, sessions without a signal included."""
        return self._frame(
            "SELECT t.*, (SELECT COUNT(*) FROM signals s WHERE s.strategy_id = t.strategy_id AND "
            "s.session = t.session AND s.revision = t.revision) AS n_signals FROM publications t",
            strategy_id, start, end, revision, "strategy_id, session, revision",
        )  # fmt: skip

    def sessions(self, strategy_id: str) -> list[date]:
        """Sessions that were published, ascending."""
        frame = self.publications(strategy_id, revision="first")
        return [date.fromisoformat(day) for day in frame["session"]]

    def export(self, path: str | os.PathLike[str], *, revision: Revision = "latest") -> Path:
        """Write all signals to a ``.csv`` or ``.parquet`` file, whole or not at all.

        Raises:
            LedgerError: Another suffix.
        """
        target = Path(path)
        frame = self.signals(revision=revision)
        if target.suffix == ".csv":
            data = frame.to_csv(index=False).encode("utf-8")
        elif target.suffix == ".parquet":
            data = frame.to_parquet(index=False)
        else:
            raise LedgerError(f"an export must end in .csv or .parquet, found {target.name!r}")
        make_directory(target.resolve().parent)
        replace_file(target, data)
        return target

    def verify(self, session: date | None = None) -> list[str]:
        """Everything wrong with the ledger, as sentences; [] if it is consistent.

        Args:
            session: Look at this session's rows alone (cheap); default: the whole file.
        """
        with self._file.connection() as connection:
            problems: list[str] = []
            if session is None:
                answer = connection.execute("PRAGMA integrity_check").fetchone()[0]
                if answer != "ok":
                    problems.append(f"{self.path} must be intact, found: {answer}")
                broken = connection.execute("PRAGMA foreign_key_check").fetchall()
                problems += [f"a row of {row[0]} must belong to a publication" for row in broken]
            rows = connection.execute(
                "SELECT * FROM publications WHERE ? IN ('', session) "
                "ORDER BY strategy_id, session, revision",
                ("" if session is None else _iso_day(session),),
            ).fetchall()
            expected = 0
            last: tuple[str, str] | None = None
            for row in rows:
                key = (row["strategy_id"], row["session"])
                expected, last = (expected + 1 if key == last else 1), key
                name = f"{key[0]} {key[1]} revision {row['revision']}"
                if row["revision"] != expected:
                    problems.append(f"{name} must be revision {expected}; rows are missing")
                made = self._stored(connection, key[0], date.fromisoformat(key[1]), row["revision"])
                if made is None or content_hash(made[0].payload()) != row["payload_hash"]:
                    problems.append(f"{name} must match its payload hash; it was changed")
        return problems

    # -- inside ----------------------------------------------------------------------------

    def _publication(
        self,
        connection: sqlite3.Connection,
        strategy_id: str,
        session: date,
        revision: int | Literal["latest", "first"],
    ) -> Publication | None:
        """One publication, checked against the hash it was stored with.

        Raises:
            LedgerError: Its rows were changed: nothing goes on from them.
        """
        found = self._stored(connection, strategy_id, session, revision)
        if found is None:
            return None
        made, payload_hash = found
        if content_hash(made.payload()) != payload_hash:
            raise LedgerError(
                f"{strategy_id} {session} revision {made.revision} must match its payload hash, "
                f"found other rows in {self.path}; restore it from a backup (`tft signals verify` "
                "tells the whole damage)"
            )
        return made

    def _stored(
        self,
        connection: sqlite3.Connection,
        strategy_id: str,
        session: date,
        revision: int | Literal["latest", "first"],
    ) -> tuple[Publication, str] | None:
        """One publication as its rows say, and the hash it was stored with."""
        key = (strategy_id, _iso_day(session))
        order = "DESC" if revision == "latest" else "ASC"
        chosen = "" if isinstance(revision, str) else " AND revision = ?"
        head = connection.execute(
            f"SELECT * FROM publications WHERE strategy_id = ? AND session = ?{chosen} "
            f"ORDER BY revision {order} LIMIT 1",
            key if isinstance(revision, str) else (*key, revision),
        ).fetchone()
        if head is None:
            return None
        full = (*key, head["revision"])
        where = "WHERE strategy_id = ? AND session = ? AND revision = ?"
        signal_rows = connection.execute(f"SELECT * FROM signals {where}", full).fetchall()
        position_rows = connection.execute(f"SELECT * FROM positions {where}", full).fetchall()
        signals = [signal_of_row(row) for row in signal_rows]
        made = Publication(
            strategy_id=strategy_id,
            session=session,
            revision=head["revision"],
            cause=head["cause"],
            checkpoint_hash=head["checkpoint_hash"],
            published_at=head["published_at"],
            signals=tuple(sorted(signals, key=lambda signal: signal.leg)),
            corrected=frozenset(
                signal.leg
                for signal, row in zip(signals, signal_rows, strict=True)
                if row["is_correction"]
            ),
            positions={
                r["symbol"]: r["position"] for r in position_rows if r["position"] is not None
            },
            status={r["symbol"]: r["status"] for r in position_rows if r["status"] is not None},
            is_new=False,
        )
        return made, head["payload_hash"]

    @staticmethod
    def _open_legs(
        connection: sqlite3.Connection, strategy_id: str, before: date, *, inclusive: bool
    ) -> dict[Leg, Signal]:
        # in SQLite the other columns of a MAX() query come from the row of the maximum
        rows = connection.execute(
            f"SELECT {_SIGNAL_COLUMNS}, MAX(session) FROM signals t WHERE strategy_id = ? "
            f"AND session {'<=' if inclusive else '<'} ? AND {_CHOSEN['latest']} "
            "GROUP BY symbol, instrument_type, strike, expiry",
            (strategy_id, _iso_day(before)),
        ).fetchall()
        found = [signal_of_row(row) for row in rows]
        return {signal.leg: signal for signal in found if signal.direction != "flat"}

    def _frame(
        self,
        query: str,
        strategy_id: str | None,
        start: date | None,
        end: date | None,
        revision: Revision,
        order: str,
    ) -> pd.DataFrame:
        if revision not in _CHOSEN:
            raise LedgerError(f"revision must be one of {', '.join(_CHOSEN)}, found {revision!r}")
        where, values = [_CHOSEN[revision]], []
        for clause, value in (
            ("strategy_id = ?", strategy_id),
            ("session >= ?", _iso_day(start) if start else None),
            ("session <= ?", _iso_day(end) if end else None),
        ):
            if value is not None:
                where.append(clause)
                values.append(value)
        with self._file.connection() as connection:
            cursor = connection.execute(
                f"{query} WHERE {' AND '.join(where)} ORDER BY {order}", values
            )
            columns = [column[0] for column in cursor.description]
            return pd.DataFrame([tuple(row) for row in cursor.fetchall()], columns=columns)


def _refuse_bad_answer(
    strategy_id: str,
    session: date,
    signals: Sequence[Signal],
    positions: Mapping[str, float],
    cause: str,
) -> None:
    if not strategy_id or not cause.strip():
        raise LedgerError(
            f"a publication must name its strategy and cause, found {strategy_id!r}, {cause!r}"
        )
    _iso_day(session)
    legs: set[Leg] = set()
    for signal in signals:
        if signal.strategy_id != strategy_id:
            raise LedgerError(
                f"signals of {strategy_id} must carry its id, found {signal.strategy_id!r} "
                f"for {signal.symbol}"
            )
        if signal.leg in legs:
            raise LedgerError(
                f"an instrument must have one signal a session, found two for {signal.leg} of "
                f"{strategy_id} on {session}"
            )
        legs.add(signal.leg)
    for symbol, position in positions.items():
        if not abs(position) < float("inf"):
            raise LedgerError(
                f"position of {symbol} must be finite, found {position} on {session}; "
                "nothing was published"
            )


def _iso_day(day: date) -> str:
    """A session's key; a time of day would sort after its own session."""
    if isinstance(day, datetime):
        raise LedgerError(f"session must be a date without time, found {day!r}; use .date()")
    return day.isoformat()
