"""Moments of knowledge and session days: what callers may give, and what the store compares."""

from datetime import UTC, date, datetime, time

import pandas as pd

from tft_core.errors import DataError

AsOf = date | datetime | str | None
DateLike = date | datetime | str | None

DAY_END = "23:59:59"
"""Time of day, UTC, at which something becomes known of which only the day is told."""


def as_of_instant(as_of: AsOf) -> datetime | None:
    """The last instant that ``as_of`` includes, as UTC without zone; ``None`` is no limit.

    Raises:
        DataError: A text is neither a date nor an instant.
    """
    if as_of is None:
        return None
    if isinstance(as_of, str):
        try:
            as_of = datetime.fromisoformat(as_of) if "T" in as_of else date.fromisoformat(as_of)
        except ValueError as error:
            raise DataError(
                f"as_of must be a date or an instant, found {as_of!r}; write it as 2024-01-31"
            ) from error
    if isinstance(as_of, pd.Timestamp):
        is_session = as_of.tzinfo is None and as_of == as_of.normalize()
        as_of = as_of.date() if is_session else as_of.to_pydatetime()
    if isinstance(as_of, datetime):
        return utc_naive(as_of)
    return datetime.combine(as_of, time.max)


def utc_naive(moment: datetime) -> datetime:
    """The instant in UTC without zone; one that has no zone is UTC already."""
    if isinstance(moment, pd.Timestamp):
        moment = moment.to_pydatetime()
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def session_day(value: date | datetime | str) -> date:
    """The day of a date, a stamp or an ISO text.

    Raises:
        DataError: The text does not begin with an ISO date.
    """
    if isinstance(value, str):
        try:
            return date.fromisoformat(value[:10])
        except ValueError as error:
            raise DataError(
                f"date must be an ISO date, found {value!r}; write it as 2024-01-31"
            ) from error
    return value.date() if isinstance(value, datetime) else value
