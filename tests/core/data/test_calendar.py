"""Calendars: known exchanges, the Indian special sessions, FX, and the end of the horizon."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from tft_core.data import calendar
from tft_core.errors import ConfigError, DataError

SPECIAL_INDIAN_SESSIONS = (  # ../shared/reference/libraries.md, fact 9
    *("2024-01-20", "2024-05-18", "2024-11-01", "2025-02-01", "2025-10-21", "2026-02-01"),
)


@pytest.mark.parametrize("day", SPECIAL_INDIAN_SESSIONS)
@pytest.mark.parametrize("exchange", ["NSE", "XNSE", "XBOM"])
def test_special_sessions_of_the_indian_market_are_sessions(exchange: str, day: str) -> None:
    assert calendar.is_session(exchange, date.fromisoformat(day))


def test_ordinary_indian_weekends_are_no_sessions() -> None:
    assert not calendar.is_session("NSE", date(2024, 1, 27))


def test_new_york_rests_on_thanksgiving_and_fx_does_not() -> None:
    thanksgiving = date(2024, 11, 28)
    assert not calendar.is_session("XNYS", thanksgiving)
    assert calendar.is_session("FX_ECB", thanksgiving)
    assert not calendar.is_session("FX_ECB", date(2024, 11, 30))


def test_an_unknown_exchange_follows_the_weekdays_and_says_that_it_is_unknown() -> None:
    assert calendar.known_calendar("EIA") is None
    assert calendar.calendar_name("EIA") == calendar.WEEKDAYS
    days = calendar.sessions("EIA", date(2024, 1, 1), date(2024, 1, 7))
    assert [d.day for d in days] == [1, 2, 3, 4, 5]


def test_every_day_is_a_session_of_a_market_that_never_closes() -> None:
    assert len(calendar.sessions("24/7", date(2024, 1, 1), date(2024, 1, 7))) == 7


def test_a_day_beyond_the_horizon_of_the_calendar_is_an_error_and_not_a_guess() -> None:
    last = calendar.horizon("XBOM")
    assert last is not None
    beyond = date(last.year + 1, 1, 4)
    with pytest.raises(DataError, match=f"must cover {beyond}, found its end at {last}"):
        calendar.is_session("NSE", beyond)
    with pytest.raises(DataError, match="found its end at"):
        calendar.sessions("NSE", date(2024, 1, 1), beyond)
    with pytest.raises(DataError, match="found its start at 1997-01-01"):
        calendar.is_session("NSE", date(1990, 1, 1))


def test_a_mask_judges_days_outside_the_calendar_by_weekday() -> None:
    days = pd.DatetimeIndex(["1990-01-05", "1990-01-06"])  # Friday, Saturday
    np.testing.assert_array_equal(calendar.session_mask("NSE", days), [True, False])


@pytest.mark.parametrize(
    ("exchange", "now", "expected"),
    [
        ("XNYS", datetime(2024, 11, 29, 17, 59, tzinfo=UTC), date(2024, 11, 27)),  # 13:00 close
        ("XNYS", datetime(2024, 11, 29, 18, 0, tzinfo=UTC), date(2024, 11, 29)),
        ("NSE", datetime(2024, 1, 22, 3, 0, tzinfo=UTC), date(2024, 1, 20)),  # special Saturday
        ("FX_ECB", datetime(2024, 1, 1, 23, 59, tzinfo=UTC), date(2023, 12, 29)),
        ("FX_ECB", datetime(2024, 1, 2, 0, 0, tzinfo=UTC), date(2024, 1, 1)),
    ],
)
def test_the_last_closed_session_is_the_newest_whose_close_has_passed(
    exchange: str, now: datetime, expected: date
) -> None:
    assert calendar.last_closed_session(exchange, now) == expected


def test_a_users_override_file_adds_and_removes_sessions(tmp_path, monkeypatch) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        'aliases = { MYX = "XNYS" }\n'
        "[calendars.XNYS]\nadded = [2024-11-28]\nremoved = [2024-11-27]\n"
    )
    monkeypatch.setenv(calendar.OVERRIDES_ENV, str(file))
    _forget()
    try:
        assert calendar.is_session("MYX", date(2024, 11, 28))
        assert not calendar.is_session("MYX", date(2024, 11, 27))
        assert calendar.is_session("NSE", date(2024, 1, 20))  # the shipped file still counts
    finally:
        monkeypatch.undo()
        _forget()


def test_an_override_file_that_nobody_would_understand_is_refused(tmp_path, monkeypatch) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[calendars.XNYS]\nadded = ["2024-11-28"]\n')
    monkeypatch.setenv(calendar.OVERRIDES_ENV, str(file))
    _forget()
    try:
        with pytest.raises(ConfigError, match="plain dates, found '2024-11-28'"):
            calendar.is_session("XNYS", date(2024, 11, 28))
    finally:
        monkeypatch.undo()
        _forget()


def _forget() -> None:
    calendar._overrides.cache_clear()
    calendar._calendar.cache_clear()
