"""From a source to rows that may be stored: read, type, judge, tell duplicates, validate.

Pure: nothing here touches the store. The order of the steps is the account of an ingestion,
``rows in = accepted + quarantined + exact duplicates``.
"""

import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from tft_core.data import calendar
from tft_core.data.facts import FACT_COLUMNS, given_instants
from tft_core.data.parsing import (
    ParsedStamps,
    example_of,
    parse_numbers,
    parse_stamps,
    parse_symbols,
)
from tft_core.data.reading import BAR_ALIASES, RawTable, read_table
from tft_core.data.report import FINDING_COLUMNS, IngestReport
from tft_core.data.rules import (
    CONFLICTING_DUPLICATE,
    INTRADAY_ROW,
    TypedBars,
    apply_rules,
    no_row_findings,
    reason_of,
    rows_by_exchange,
)
from tft_core.errors import DataError
from tft_core.schema import BAR_COLUMNS, FIELDS, PRICE_COLUMNS

SCALED_COLUMNS = ("volume", "open_interest")
"""Columns in which ``1.2M`` and the like count as numbers."""


@dataclass(frozen=True, slots=True)
class PreparedBars:
    """What one source comes to: rows to keep, rows to quarantine, and the account."""

    source: str
    clean: pd.DataFrame
    """``date, symbol, open … open_interest, available_at, flags``; one row per vintage."""
    quarantined: pd.DataFrame
    """``source, source_row, symbol, date, rule, reason, raw``."""
    findings: pd.DataFrame
    rows_in: int
    exact_duplicates: int
    instruments: pd.DataFrame | None
    """Facts of the symbols that the bars themselves carried."""
    notes: tuple[str, ...]
    ignored_columns: tuple[str, ...]

    def report(self, *, history: pd.DataFrame, **counts: Any) -> IngestReport:
        """The account, once the store has said what was new and what the histories show.

        Args:
            history: ``rule, outcome, symbol, date, value, known_at`` of the stored histories.
        """
        dates = self.clean["date"]
        keys = pd.MultiIndex.from_frame(self.clean[["symbol", "date"]])
        flagged = self.clean["flags"].notna().to_numpy() | keys.isin(
            pd.MultiIndex.from_frame(history[["symbol", "date"]])
        )
        return IngestReport(
            source=self.source,
            rows_in=self.rows_in,
            accepted=len(self.clean),
            flagged=int(flagged.sum()),
            quarantined=len(self.quarantined),
            exact_duplicates=self.exact_duplicates,
            symbols=tuple(sorted(self.clean["symbol"].unique())),
            first=dates.min().date() if len(dates) else None,
            last=dates.max().date() if len(dates) else None,
            findings=_joined(self.findings, history),
            notes=self.notes,
            ignored_columns=self.ignored_columns,
            **counts,
        )


def prepare_bars(
    source: pd.DataFrame | str | os.PathLike[str],
    *,
    instruments: pd.DataFrame | None = None,
    source_name: str | None = None,
) -> PreparedBars:
    """Read and judge a source of bars.

    Args:
        source: Long bars; DataFrame, Parquet or CSV.
        instruments: Known facts indexed by symbol; ``exchange`` decides the calendar.
        source_name: What reports and errors call the source; default its path.

    Raises:
        DataError: The source cannot be understood as bars.
    """
    table = read_table(source, BAR_ALIASES, ("date", "symbol", "close"), name=source_name)
    raw = table.frame
    symbol = parse_symbols(raw["symbol"])
    facts, fact_notes = _facts_of(raw, symbol)
    exchange = _exchanges(instruments, facts)
    stamps = parse_stamps(raw["date"], source=table.source)
    wall, zone_notes = _session_wall(stamps, symbol, exchange)
    _refuse_contracts(table, symbol, wall)
    numbers, unreadable, number_notes = _numbers(table)
    available, bad_available, available_notes = given_instants(table, wall)
    typed = TypedBars(
        symbol=symbol,
        date=wall.to_numpy("datetime64[D]"),
        numbers=numbers,
        unreadable=unreadable,
        exchange=exchange,
        latest=np.datetime64((datetime.now(UTC) + timedelta(days=1)).date()),
        bad_available=bad_available,
    )
    found, rejected, flags = apply_rules(typed)
    frame = pd.DataFrame(
        {
            "date": wall.normalize(),
            "symbol": symbol,
            **{name: numbers[name] for name in FIELDS},
            "available_at": available,
            "flags": flags,
        }
    )
    is_exact, conflicts = _duplicates(frame, rejected, wall)
    found = pd.concat([found, conflicts], ignore_index=True)
    hit = np.unique(conflicts["row"].to_numpy(dtype=np.int64))
    found = found[~((found["outcome"] == "flagged") & found["row"].isin(hit))]
    found = found[~(found["row"].isin(np.flatnonzero(is_exact)))]
    rejected[hit] = True
    clean = frame[~rejected & ~is_exact].reset_index(drop=True)
    _validate(clean, table.source)
    return PreparedBars(
        source=table.source,
        clean=clean,
        quarantined=_quarantine(table, frame, found, rejected),
        findings=_findings(found, frame),
        rows_in=len(raw),
        exact_duplicates=int(is_exact.sum()),
        instruments=facts,
        notes=(
            *table.notes,
            *stamps.notes,
            *zone_notes,
            *number_notes,
            *available_notes,
            *fact_notes,
            *_lag_notes(instruments, clean["symbol"]),
            *_horizon_notes(
                clean["date"].to_numpy("datetime64[D]"), clean["symbol"].to_numpy(), exchange
            ),
        ),
        ignored_columns=table.ignored,
    )


def _exchanges(instruments: pd.DataFrame | None, facts: pd.DataFrame | None) -> dict[str, str]:
    known: dict[str, str] = {}
    if facts is not None and "exchange" in facts:
        told = facts.dropna(subset=["exchange"])
        known.update(zip(told["symbol"], told["exchange"], strict=True))
    if instruments is not None and "exchange" in instruments:
        told = instruments["exchange"].dropna()
        known.update({str(s): str(e) for s, e in told.items() if e})
    return known


def _facts_of(raw: pd.DataFrame, symbol: np.ndarray) -> tuple[pd.DataFrame | None, list[str]]:
    """Asset class and the like, where the bars carry them: the first value of each symbol."""
    columns = [name for name in FACT_COLUMNS if name in raw]
    if not columns:
        return None, []
    carried = pd.DataFrame({name: parse_symbols(raw[name]) for name in columns})
    groups = carried.groupby(symbol, sort=True)
    notes = []
    for name in columns:
        varied = groups[name].nunique()
        for changing in varied.index[varied > 1]:
            notes.append(f"{name} of {changing} has several values; the first one is used")
    first = groups.first().rename_axis("symbol").reset_index()
    return (first if len(first) else None), notes


def _session_wall(
    stamps: ParsedStamps, symbol: np.ndarray, exchange: dict[str, str]
) -> tuple[pd.DatetimeIndex, list[str]]:
    """Wall clock of each row where it trades: its date is the session date."""
    zoned = stamps.utc.notna()
    if not zoned.any():
        return stamps.wall, []
    utc = stamps.utc[zoned]
    if (utc == utc.normalize()).all():
        wall = pd.Series(stamps.wall)
        wall[zoned] = utc
        return pd.DatetimeIndex(wall), ["stamps at 00:00 UTC read as session dates"]
    wall = stamps.wall.to_numpy("datetime64[us]").copy()
    rows = rows_by_exchange(symbol, exchange)
    zones = {code: calendar.timezone(code) for code in rows}
    notes = []
    for code in (code for code, zone in zones.items() if zone is not None):
        mine = zoned & rows[code]
        if mine.any():
            days = calendar.session_of(code, pd.DatetimeIndex(stamps.utc[mine]))
            clock = stamps.utc[mine] - stamps.utc[mine].normalize()
            wall[mine] = days.astype("datetime64[us]") + clock.to_numpy()
            notes.append(f"stamps with a zone read as sessions of {code} ({zones[code]})")
    if None in zones.values():
        notes.append("stamps with a zone of symbols without a known exchange keep their own zone")
    return pd.DatetimeIndex(wall), notes


def _lag_notes(instruments: pd.DataFrame | None, symbol: pd.Series) -> list[str]:
    """Which symbols of the file can't be decided on, since their bars come days later."""
    if instruments is None or "publication_lag_days" not in instruments:
        return []
    lag = instruments["publication_lag_days"]
    late = sorted(set(lag.index[lag >= 1]) & set(symbol))
    if not late:
        return []
    return [
        f"{len(late)} symbols with publication_lag_days of 1 or more (first {late[0]}): their "
        "bars give no feature row, since no decision of their day knows them"
    ]


def _refuse_contracts(table: RawTable, symbol: np.ndarray, wall: pd.DatetimeIndex) -> None:
    """Refuse a table of contracts (an option chain, several expiries): its symbol is no asset."""
    if not table.contract_columns:
        return
    bars = pd.DataFrame({"symbol": symbol, "date": wall.normalize()})
    repeated = bars.duplicated(keep=False) & bars.notna().all(axis=1)
    if repeated.mean() <= 0.5:
        return
    times = bars.value_counts()
    (name, day), most = times.index[0], times.iloc[0]
    raise DataError(
        f"{table.source} must hold one bar per symbol and date, found {most} rows of {name} on "
        f"{day.date()} told apart by {', '.join(table.contract_columns)}; give each contract a "
        "symbol of its own, or read the table in a feature group of your own (docs/own-data.md)"
    )


def _horizon_notes(dates: np.ndarray, symbol: np.ndarray, exchange: dict[str, str]) -> list[str]:
    """Which calendars end before the newest bars of their exchange, or soon after."""
    notes = []
    for code, is_row in rows_by_exchange(symbol, exchange).items():
        days = dates[is_row]
        days = days[~np.isnat(days) & (days <= np.datetime64(date(9998, 12, 31)))]
        notice = calendar.horizon_notice(code, days.max().item()) if code and len(days) else None
        if notice is not None:
            notes.append(notice)
    return notes


def _numbers(table: RawTable) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    rows = len(table.frame)
    numbers: dict[str, np.ndarray] = {}
    unreadable = np.zeros(rows, dtype=bool)
    notes: list[str] = []
    for name in FIELDS:
        if name not in table.frame:
            numbers[name] = np.full(rows, np.nan)
            continue
        parsed = parse_numbers(
            table.frame[name],
            source=table.source,
            decimal_comma=table.decimal_comma,
            scaled=name in SCALED_COLUMNS,
        )
        numbers[name] = parsed.numbers
        unreadable |= parsed.unreadable
        notes += parsed.notes
    if not np.isfinite(numbers["close"]).any():
        example = example_of(table.frame["close"])
        raise DataError(
            f"{table.source} column 'close' must hold prices, found {example!r} "
            f"and no number in {rows} rows; give prices as numbers"
        )
    return numbers, unreadable, notes


def _duplicates(
    frame: pd.DataFrame, rejected: np.ndarray, wall: pd.DatetimeIndex
) -> tuple[np.ndarray, pd.DataFrame]:
    """Rows that repeat an earlier one exactly, and findings for those that contradict."""
    is_exact = np.zeros(len(frame), dtype=bool)
    keys = ["symbol", "date", "available_at"]
    sound = frame[~rejected]
    suspects = sound[sound.duplicated(keys, keep=False)]
    if suspects.empty:
        return is_exact, no_row_findings()
    clock = (wall - wall.normalize()).to_numpy()[suspects.index]
    same = suspects.drop(columns="flags").assign(clock=clock)
    repeats = same.duplicated(keep="first").to_numpy()
    is_exact[suspects.index[repeats]] = True
    rest = same[~repeats]
    at_odds = rest[rest.duplicated(keys, keep=False)]
    if at_odds.empty:
        return is_exact, no_row_findings()
    times = at_odds.groupby(keys, dropna=False)["clock"].transform("nunique")
    return is_exact, pd.DataFrame(
        {
            "rule": np.where(times > 1, INTRADAY_ROW, CONFLICTING_DUPLICATE),
            "outcome": "quarantined",
            "row": at_odds.index.to_numpy(),
            "value": at_odds["close"].to_numpy(),
        }
    )


def _quarantine(
    table: RawTable, frame: pd.DataFrame, found: pd.DataFrame, rejected: np.ndarray
) -> pd.DataFrame:
    first = found[found["outcome"] == "quarantined"].drop_duplicates("row").set_index("row")
    rows = np.flatnonzero(rejected)
    rules = first.loc[rows, "rule"].to_numpy()
    lines = (
        table.frame.iloc[rows].astype(str).to_json(orient="records", lines=True).splitlines()
        if len(rows)
        else []
    )
    return pd.DataFrame(
        {
            "source": table.source,
            "source_row": rows,
            "symbol": frame["symbol"].to_numpy()[rows],
            "date": frame["date"].to_numpy()[rows],
            "rule": rules,
            "reason": [reason_of(rule) for rule in rules],
            "raw": [line for line in lines if line],
        }
    )


def _findings(found: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    rows = found["row"].to_numpy(dtype=np.int64)
    told = found.assign(
        symbol=frame["symbol"].to_numpy()[rows], date=frame["date"].to_numpy()[rows]
    )
    columns = [name for name in FINDING_COLUMNS if name != "known_at"]
    return told.sort_values(["row", "rule"], ignore_index=True)[columns]


def _joined(rows: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """Findings about rows, then findings that the histories revealed; those have no row."""
    told = rows.assign(known_at=np.datetime64("NaT", "ns"), row=rows["row"].astype("Int64"))
    if history.empty:
        return told[list(FINDING_COLUMNS)]
    seen = history.assign(row=pd.array([pd.NA] * len(history), dtype="Int64"))
    if told.empty:
        return seen[list(FINDING_COLUMNS)]
    return pd.concat([told, seen], ignore_index=True)[list(FINDING_COLUMNS)]


def _validate(clean: pd.DataFrame, source: str) -> None:
    """Hold the accepted rows against the schema that every reader relies on."""
    import pandera.errors
    import pandera.pandas as pa

    positive = pa.Check.gt(0)
    finite = pa.Check(lambda column: np.isfinite(column), name="finite")
    schema = pa.DataFrameSchema(
        {
            "date": pa.Column("datetime64[us]", pa.Check(lambda d: d == d.dt.normalize())),
            "symbol": pa.Column(checks=pa.Check(lambda s: s != "", name="named")),
            **{
                n: pa.Column(float, [positive, finite], nullable=n != "close")
                for n in PRICE_COLUMNS
            },
            **{
                n: pa.Column(float, [pa.Check.ge(0), finite], nullable=True) for n in SCALED_COLUMNS
            },
            "available_at": pa.Column("datetime64[us]", nullable=True),
            "flags": pa.Column(nullable=True),
        },
        unique=["symbol", "date", "available_at"],
        strict=True,
    )
    assert set(BAR_COLUMNS) <= set(schema.columns)
    try:
        schema.validate(clean, lazy=True)
    except pandera.errors.SchemaErrors as error:
        first = error.failure_cases.iloc[0]
        raise DataError(
            f"{source} must give rows that fit the bar schema, found {first['failure_case']!r} "
            f"in {first['column']} against {first['check']}; report this as a fault of the rules"
        ) from error
