"""A file of calendar overrides says what it holds wrongly, and where."""

from datetime import date
from pathlib import Path

import pytest

from tft_core.data.calendar_overrides import Overrides, read_overrides
from tft_core.errors import ConfigError


def read(tmp_path: Path, text: str, base: Overrides | None = None) -> Overrides:
    file = tmp_path / "own.toml"
    file.write_text(text)
    return read_overrides(file, base or Overrides())


def test_a_file_adds_to_what_was_read_before(tmp_path: Path) -> None:
    base = Overrides(
        aliases={"NSE": "XBOM", "MINE": "XNYS"}, added={"XBOM": frozenset({date(2024, 11, 1)})}
    )
    found = read(
        tmp_path,
        '[aliases]\nMINE = "XLON"\n[calendars.XBOM]\nadded = [2025-10-21]\nuntil = 2028-03-31\n',
        base,
    )
    assert found.aliases == {"NSE": "XBOM", "MINE": "XLON"}
    assert found.added["XBOM"] == {date(2024, 11, 1), date(2025, 10, 21)}
    assert found.until == {"XBOM": date(2028, 3, 31)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('aliases = "NSE"', r"\[aliases\] of .*own.toml must be a table, found 'NSE'"),
        ("[aliases]\nNSE = 7", "must name a calendar for each code, found NSE = 7"),
        ("calendars = 1", r"\[calendars\] of .* must be a table, found 1"),
        ("[calendars]\nXBOM = 1", r"\[calendars.XBOM\] of .* must be a table, found 1"),
        ("[calendars.XBOM]\nadded = 2024-11-01", "must give lists of dates"),
        ('[calendars.XBOM]\nadded = ["2024-11-01"]', "plain dates, found '2024-11-01'"),
        ("[calendars.XBOM]\nuntil = 2024-11-01T10:00:00", "plain dates, found datetime"),
        ("[calendars.XBOM]\nholidays = []", "only added, removed and until, found 'holidays'"),
        ("[names]\nNSE = 7", "only aliases and calendars, found 'names'"),
        ("[aliases", "must be a TOML file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, text)
