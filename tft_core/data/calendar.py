"""When an exchange trades: exchange_calendars, corrected by an override file.

An exchange that nobody knows, and FX, follows the weekday calendar: Monday to Friday, a
session closing at the end of its day in UTC. Which bars an asset has is the store's business.
"""

import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
import pandas as pd
from jaxtyping import Bool

from tft_core.data.calendar_overrides import OVERRIDES_ENV, Overrides, read_overrides
from tft_core.data.moments import session_day
from tft_core.errors import DataError

WEEKDAYS = "24/5"
EVERY_DAY = "24/7"
EARLIEST = date(1970, 1, 1)
HORIZON_YEARS = 2
"""How far ahead calendars without a bound of their own are asked for."""
NOTICE_DAYS = 60
"""A calendar that ends within so many days is worth a word."""


@dataclass(frozen=True, slots=True)
class _Calendar:
    name: str
    days: np.ndarray
    """Sessions as sorted datetime64[D]; empty for the two calendars that are a rule."""
    closed_days: np.ndarray
    """Sessions whose close is known, sorted datetime64[D]; the override file's are not."""
    opens: np.ndarray
    """Instants at which those sessions open, UTC without zone; the eve's evening for some."""
    closes: np.ndarray
    """Instants of those closes, UTC without zone."""
    first: date | None
    last: date | None
    zone: str


def known_calendar(exchange: str | None) -> str | None:
    """Name of the calendar an exchange follows; ``None`` where nobody knows the exchange.

    Codes that begin with ``FX`` follow ``24/5``.
    """
    code = (exchange or "").strip()
    named = _overrides().aliases.get(code, code)
    if named in (WEEKDAYS, EVERY_DAY):
        return named
    if named in _calendar_names():
        return exchange_calendars.resolve_alias(named)
    return WEEKDAYS if code.upper().startswith("FX") else None


def calendar_name(exchange: str | None) -> str:
    """Name of the calendar to use: the exchange's own, else weekdays (``24/5``)."""
    return known_calendar(exchange) or WEEKDAYS


def timezone(exchange: str | None) -> str | None:
    """Time zone of an exchange's session dates; ``None`` where nobody knows the exchange."""
    name = calendar_name(exchange)
    return None if name in (WEEKDAYS, EVERY_DAY) else _calendar(name).zone


def horizon(exchange: str | None) -> date | None:
    """Last day that the calendar covers; ``None`` where it never ends."""
    return _calendar(calendar_name(exchange)).last


def check_horizon(exchange: str | None, day: date) -> None:
    """Refuse a day that the exchange's calendar does not cover.

    Raises:
        DataError: The calendar begins after or ends before ``day``.
    """
    calendar = _calendar(calendar_name(exchange))
    day = session_day(day)
    if calendar.last is not None and day > calendar.last:
        raise DataError(
            f"calendar {calendar.name} of {exchange} must cover {day}, found its end at "
            f"{calendar.last}; update exchange_calendars or set `until` in ${OVERRIDES_ENV}"
        )
    if calendar.first is not None and day < calendar.first:
        raise DataError(
            f"calendar {calendar.name} of {exchange} must cover {day}, found its start at "
            f"{calendar.first}; ask for later days"
        )


def horizon_notice(exchange: str | None, day: date) -> str | None:
    """What to know about the end of the exchange's calendar, if it is near to or before ``day``."""
    calendar = _calendar(calendar_name(exchange))
    if calendar.last is None or session_day(day) + timedelta(days=NOTICE_DAYS) <= calendar.last:
        return None
    return (
        f"calendar {calendar.name} of {exchange} ends at {calendar.last}: later days are judged by "
        f"weekday, without holidays; update exchange_calendars or set `until` in ${OVERRIDES_ENV}"
    )


def sessions(exchange: str | None, start: date, end: date) -> pd.DatetimeIndex:
    """Session dates from ``start`` to ``end``, both included, without time or zone.

    Raises:
        DataError: The span leaves what the calendar covers.
    """
    check_horizon(exchange, start)
    check_horizon(exchange, end)
    days = pd.date_range(pd.Timestamp(start), pd.Timestamp(end), freq="D", unit="us")
    return days[session_mask(exchange, days)]


def is_session(exchange: str | None, day: date) -> bool:
    """Whether the exchange trades on a day.

    Raises:
        DataError: The calendar does not cover the day.
    """
    check_horizon(exchange, day)
    return bool(session_mask(exchange, pd.DatetimeIndex([pd.Timestamp(day)]))[0])


def session_close(exchange: str | None, day: date) -> datetime | None:
    """Instant at which a session closes; ``None`` where no calendar tells its time of day."""
    calendar = _calendar(calendar_name(exchange))
    if np.datetime64(day, "D") not in calendar.closed_days:
        return None
    return _close(calendar, day)


def trades_on_weekends(exchange: str | None, since: date) -> bool:
    """Whether any session of the exchange since a day falls on a Saturday or Sunday.

    Whole weeks do in Saudi Arabia or with crypto, single days do in India.
    """
    name = calendar_name(exchange)
    if name in (WEEKDAYS, EVERY_DAY):
        return name == EVERY_DAY
    days = _calendar(name).days
    return bool((~np.is_busday(days[days >= np.datetime64(since, "D")])).any())


def session_mask(exchange: str | None, dates: pd.DatetimeIndex) -> Bool[np.ndarray, " row"]:
    """True on session dates; days that the calendar does not cover are judged by weekday."""
    name = calendar_name(exchange)
    days = dates.to_numpy("datetime64[D]")
    if name == EVERY_DAY:
        return np.ones(len(days), dtype=bool)
    by_weekday = np.asarray(np.is_busday(days))
    if name == WEEKDAYS:
        return by_weekday
    calendar = _calendar(name)
    covered = (days >= np.datetime64(calendar.first)) & (days <= np.datetime64(calendar.last))
    is_listed = np.isin(days, calendar.days)
    return np.where(covered, is_listed, by_weekday | is_listed)


def session_of(exchange: str | None, instants: pd.DatetimeIndex) -> np.ndarray:
    """Session date of each instant: the session in whose hours it lies, else the local date.

    So Sunday evening in Chicago belongs to Monday's session. An instant at which one session
    opens may also stamp the end of the day before; it opens one if such stamps also fall on eves
    that are no sessions themselves.

    Args:
        exchange: A known exchange with a time zone.
        instants: UTC without zone, no NaT.

    Returns:
        datetime64[D], one per instant.
    """
    calendar = _calendar(calendar_name(exchange))
    at = instants.to_numpy(dtype="datetime64[us]")
    local = instants.tz_localize("UTC").tz_convert(calendar.zone).tz_localize(None)
    days = local.to_numpy(dtype="datetime64[D]")
    if len(calendar.closed_days) == 0:
        return days
    number = np.searchsorted(calendar.opens, at, side="right") - 1
    known = np.maximum(number, 0)
    is_open = at == calendar.opens[known]
    opens_session = (is_open & ~np.isin(days, calendar.days)).any()
    inside = (number >= 0) & (at <= calendar.closes[known]) & (~is_open | opens_session)
    return np.where(inside, calendar.closed_days[known], days)


def last_closed_session(exchange: str | None, now: datetime) -> date:
    """Date of the newest session whose close is not after ``now``.

    Args:
        exchange: The exchange; unknown ones close at the end of each weekday in UTC.
        now: The instant; without a zone it is UTC.

    Raises:
        DataError: The calendar does not cover ``now``.
    """
    moment = now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)
    name = calendar_name(exchange)
    calendar = _calendar(name)
    local = moment.astimezone(ZoneInfo(calendar.zone)).date()
    check_horizon(exchange, local)
    for back in range(31):
        day = local - timedelta(days=back)
        if not session_mask(exchange, pd.DatetimeIndex([pd.Timestamp(day)]))[0]:
            continue
        if _close(calendar, day) <= moment:
            return day
    raise DataError(
        f"calendar {calendar.name} must have a session in the 31 days up to {local}, found none; "
        f"correct the removed dates in ${OVERRIDES_ENV}"
    )


def _close(calendar: _Calendar, day: date) -> datetime:
    at = np.searchsorted(calendar.closed_days, np.datetime64(day))
    if at < len(calendar.closed_days) and calendar.closed_days[at] == np.datetime64(day):
        return calendar.closes[at].astype("datetime64[us]").item().replace(tzinfo=UTC)
    midnight = datetime.combine(day + timedelta(days=1), time.min, ZoneInfo(calendar.zone))
    return midnight.astimezone(UTC)


@lru_cache(maxsize=1)
def _calendar_names() -> frozenset[str]:
    return frozenset(exchange_calendars.get_calendar_names(include_aliases=True))


@lru_cache(maxsize=32)
def _calendar(name: str) -> _Calendar:
    if name in (WEEKDAYS, EVERY_DAY):
        none = np.array([], dtype="datetime64[D]")
        return _Calendar(name, none, none, none, none, first=None, last=None, zone="UTC")
    kind = type(exchange_calendars.get_calendar(name))
    low, high = kind.bound_min(), kind.bound_max()
    wanted = date(datetime.now(UTC).year + HORIZON_YEARS, 12, 31)
    start = EARLIEST if low is None else max(session_day(low), EARLIEST)
    end = wanted if high is None else min(session_day(high), wanted)
    known = exchange_calendars.get_calendar(name, start=str(start), end=str(end))
    overrides = _overrides()
    added = overrides.added.get(name, frozenset())
    removed = overrides.removed.get(name, frozenset())
    regular = known.sessions.to_numpy(dtype="datetime64[D]")
    until = max(overrides.until.get(name, end), end)
    beyond = np.arange(np.datetime64(end) + 1, np.datetime64(until) + 1)
    weekdays = beyond[np.is_busday(beyond)]
    days = (set(regular.tolist()) | set(weekdays.tolist()) | added) - removed
    return _Calendar(
        name,
        days=np.array(sorted(days), dtype="datetime64[D]"),
        closed_days=regular,
        opens=known.opens.dt.tz_convert(None).to_numpy(dtype="datetime64[us]"),
        closes=known.closes.dt.tz_convert(None).to_numpy(dtype="datetime64[us]"),
        first=start,
        last=until,
        zone=str(known.tz),
    )


@lru_cache(maxsize=1)
def _overrides() -> Overrides:
    ours = read_overrides(Path(__file__).with_name("calendar_overrides.toml"), Overrides())
    own = os.environ.get(OVERRIDES_ENV)
    return read_overrides(Path(own), ours) if own else ours
