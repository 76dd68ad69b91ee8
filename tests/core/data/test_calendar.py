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


def test_a_user_may_carry_a_calendar_beyond_its_end_by_naming_the_holidays(
    tmp_path, monkeypatch
) -> None:
    last = calendar.horizon("NSE")
    assert last is not None
    year = last.year + 1
    file = tmp_path / "own.toml"
    file.write_text(
        f"[calendars.XBOM]\nremoved = [{year}-01-26]\nadded = [{year}-02-06]\n"
        f"until = {year}-03-31\n"
    )
    monkeypatch.setenv(calendar.OVERRIDES_ENV, str(file))
    _forget()
    try:
        assert calendar.horizon("NSE") == date(year, 3, 31)
        assert not calendar.is_session("NSE", date(year, 1, 26))  # Republic Day, a named holiday
        assert calendar.is_session("NSE", date(year, 1, 27))
        assert calendar.is_session("NSE", date(year, 2, 6))  # a special Saturday in 2027
        assert calendar.horizon_notice("NSE", date(year, 1, 10)) is None
        with pytest.raises(DataError, match=f"found its end at {year}-03-31"):
            calendar.is_session("NSE", date(year, 4, 1))
    finally:
        monkeypatch.undo()
        _forget()


def test_a_special_session_alone_does_not_lengthen_the_calendar(tmp_path, monkeypatch) -> None:
    last = calendar.horizon("NSE")
    assert last is not None
    file = tmp_path / "own.toml"
    file.write_text(f"[calendars.XBOM]\nadded = [{last.year + 1}-11-06]\n")
    monkeypatch.setenv(calendar.OVERRIDES_ENV, str(file))
    _forget()
    try:
        assert calendar.horizon("NSE") == last  # else the year before it would be all holidays
        days = pd.DatetimeIndex([f"{last.year + 1}-06-01", f"{last.year + 1}-11-06"])
        assert calendar.session_mask("NSE", days).all()
    finally:
        monkeypatch.undo()
        _forget()


def test_the_end_of_a_calendar_is_announced_before_it_comes() -> None:
    last = calendar.horizon("NSE")
    assert last is not None
    assert calendar.horizon_notice("NSE", date(last.year, 10, 1)) is None
    for day in (date(last.year, 11, 26), date(last.year + 1, 1, 4)):
        notice = calendar.horizon_notice("NSE", day)
        assert notice is not None
        assert f"XBOM of NSE ends at {last}" in notice
    assert calendar.horizon_notice("FX_ECB", date(2099, 1, 1)) is None


@pytest.mark.parametrize(
    ("exchange", "instant", "session"),
    [
        ("CME", "2024-01-22T00:30", "2024-01-22"),  # Sunday 18:30 in Chicago: Monday's session
        ("CME", "2024-01-22T20:00", "2024-01-22"),  # Monday 14:00
        ("CME", "2024-01-22T22:30", "2024-01-22"),  # Monday 16:30, after the close
        ("CME", "2024-01-23T01:00", "2024-01-23"),  # Monday 19:00: Tuesday's session
        ("XNYS", "2024-01-22T21:00", "2024-01-22"),  # the close itself
        ("XNYS", "2024-01-23T03:00", "2024-01-22"),  # 22:00, long after it
        ("NSE", "2024-01-22T20:30", "2024-01-23"),  # 02:00 in Mumbai
        ("XTKS", "2024-01-21T23:59", "2024-01-22"),
    ],
)
def test_an_instant_belongs_to_the_session_in_whose_hours_it_lies(
    exchange: str, instant: str, session: str
) -> None:
    found = calendar.session_of(exchange, pd.DatetimeIndex([instant]))
    assert found.tolist() == [date.fromisoformat(session)]


def test_a_stamp_at_which_one_session_ends_and_the_next_opens_is_read_by_the_others() -> None:
    # 17:00 in Chicago, Sunday to Thursday: stamps of the open
    opens = pd.DatetimeIndex(["2024-01-21T23:00", "2024-01-22T23:00"])
    assert [d.day for d in calendar.session_of("CME", opens).tolist()] == [22, 23]
    # 17:00, Monday to Friday: stamps of the end
    ends = pd.DatetimeIndex(["2024-01-22T23:00", "2024-01-23T23:00", "2024-01-26T23:00"])
    assert [d.day for d in calendar.session_of("CME", ends).tolist()] == [22, 23, 26]


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
