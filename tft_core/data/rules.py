"""The rules a bar must pass: one table of codes, outcomes, reasons and tests.

A rule sees typed rows and says which of them it hits. ``quarantined`` rows never reach the
bars; ``flagged`` ones do, with the code beside them. Nothing is repaired.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from tft_core.data.calendar import WEEKDAYS, known_calendar, session_mask
from tft_core.data.history import HISTORY_REASONS
from tft_core.schema import PRICE_COLUMNS

Outcome = Literal["quarantined", "flagged"]
EARLIEST_SESSION = np.datetime64("1900-01-01")
PRICE_TOLERANCE = 1e-6
"""Relative slack of comparisons between prices: adjusted and float32 prices carry rounding."""

IMPOSSIBLE_FACTOR = 5.0
"""Ratio of two prices of one bar that no market makes in a day."""

CONFLICTING_DUPLICATE = "conflicting_duplicate"
INTRADAY_ROW = "intraday_row"
DUPLICATE_REASONS = {
    CONFLICTING_DUPLICATE: "several rows of this symbol and date say different things",
    INTRADAY_ROW: "several rows of this symbol and date differ in time of day; give daily bars",
}


@dataclass(frozen=True, slots=True)
class TypedBars:
    """Rows with read values, before any judgement. Arrays are aligned by row."""

    symbol: np.ndarray
    """Texts, ``None`` where missing."""
    date: np.ndarray
    """Session dates as datetime64[D], NaT where the value is no date."""
    numbers: dict[str, Float[np.ndarray, " row"]]
    """``open … open_interest``; NaN where missing or unreadable."""
    unreadable: Bool[np.ndarray, " row"]
    """True where some number of the row could not be read."""
    exchange: dict[str, str]
    """Exchange of each symbol that has one."""
    latest: np.datetime64
    """Last day that can have a session already."""
    bad_available: Bool[np.ndarray, " row"]
    """True where the source has ``available_at`` and this row's can't be read."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that can be wrong with a bar."""

    code: str
    outcome: Outcome
    reason: str
    test: Callable[[TypedBars], Bool[np.ndarray, " row"]]
    column: str = "close"
    """Number that the finding shows as its value."""


def rows_by_exchange(
    symbol: np.ndarray, exchange: Mapping[str, str]
) -> dict[str, Bool[np.ndarray, " row"]]:
    """Which rows belong to each exchange, by its code; ``""`` where none was told.

    Args:
        symbol: Texts, ``None`` where missing; such a row belongs to no exchange.
        exchange: Exchange of each symbol that has one.
    """
    codes, names = pd.factorize(symbol)
    exchanges = np.array([exchange.get(str(name), "") for name in names], dtype=object)
    return {
        code: (codes >= 0) & (exchanges == code)[codes] for code in sorted(set(exchanges.tolist()))
    }


def _outside(bars: TypedBars, name: str) -> Bool[np.ndarray, " row"]:
    value, low, high = (bars.numbers[c] for c in (name, "low", "high"))
    slack = PRICE_TOLERANCE * np.abs(value)
    return (value < low - slack) | (value > high + slack)


def _high_below_low(bars: TypedBars) -> Bool[np.ndarray, " row"]:
    high, low = bars.numbers["high"], bars.numbers["low"]
    return high < low - PRICE_TOLERANCE * np.abs(low)


def _any_price(
    bars: TypedBars, hit: Callable[[np.ndarray], np.ndarray]
) -> Bool[np.ndarray, " row"]:
    return np.logical_or.reduce([hit(bars.numbers[name]) for name in PRICE_COLUMNS])


def _out_of_scale(bars: TypedBars) -> Bool[np.ndarray, " row"]:
    prices = np.stack([bars.numbers[name] for name in PRICE_COLUMNS])
    known = np.where(prices > 0, prices, np.nan)
    highest = np.fmax.reduce(known, axis=0)
    return highest >= IMPOSSIBLE_FACTOR * np.fmin.reduce(known, axis=0)


def _off_calendar(bars: TypedBars, *, weekend: bool) -> Bool[np.ndarray, " row"]:
    """Rows of known exchanges on days without a session: weekends, or else holidays."""
    hit = np.zeros(len(bars.date), dtype=bool)
    is_day = ~np.isnat(bars.date)
    is_weekend = np.zeros(len(bars.date), dtype=bool)
    is_weekend[is_day] = ~np.is_busday(bars.date[is_day])
    relevant = is_day & (is_weekend if weekend else ~is_weekend)
    if not relevant.any():
        return hit
    rows = np.flatnonzero(relevant)
    for exchange, is_own in rows_by_exchange(bars.symbol[rows], bars.exchange).items():
        calendar = known_calendar(exchange)
        mine = rows[is_own]
        if calendar is not None and (weekend or calendar != WEEKDAYS):
            hit[mine] = ~session_mask(exchange, pd.DatetimeIndex(bars.date[mine]))
    return hit


def _unknown_weekend(bars: TypedBars) -> Bool[np.ndarray, " row"]:
    """Weekend rows of symbols whose exchange was not told, or has no known calendar."""
    is_day = ~np.isnat(bars.date)
    hit = np.zeros(len(bars.date), dtype=bool)
    hit[is_day] = ~np.is_busday(bars.date[is_day])
    rows = np.flatnonzero(hit)
    hit[rows] = [known_calendar(bars.exchange.get(str(s))) is None for s in bars.symbol[rows]]
    return hit


RULES: tuple[Rule, ...] = (
    Rule(
        "missing_symbol",
        "quarantined",
        "the row has no symbol",
        lambda b: pd.isna(b.symbol),
    ),
    Rule(
        "bad_date",
        "quarantined",
        "the date is missing or can't be read as one",
        lambda b: np.isnat(b.date),
    ),
    Rule(
        "impossible_date",
        "quarantined",
        "the date lies before 1900 or in the future",
        lambda b: (b.date < EARLIEST_SESSION) | (b.date > b.latest),
    ),
    Rule(
        "bad_available_at",
        "quarantined",
        "available_at is missing or can't be read as an instant",
        lambda b: b.bad_available,
    ),
    Rule(
        "not_a_number",
        "quarantined",
        "a price, volume or open interest can't be read as a number",
        lambda b: b.unreadable,
    ),
    Rule(
        "missing_close",
        "quarantined",
        "there is no close",
        lambda b: np.isnan(b.numbers["close"]) & ~b.unreadable,
    ),
    Rule(
        "infinite_value",
        "quarantined",
        "a price, volume or open interest is infinite",
        lambda b: np.logical_or.reduce([np.isinf(v) for v in b.numbers.values()]),
    ),
    Rule(
        "nonpositive_price",
        "quarantined",
        "a price is zero or negative, so returns are undefined",
        lambda b: _any_price(b, lambda price: price <= 0),
    ),
    Rule(
        "high_below_low",
        "quarantined",
        "the high is below the low",
        _high_below_low,
        column="high",
    ),
    Rule(
        "price_out_of_scale",
        "quarantined",
        f"one price of the bar is {IMPOSSIBLE_FACTOR:g} times another: a misplaced decimal",
        _out_of_scale,
        column="high",
    ),
    Rule(
        "negative_volume",
        "quarantined",
        "volume or open interest is negative",
        lambda b: (b.numbers["volume"] < 0) | (b.numbers["open_interest"] < 0),
        column="volume",
    ),
    Rule(
        "weekend_row",
        "quarantined",
        "the exchange's calendar has no session on this weekend day",
        lambda b: _off_calendar(b, weekend=True),
    ),
    Rule(
        "weekend_row_unknown_exchange",
        "flagged",
        "a weekend day, and the calendar of the symbol's exchange is not known",
        _unknown_weekend,
    ),
    Rule(
        "holiday_row",
        "flagged",
        "the exchange's calendar has no session on this weekday",
        lambda b: _off_calendar(b, weekend=False),
    ),
    Rule(
        "close_outside_range",
        "flagged",
        "the close lies outside low and high",
        lambda b: _outside(b, "close"),
    ),
    Rule(
        "open_outside_range",
        "flagged",
        "the open lies outside low and high",
        lambda b: _outside(b, "open"),
        column="open",
    ),
)


def apply_rules(
    bars: TypedBars,
) -> tuple[pd.DataFrame, Bool[np.ndarray, " row"], np.ndarray]:
    """Run every rule over every row.

    Returns:
        Findings (``rule, outcome, row, value``), which rows are rejected, and the flags of each
        row (codes joined by commas, ``None`` without). A rejected row has no flags.
    """
    count = len(bars.date)
    rejected = np.zeros(count, dtype=bool)
    flags = np.full(count, None, dtype=object)
    found = []
    with np.errstate(invalid="ignore"):
        for rule in RULES:
            hit = np.asarray(rule.test(bars), dtype=bool)
            if rule.outcome == "quarantined":
                rejected |= hit
            else:
                hit = hit & ~rejected
                for row in np.flatnonzero(hit):
                    flags[row] = rule.code if flags[row] is None else f"{flags[row]},{rule.code}"
            if hit.any():
                rows = np.flatnonzero(hit)
                found.append(
                    pd.DataFrame(
                        {
                            "rule": rule.code,
                            "outcome": rule.outcome,
                            "row": rows,
                            "value": bars.numbers[rule.column][rows],
                        }
                    )
                )
    findings = pd.concat(found, ignore_index=True) if found else no_row_findings()
    return findings, rejected, flags


def no_row_findings() -> pd.DataFrame:
    """The table of findings about rows where there are none: ``rule, outcome, row, value``."""
    return pd.DataFrame({"rule": [], "outcome": [], "row": np.array([], int), "value": []})


def reason_of(code: str) -> str:
    """What a rule's code means, in words."""
    reasons = {rule.code: rule.reason for rule in RULES} | DUPLICATE_REASONS | HISTORY_REASONS
    return reasons[code]
