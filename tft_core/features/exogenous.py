"""Exogenous series as they were known on each weekday.

Observations count from the day they became available, revisions included. Everything is
sampled on Monday–Friday, so rolling windows of a series never depend on the assets'
calendars.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tft_core.errors import FeatureError

MAX_STALE_DAYS = 100
"""A value whose observation date is older than this (a missed quarter) is unknown."""

_COLUMNS = ("name", "date", "value", "available_at")
_FIRST_DAY = np.datetime64("1970-01-01", "D")
"""Weekday number 0, a Thursday."""


@dataclass(frozen=True, slots=True, eq=False)
class ExogenousSeries:
    """Known value of each named series at the end of each weekday."""

    first_weekday: int = 0
    """Weekdays from 1970-01-01 to the first column."""
    values: Mapping[str, Float[np.ndarray, " weekday"]] = field(default_factory=dict)
    slots: tuple[str, ...] = ()
    """Series name of slot 1, 2, …"""

    @classmethod
    def from_frame(cls, series: pd.DataFrame | None, slots: Sequence[str]) -> "ExogenousSeries":
        """Lay observations on the weekday axis.

        Args:
            series: Columns ``name, date, value, available_at``, any number of vintages.
            slots: Names in slot order; a name without observations is NaN throughout.

        Raises:
            FeatureError: A column is missing.
        """
        if series is None or len(series) == 0 or not slots:
            return cls(slots=tuple(slots))
        missing = [name for name in _COLUMNS if name not in series.columns]
        if missing:
            raise FeatureError(f"series must have a column {missing[0]!r}, found none")
        observed = pd.to_datetime(series["date"]).to_numpy().astype("datetime64[D]")
        available = known_days(series["available_at"])
        known_day = np.maximum(observed, available)
        first = int(_weekday_number(known_day.min()))
        last = int(_weekday_number(known_day.max() + np.timedelta64(MAX_STALE_DAYS, "D")))
        axis = _weekday_date(np.arange(first, last + 1))
        values = {}
        for name in slots:
            mine = (series["name"] == name).to_numpy() & series["value"].notna().to_numpy()
            number = series["value"].to_numpy(dtype=np.float64)
            values[name] = _known_path(observed[mine], known_day[mine], number[mine], axis)
        return cls(first, values, tuple(slots))

    def slot(self, number: int) -> Float[np.ndarray, " weekday"] | None:
        """Known values of slot 1, 2, …; ``None`` for an empty slot."""
        if number > len(self.slots):
            return None
        return self.values.get(self.slots[number - 1])

    def at(
        self, values: Float[np.ndarray, " weekday"], day: Float[np.ndarray, "asset session"]
    ) -> Float[np.ndarray, "asset session"]:
        """Values of the weekday axis on session days; a weekend takes the Friday before it."""
        known = ~np.isnan(day)
        date = np.where(known, day, 0.0).astype(np.int64).astype("datetime64[D]")
        column = _weekday_number(date) - self.first_weekday
        inside = known & (column >= 0) & (column < len(values))
        return np.where(inside, values[np.where(inside, column, 0)], np.nan)


def known_days(stamps: Any) -> np.ndarray:
    """UTC day of each time stamp, as ``datetime64[D]``; stamps without a zone count as UTC."""
    parsed = pd.DatetimeIndex(pd.to_datetime(stamps, utc=True)).tz_localize(None)
    return parsed.to_numpy().astype("datetime64[D]")


def _weekday_number(day: np.datetime64 | np.ndarray) -> np.ndarray:
    """Weekdays from 1970-01-01 (0) to a day; a weekend counts as the Friday before it."""
    return np.asarray(np.busday_count(_FIRST_DAY, day + np.timedelta64(1, "D"))) - 1


def _weekday_date(number: np.ndarray) -> np.ndarray:
    return np.busday_offset(_FIRST_DAY, number)


def _known_path(
    observed: np.ndarray, known_day: np.ndarray, value: np.ndarray, axis: np.ndarray
) -> Float[np.ndarray, " weekday"]:
    """Newest observation known on each axis day, with its newest vintage."""
    if len(value) == 0:
        return np.full(len(axis), np.nan)
    order = np.lexsort((observed, known_day))
    observed, known_day, value = observed[order], known_day[order], value[order]
    newest = np.maximum.accumulate(observed)
    is_news = observed == newest
    observed, known_day, value = observed[is_news], known_day[is_news], value[is_news]
    # a day's news counts on the first weekday at or after it: Saturday's on Monday
    event = np.searchsorted(known_day, axis, side="right") - 1
    found = np.where(event >= 0, event, 0)
    age = (axis - observed[found]).astype("timedelta64[D]").astype(np.int64)
    return np.where((event >= 0) & (age <= MAX_STALE_DAYS), value[found], np.nan)
