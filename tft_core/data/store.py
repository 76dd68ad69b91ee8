"""The market store: one DuckDB file of bars with their vintages, and reads as of an instant.

Only this module opens DuckDB. What a row must be to come in is decided in ``ingest`` and
``rules``; here it is kept, restated without forgetting, and read back as it was known.
"""

import difflib
import json
import os
import re
import threading
import time as clock
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from tft_core.config import load_settings
from tft_core.data import store_sql
from tft_core.data.ingest import PreparedBars, prepare_bars, prepare_instruments, prepare_series
from tft_core.data.moments import AsOf, DateLike, as_of_instant, session_day, utc_naive
from tft_core.data.panel import FIELDS, MarketPanel
from tft_core.data.report import IngestReport
from tft_core.errors import DataError, StoreLockedError, UnknownSymbolError
from tft_core.schema import array_hash

READABLE_STATEMENTS = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
_LOCK_HOLDER = re.compile(r"lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_CONFIG: dict[str, Any] = {
    "autoinstall_known_extensions": "false"
}  # nothing is downloaded at run time
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
        self._write_lock = threading.RLock()
        self._con = _open(self.path, read_only, lock_timeout_s)
        try:
            self._check_schema()
        except BaseException:
            self._con.close()
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
        self._con.close()

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
        with self._transaction():
            number = self._next_ingestion()
            for frame in (prepared.instruments, facts):
                if frame is not None:
                    self._upsert_instruments(frame)
            new, restated, unchanged = self._keep_bars(prepared, moment, number)
            quarantined = self._keep_quarantine(prepared, number)
            report = prepared.report(
                ingestion_id=number,
                ingested_at=moment,
                new=new,
                restated=restated,
                unchanged=unchanged,
            )
            self._run(
                "INSERT INTO ingestions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    number,
                    moment,
                    "bars",
                    report.source,
                    report.rows_in,
                    report.accepted,
                    report.flagged,
                    report.quarantined,
                    report.exact_duplicates,
                    new,
                    restated,
                    quarantined,
                    json.dumps(report.to_dict(), sort_keys=True),
                ],
            )
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
        with self._transaction():
            self._upsert_instruments(facts)

    def ingest_series(self, frame: pd.DataFrame | str | os.PathLike[str]) -> int:
        """Take in point-in-time values of exogenous series.

        Args:
            frame: ``name, date, value`` and ``available_at`` (default the end of ``date``).

        Returns:
            Number of values that the store did not hold yet.

        Raises:
            DataError: A column is missing, or a value is not a number.
        """
        self._require_writable("ingest series")
        rows = prepare_series(frame)
        with self._transaction(), self._registered(staged_series=rows):
            before = self._scalar("SELECT count(*) FROM series_vintages")
            self._run(store_sql.INSERT_SERIES)
            return self._scalar("SELECT count(*) FROM series_vintages") - before

    # -- reading -----------------------------------------------------------------------------

    def instruments(self) -> pd.DataFrame:
        """Facts of every symbol that has bars or was described, indexed by symbol.

        Unknown texts are ``""`` (``asset_class`` is ``"unknown"``), unknown costs NaN.
        """
        return self._frame(store_sql.INSTRUMENTS).set_index("symbol")

    def symbols(self, as_of: AsOf = None) -> tuple[str, ...]:
        """Every symbol that has a bar, in alphabetic order."""
        known, params = self._known(as_of)
        rows = self._rows(f"SELECT DISTINCT symbol FROM bar_vintages WHERE {known}", params)
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
        return self._frame(
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
        return MarketPanel.from_bars(self.bars(symbols, start, end, as_of), chosen)

    def session_dates(
        self,
        symbols: Sequence[str] | None = None,
        start: DateLike = None,
        end: DateLike = None,
        as_of: AsOf = None,
    ) -> pd.DatetimeIndex:
        """Dates on which at least one of the symbols has a bar."""
        where, params = self._selection(symbols, start, end, as_of)
        arrays = self._arrays(
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
        where, params = self._selection(symbols, None, before, as_of)
        found = self._rows(
            store_sql.HISTORY_START.format(where=where),
            [*params, max(sessions, 1), session_day(before), RECENT_DAYS],
        )[0][0]
        return session_day(before) if found is None else found

    def vintage_blocks(
        self, start: date, end: date, symbols: Sequence[str] | None = None
    ) -> list[tuple[date, date, date | None]]:
        """Split rows start … end into spans that share one set of known vintages.

        Every row t of a block sees, at the block's ``as_of``, exactly the bars up to t that
        were known at the end of day t. Blocks tile [start, end], both ends included.

        Returns:
            (first day, last day, as_of), where ``as_of`` is ``None`` in the last block if
            nothing that became known later concerns a bar up to ``end``.
        """
        start, end = session_day(start), session_day(end)
        where, params = self._selection(symbols, None, end, None, any_vintage=True)
        changes = [r[0] for r in self._rows(store_sql.LATE_KNOWLEDGE.format(where=where), params)]
        sessions: list[date] = self.session_dates(symbols, start, end).date.tolist()
        firsts = [start]
        for change in changes:  # a block begins at the first session that sees the change
            at = bisect_left(sessions, change)
            if 0 < at < len(sessions) and sessions[at] > firsts[-1]:
                firsts.append(sessions[at])
        blocks: list[tuple[date, date, date | None]] = []
        for first, following in zip(firsts, [*firsts[1:], None], strict=True):
            last = end if following is None else following - timedelta(days=1)
            before = bisect_right(sessions, last)
            # what becomes known between the last session and the next block is the next block's
            known = sessions[before - 1] if before and sessions[before - 1] >= first else last
            is_all = following is None and (not changes or changes[-1] <= known)
            blocks.append((first, last, None if is_all else known))
        return blocks

    def data_hash(
        self,
        symbols: Sequence[str] | None = None,
        start: DateLike = None,
        end: DateLike = None,
        as_of: AsOf = None,
    ) -> str:
        """SHA-256 of the bars' content, whatever the order or number of ingestions."""
        where, params = self._selection(symbols, start, end, as_of)
        arrays = self._arrays(
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
        gives each row what was known then. Ordered by name, date, available_at.
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
        return self._frame(
            "SELECT name, date, value, available_at FROM series_vintages "
            f"WHERE {' AND '.join(conditions) or 'TRUE'} ORDER BY name, date, available_at",
            params,
        )

    def quarantine(self) -> pd.DataFrame:
        """Every rejected row with the rule that rejected it and its text as it came."""
        return self._frame("SELECT * FROM quarantine ORDER BY ingestion_id, source_row, rule")

    def ingestions(self) -> pd.DataFrame:
        """The log of ingestions, oldest first."""
        return self._frame("SELECT * FROM ingestions ORDER BY ingestion_id")

    def sql(
        self, query: str, params: Sequence[Any] | None = None, *, as_of: AsOf = None
    ) -> pd.DataFrame:
        """Run one SELECT; ``bars`` and ``series`` show what was known at ``as_of``.

        Args:
            query: One statement. Tables: ``bars, instruments, series, quarantine, ingestions``,
                and ``bar_vintages`` with every vintage.
            params: Values of the ``?`` in the query.

        Raises:
            DataError: The statement would write, is not one statement, or fails.
        """
        limit = self._instant(as_of)
        try:
            statements = duckdb.extract_statements(query)
            kinds = [statement.type for statement in statements]
            if len(kinds) != 1 or kinds[0] not in READABLE_STATEMENTS:
                found = ", ".join(kind.name for kind in kinds) or "nothing"
                raise DataError(
                    f"sql must be one SELECT, found {found}; "
                    "write through ingest, ingest_series and set_instruments"
                )
            with self._con.cursor() as cursor:
                cursor.execute(store_sql.as_of_views(limit))
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                return cursor.execute(query, list(params or ())).df()
        except duckdb.Error as error:
            raise DataError(
                f"sql must be a query that DuckDB can run on this store, found: {error}"
            ) from error

    def summary(self) -> dict[str, Any]:
        """What the store holds, in plain values."""
        row = self._rows(store_sql.SUMMARY)[0]
        facts = dict(zip(store_sql.SUMMARY_NAMES, row, strict=True))
        for key in ("first", "last"):
            facts[key] = facts[key].isoformat() if facts[key] is not None else None
        return {"path": str(self.path), **facts}

    # -- inside ------------------------------------------------------------------------------

    def _check_schema(self) -> None:
        tables = {row[0] for row in self._rows("SELECT table_name FROM duckdb_tables()")}
        if not tables and not self.read_only:
            with self._transaction():
                self._run(store_sql.SCHEMA)
            return
        if "store_meta" not in tables:
            raise DataError(
                f"{self.path} must be a market store, found a DuckDB file with "
                f"{', '.join(sorted(tables)) or 'no tables'}; give another path"
            )
        version = self._scalar("SELECT schema_version FROM store_meta")
        if version != store_sql.SCHEMA_VERSION:
            raise DataError(
                f"{self.path} must have store schema {store_sql.SCHEMA_VERSION}, found {version}; "
                "ingest your files into a new store"
            )

    def _keep_bars(
        self, prepared: PreparedBars, moment: datetime, number: int
    ) -> tuple[int, int, int]:
        with self._registered(staged=prepared.clean):
            self._run(store_sql.STAGE_INCOMING, [moment])
        counts = dict(self._run("SELECT news, count(*) FROM incoming GROUP BY news"))
        self._run(store_sql.INSERT_BARS, [number])
        if counts.get("restated"):
            self._run(store_sql.SUPERSEDE)
        self._run("DROP TABLE incoming")
        return counts.get("new", 0), counts.get("restated", 0), counts.get("unchanged", 0)

    def _keep_quarantine(self, prepared: PreparedBars, number: int) -> int:
        if prepared.quarantined.empty:
            return 0
        with self._registered(staged_quarantine=prepared.quarantined):
            return self._run(store_sql.INSERT_QUARANTINE, [number])[0][0]

    def _upsert_instruments(self, facts: pd.DataFrame) -> None:
        columns = [name for name in facts.columns if name != "symbol"]
        with self._registered(staged_instruments=facts):
            self._run(store_sql.ADD_INSTRUMENTS)
            if columns:
                self._run(store_sql.update_instruments(columns))

    def _next_ingestion(self) -> int:
        return self._scalar("SELECT coalesce(max(ingestion_id), 0) + 1 FROM ingestions")

    def _require_writable(self, what: str) -> None:
        if self.read_only:
            raise DataError(
                f"market store must be open for writing to {what}, found read_only=True "
                f"for {self.path}; open it with read_only=False"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._write_lock:  # threads of one process share the connection
            self._run("BEGIN TRANSACTION")
            try:
                yield
            except BaseException:
                self._run("ROLLBACK")
                raise
            self._run("COMMIT")

    @contextmanager
    def _registered(self, **frames: pd.DataFrame) -> Iterator[None]:
        for name, frame in frames.items():
            self._con.register(name, frame)
        try:
            yield
        finally:
            for name in frames:
                self._con.unregister(name)

    def _rows(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._con.cursor() as cursor:
            return cursor.execute(query, list(params)).fetchall()

    def _run(self, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run on the writing connection, thus inside its transaction."""
        result = self._con.execute(query, list(params)) if params else self._con.execute(query)
        return result.fetchall() if result.description else []

    def _scalar(self, query: str) -> int:
        return self._run(query)[0][0]

    def _frame(self, query: str, params: Sequence[Any] = ()) -> pd.DataFrame:
        with self._con.cursor() as cursor:
            return cursor.execute(query, list(params)).df()

    def _arrays(self, query: str, params: Sequence[Any] = ()) -> dict[str, np.ndarray]:
        """Columns as plain arrays, NULL as NaN: three times as fast as a DataFrame."""
        with self._con.cursor() as cursor:
            columns = cursor.execute(query, list(params)).fetchnumpy()
        return {
            name: values.filled(np.nan)
            if isinstance(values, np.ma.MaskedArray)
            else np.asarray(values)
            for name, values in columns.items()
        }

    def _instant(self, as_of: AsOf) -> datetime | None:
        limits = [at for at in (as_of_instant(as_of), self._as_of) if at is not None]
        return min(limits) if limits else None

    def _known(self, as_of: AsOf) -> tuple[str, list[Any]]:
        limit = self._instant(as_of)
        if limit is None:
            return "superseded_at IS NULL", []
        return "available_at <= ? AND (superseded_at IS NULL OR superseded_at > ?)", [limit, limit]

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
        held = [row[0] for row in self._rows("SELECT DISTINCT symbol FROM bar_vintages")]
        unknown = [symbol for symbol in symbols if symbol not in set(held)]
        if unknown:
            near = difflib.get_close_matches(unknown[0], held, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "ingest its bars first"
            raise UnknownSymbolError(
                f"symbol must be in the store {self.path}, found {', '.join(unknown[:5])}; {hint}"
            )

    def _extreme(self, which: str, symbols: Sequence[str] | None, as_of: AsOf) -> date:
        where, params = self._selection(symbols, None, None, as_of)
        found = self._rows(f"SELECT {which}(date) FROM bar_vintages WHERE {where}", params)[0][0]
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
