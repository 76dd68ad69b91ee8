"""The market store: one DuckDB file of bars with their vintages, and reads as of an instant.

What a row must be to come in is decided in ``ingest`` and ``rules``, how it is kept in
``store_writing``; here it is read back as it was known. ``connection`` opens the file.
"""

import difflib
import os
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd

from tft_core.config import load_settings
from tft_core.data import store_sql
from tft_core.data import store_writing as writing
from tft_core.data.connection import Connection
from tft_core.data.facts import prepare_instruments, prepare_series
from tft_core.data.ingest import prepare_bars
from tft_core.data.moments import AsOf, DateLike, as_of_instant, session_day, utc_naive
from tft_core.data.panel import FIELDS, MarketPanel
from tft_core.data.report import IngestReport
from tft_core.data.store_schema import require_schema
from tft_core.data.vintages import VintageBlock, blocks_of
from tft_core.errors import DataError, UnknownSymbolError
from tft_core.schema import array_hash

RECENT_DAYS = 30
"""A symbol counts as trading on a day if it had a bar in so many days before."""


class MarketDataStore:
    """Bars, instruments and exogenous series in one file, with every vintage kept.

    Reads take ``as_of``: a ``date`` (through the end of that day), a ``datetime`` (UTC where it
    has no zone) or ``None`` (all that is known). A pandas timestamp at midnight is a session
    date, thus a ``date``. A store opened with ``as_of`` never reads past it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        read_only: bool = False,
        *,
        lock_timeout_s: float = 10.0,
        as_of: AsOf = None,
    ) -> None:
        """Open the store, making it if it is to be written and does not exist.

        Args:
            path: The DuckDB file; default the one of the configuration.
            read_only: Refuse to write, and share the file with other readers.
            lock_timeout_s: How long to wait for another process to let go of the file.
            as_of: No read of this object sees anything that became known later.

        Raises:
            StoreLockedError: Another process held the file all that time.
            DataError: There is no such store to read, or the file is something else.
        """
        self.path = Path(path) if path is not None else load_settings().store_path
        self.read_only = read_only
        self._as_of = as_of_instant(as_of)
        self._db = Connection(self.path, read_only, lock_timeout_s)
        self._seen: frozenset[str] = frozenset()
        """Symbols found to have bars: bars are never deleted, so they still do."""
        try:
            require_schema(self._db, self.path, make=not read_only)
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> "MarketDataStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # -- writing -----------------------------------------------------------------------------

    def ingest(
        self,
        source: pd.DataFrame | str | os.PathLike[str],
        *,
        instruments: pd.DataFrame | str | os.PathLike[str] | None = None,
        ingested_at: datetime | None = None,
        source_name: str | None = None,
    ) -> IngestReport:
        """Take in bars; all of the source that can be used, or nothing if it makes no sense.

        A bar that the store does not hold counts as known at the end of its session day plus
        the instrument's publication lag, unless the source has ``available_at``. A bar that
        differs from what is known becomes a second vintage, known from ``ingested_at`` on.
        Faults that only later bars show (see ``history``) are findings of the day that showed
        them; a bar that can't be true is withheld from reads as of that day and later.

        Args:
            source: Long bars, one row per date and symbol: DataFrame, Parquet or CSV file.
            instruments: Facts of the symbols (see ``set_instruments``), stored with the bars.
            ingested_at: Instant of knowledge of restatements; default now.
            source_name: What reports and errors call the source; default its path.

        Raises:
            DataError: The source cannot be understood. The store is as it was.
        """
        self._require_writable("ingest bars")
        moment = utc_naive(ingested_at) if ingested_at is not None else _now()
        facts = None if instruments is None else prepare_instruments(instruments)
        prepared = prepare_bars(
            source, instruments=_overlay(self.instruments(), facts), source_name=source_name
        )
        with self._db.transaction():
            number = writing.next_ingestion(self._db)
            for frame in (prepared.instruments, facts):
                if frame is not None:
                    writing.upsert_instruments(self._db, frame)
            new, restated, unchanged = writing.keep_bars(self._db, prepared, moment, number)
            quarantined = writing.keep_quarantine(self._db, prepared, number)
            report = prepared.report(
                history=writing.findings_of(self._db, prepared, number),
                ingestion_id=number,
                ingested_at=moment,
                new=new,
                restated=restated,
                unchanged=unchanged,
            )
            writing.log_ingestion(self._db, report, newly_quarantined=quarantined)
        return report

    def set_instruments(self, frame: pd.DataFrame | str | os.PathLike[str]) -> None:
        """Insert or update instruments; columns that are not given keep what they had.

        Args:
            frame: ``symbol`` (column or index) and any of ``asset_class, exchange, currency,
                cost_bps, cost_vol, publication_lag_days, description``; others are ignored.
                A publication lag applies to bars that are ingested after it is set.

        Raises:
            DataError: No symbol column, a symbol twice, or a value out of its range.
        """
        self._require_writable("set instruments")
        facts = prepare_instruments(frame)
        with self._db.transaction():
            writing.upsert_instruments(self._db, facts)

    def ingest_series(
        self,
        frame: pd.DataFrame | str | os.PathLike[str],
        *,
        ingested_at: datetime | None = None,
    ) -> int:
        """Take in point-in-time values of exogenous series.

        A value without ``available_at`` counts as known at the end of ``date``. One that differs
        from what is known is a revision, known from ``ingested_at`` on.

        Args:
            frame: ``name, date, value`` and, where it is told, ``available_at``.
            ingested_at: Instant of knowledge of revisions; default now.

        Returns:
            Number of values that the store did not hold yet.

        Raises:
            DataError: A column is missing, or a value is not a number.
        """
        self._require_writable("ingest series")
        moment = utc_naive(ingested_at) if ingested_at is not None else _now()
        rows = prepare_series(frame)
        source = "DataFrame" if isinstance(frame, pd.DataFrame) else str(frame)
        with self._db.transaction():
            new = writing.keep_series(self._db, rows, source, moment)
        return new

    # -- reading -----------------------------------------------------------------------------

    def instruments(self) -> pd.DataFrame:
        """Facts of every symbol that has bars or was described, indexed by symbol.

        Unknown texts are ``""`` (``asset_class`` is ``"unknown"``), unknown costs NaN.
        """
        return self._db.frame(store_sql.INSTRUMENTS).set_index("symbol")

    def exchanges(self, symbols: Sequence[str]) -> dict[str, str]:
        """Exchange of each of the symbols that has one."""
        return dict(self._db.rows(store_sql.EXCHANGES, [list(symbols)]))

    def symbols(self, as_of: AsOf = None) -> tuple[str, ...]:
        """Every symbol that has a bar, in alphabetic order."""
        known, params = self._known(as_of)
        rows = self._db.rows(f"SELECT DISTINCT symbol FROM bar_vintages WHERE {known}", params)
        return tuple(sorted(row[0] for row in rows))

    def bars(
        self,
        symbols: Sequence[str] | None = None,
        start: DateLike = None,
        end: DateLike = None,
        as_of: AsOf = None,
    ) -> pd.DataFrame:
        """Long bars from ``start`` to ``end``, both included, ordered by symbol and date.

        Raises:
            UnknownSymbolError: A symbol has no bar in the store.
        """
        where, params = self._selection(symbols, start, end, as_of)
        return self._db.frame(
            f"SELECT date, symbol, {', '.join(FIELDS)} FROM bar_vintages "
            f"WHERE {where} ORDER BY symbol, date",
            params,
        )

    def panel(
        self,
        symbols: Sequence[str] | None = None,
        start: DateLike = None,
        end: DateLike = None,
        as_of: AsOf = None,
    ) -> MarketPanel:
        """The same bars as wide arrays, in the order of ``symbols``.

        Raises:
            UnknownSymbolError: A symbol has no bar in the store.
        """
        chosen = self.symbols(as_of) if symbols is None else tuple(symbols)
        where, params = self._selection(symbols, start, end, as_of)
        bars = self._db.arrays(
            store_sql.NUMBERED_BARS.format(where=where), [list(chosen), list(chosen), *params]
        )
        days, rows = np.unique(bars["date"].astype("datetime64[D]"), return_inverse=True)
        dates = pd.DatetimeIndex(days).as_unit("us")
        return MarketPanel.from_columns(dates, chosen, rows, bars["place"], bars)

    def session_dates(
        self,
        symbols: Sequence[str] | None = None,
        start: DateLike = None,
        end: DateLike = None,
        as_of: AsOf = None,
    ) -> pd.DatetimeIndex:
        """Dates on which at least one of the symbols had a session, as far as known.

        The session of a bar that is withheld by now took place: its row is built as of then.
        """
        where, params = self._selection(symbols, start, end, as_of, any_vintage=True)
        arrays = self._db.arrays(
            f"SELECT DISTINCT date FROM bar_vintages WHERE {where} ORDER BY date", params
        )
        return pd.DatetimeIndex(arrays["date"], dtype="datetime64[us]")

    def first_session(self, symbols: Sequence[str] | None = None) -> date:
        """Date of the earliest bar."""
        return self._extreme("min", symbols, None)

    def last_session(self, symbols: Sequence[str] | None = None, as_of: AsOf = None) -> date:
        """Date of the newest bar."""
        return self._extreme("max", symbols, as_of)

    def history_start(
        self, symbols: Sequence[str] | None, before: date, sessions: int, as_of: AsOf = None
    ) -> date:
        """Earliest date needed so that every trading symbol has enough of its own sessions.

        Args:
            symbols: Which symbols; ``None`` is all. Those without a bar in the 30 days up to
                ``before`` don't count. If none is left, the answer is ``before`` itself.
            before: Last day of the history, included.
            sessions: Own sessions wanted up to and including ``before``; a symbol that has
                fewer gives its first one.
        """
        last, wanted = session_day(before), max(sessions, 1)
        found: date | None = None
        # all of a long history is read only where some symbol has pauses, or is young
        for first in (last - timedelta(days=2 * wanted + RECENT_DAYS), None):
            where, params = self._selection(symbols, first, last, as_of)
            found, is_enough = self._db.rows(
                store_sql.HISTORY_START.format(where=where),
                [wanted, wanted, *params, last, RECENT_DAYS],
            )[0]
            if is_enough:
                break
        return last if found is None else found

    def vintage_blocks(
        self, start: date, end: date, symbols: Sequence[str] | None = None
    ) -> list[VintageBlock]:
        """Split start … end, both included, into spans whose rows share one set of known vintages.

        The last block's ``known_at`` is ``None`` if nothing that became known later concerns a
        bar up to ``end``.

        As of:
            See ``vintages.blocks_of``.
        """
        start, end = session_day(start), session_day(end)
        where, params = self._selection(symbols, None, end, None, any_vintage=True)
        changes = [
            r[0]
            for r in self._db.rows(
                store_sql.LATE_KNOWLEDGE.format(where=where), [*params, start, start]
            )
        ]
        sessions: list[date] = self.session_dates(symbols, start, end).date.tolist()
        return blocks_of(sessions, changes, start, end)

    def late_share(
        self,
        symbols: Sequence[str] | None = None,
        start: DateLike = None,
        end: DateLike = None,
        as_of: AsOf = None,
    ) -> pd.Series:
        """Share of each symbol's bars that were first known after their own session day.

        Such a bar is not there when the decision of its day is made, so it gives no feature row
        (docs/adr/0003-late-instruments-are-inputs.md).
        """
        where, params = self._selection(symbols, start, end, as_of, any_vintage=True)
        found = self._db.frame(store_sql.LATE_SHARE.format(where=where), params)
        return pd.Series(found["share"].to_numpy(), index=pd.Index(found["symbol"]))

    def data_hash(
        self,
        symbols: Sequence[str] | None = None,
        start: DateLike = None,
        end: DateLike = None,
        as_of: AsOf = None,
    ) -> str:
        """SHA-256 of the bars' content, whatever the order or number of ingestions."""
        where, params = self._selection(symbols, start, end, as_of)
        arrays = self._db.arrays(
            f"SELECT date, symbol, {', '.join(FIELDS)} FROM bar_vintages "
            f"WHERE {where} ORDER BY symbol, date",
            params,
        )
        names, codes = np.unique(arrays["symbol"].astype(str), return_inverse=True)
        return array_hash(
            np.frombuffer("\n".join(names).encode(), dtype=np.uint8),
            codes.astype(np.int64),
            arrays["date"].astype("datetime64[D]").astype(np.int64),
            *(np.where(np.isnan(arrays[f]), np.nan, arrays[f] + 0.0) for f in FIELDS),
        )

    def series(
        self,
        names: Sequence[str] | None = None,
        start: DateLike = None,
        end: DateLike = None,
        as_of: AsOf = None,
    ) -> pd.DataFrame:
        """Exogenous values, every vintage known at ``as_of``: ``name, date, value, available_at``.

        A revised value stands beside its first release, so that a join on ``available_at``
        gives each row what was known then. Ordered by name, date, available_at; of vintages of
        one instant the last one counts.
        """
        conditions: list[str] = []
        params: list[Any] = []
        if names is not None:
            conditions.append("name IN (SELECT unnest(?))")
            params.append(list(names))
        for operator, bound in ((">=", start), ("<=", end)):
            if bound is not None:
                conditions.append(f"date {operator} ?")
                params.append(session_day(bound))
        limit = self._instant(as_of)
        if limit is not None:
            conditions.append("available_at <= ?")
            params.append(limit)
        return self._db.frame(
            "SELECT name, date, value, available_at FROM series_vintages "
            f"WHERE {' AND '.join(conditions) or 'TRUE'} "
            "ORDER BY name, date, available_at, rowid",
            params,
        )

    def findings(self, symbols: Sequence[str] | None = None, as_of: AsOf = None) -> pd.DataFrame:
        """What was known to be doubtful about the accepted bars: ``rule, outcome, symbol, date,
        value, known_at``, ordered by symbol and date.

        ``flagged`` bars are read like any other; ``withheld`` ones are not, from ``known_at`` on.

        As of:
            ``as_of``: a finding that took later bars to be seen is not there before them.
        """
        known, params = self._known(as_of)
        limit = self._instant(as_of)
        revealed = "TRUE" if limit is None else "known_at <= ?"
        chosen, names = "TRUE", []
        if symbols is not None:
            self._require_known(symbols)
            chosen, names = "symbol IN (SELECT unnest(?::VARCHAR[]))", [list(symbols)]
        return self._db.frame(
            store_sql.FINDINGS.format(known=known, revealed=revealed, chosen=chosen),
            [*params, *names, *([] if limit is None else [limit]), *names],
        )

    def quarantine(self) -> pd.DataFrame:
        """Every rejected row with the rule that rejected it and its text as it came."""
        return self._db.frame("SELECT * FROM quarantine ORDER BY ingestion_id, source_row, rule")

    def ingestions(self) -> pd.DataFrame:
        """The log of ingestions, oldest first."""
        return self._db.frame("SELECT * FROM ingestions ORDER BY ingestion_id")

    def sql(
        self, query: str, params: Sequence[Any] | None = None, *, as_of: AsOf = None
    ) -> pd.DataFrame:
        """Run one SELECT; ``bars`` and ``series`` show what was known at ``as_of``.

        Args:
            query: One statement. Tables: ``bars, instruments, series, quarantine, ingestions``,
                ``history_findings``, and ``bar_vintages`` with every vintage.
            params: Values of the ``?`` in the query.

        Raises:
            DataError: The statement would write, is not one statement, or fails.
        """
        views = store_sql.as_of_views(self._instant(as_of))
        return self._db.select(query, list(params or ()), views)

    def summary(self) -> dict[str, Any]:
        """What the store holds, in plain values."""
        row = self._db.rows(store_sql.SUMMARY)[0]
        facts = dict(zip(store_sql.SUMMARY_NAMES, row, strict=True))
        for key in ("first", "last"):
            facts[key] = facts[key].isoformat() if facts[key] is not None else None
        return {"path": str(self.path), **facts}

    # -- inside ------------------------------------------------------------------------------

    def _require_writable(self, what: str) -> None:
        if self.read_only:
            raise DataError(
                f"market store must be open for writing to {what}, found read_only=True "
                f"for {self.path}; open it with read_only=False"
            )

    def _instant(self, as_of: AsOf) -> datetime | None:
        limits = [at for at in (as_of_instant(as_of), self._as_of) if at is not None]
        return min(limits) if limits else None

    def _known(self, as_of: AsOf) -> tuple[str, list[Any]]:
        limit = self._instant(as_of)
        if limit is None:
            return store_sql.CURRENT, []
        return store_sql.known_at("?"), [limit] * 3

    def _selection(
        self,
        symbols: Sequence[str] | None,
        start: DateLike,
        end: DateLike,
        as_of: AsOf,
        any_vintage: bool = False,
    ) -> tuple[str, list[Any]]:
        params: list[Any]
        known, params = self._known(as_of)
        if any_vintage:
            limit = self._instant(as_of)
            known, params = ("TRUE", []) if limit is None else ("available_at <= ?", [limit])
        conditions = [known]
        if symbols is not None:
            self._require_known(symbols)
            conditions.append("symbol IN (SELECT unnest(?::VARCHAR[]))")
            params.append(list(symbols))
        for operator, bound in ((">=", start), ("<=", end)):
            if bound is not None:
                conditions.append(f"date {operator} ?")
                params.append(session_day(bound))
        return " AND ".join(f"({c})" for c in conditions), params

    def _require_known(self, symbols: Sequence[str]) -> None:
        if isinstance(symbols, str):
            raise DataError(f"symbols must be a sequence, found the text {symbols!r}; use a list")
        if len(set(symbols)) != len(symbols):
            twice = next(s for i, s in enumerate(symbols) if s in symbols[:i])
            raise DataError(f"symbols must each occur once, found {twice} twice; remove one")
        if self._seen.issuperset(symbols):
            return
        held = [row[0] for row in self._db.rows("SELECT DISTINCT symbol FROM bar_vintages")]
        self._seen = frozenset(held)
        unknown = [symbol for symbol in symbols if symbol not in self._seen]
        if unknown:
            near = difflib.get_close_matches(unknown[0], held, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "ingest its bars first"
            raise UnknownSymbolError(
                f"symbol must be in the store {self.path}, found {', '.join(unknown[:5])}; {hint}"
            )

    def _extreme(self, which: str, symbols: Sequence[str] | None, as_of: AsOf) -> date:
        where, params = self._selection(symbols, None, None, as_of)
        found = self._db.rows(f"SELECT {which}(date) FROM bar_vintages WHERE {where}", params)[0][0]
        if found is None:
            raise DataError(
                f"market store {self.path} must hold bars, found none"
                f"{' that were known then' if self._instant(as_of) else ''}; "
                "run `tft sample` or `tft ingest PATH`"
            )
        return found


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _overlay(held: pd.DataFrame, facts: pd.DataFrame | None) -> pd.DataFrame:
    """Instruments as they will be once ``facts`` are stored."""
    if facts is None:
        return held
    given = facts.set_index("symbol")
    merged = held.reindex(held.index.union(given.index))
    merged.update(given)
    return merged
