"""The dated universe: who belongs to the cross-section on which day."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from tft_core.config import build_dataclass
from tft_core.data.universe import Universe, UniverseConfig, UniverseMember
from tft_core.errors import ConfigError, UnknownSymbolError

DAYS = pd.date_range("2020-01-01", periods=4, unit="us")


def test_an_empty_config_means_every_symbol_of_the_store_at_all_times() -> None:
    universe = Universe.resolve(UniverseConfig(), ["A", "B"])
    assert universe.symbols == ("A", "B")
    assert universe.active(DAYS).all()
    assert universe.size(DAYS).tolist() == [2.0] * 4


def test_membership_begins_and_ends_on_the_named_days_inclusive() -> None:
    member = UniverseMember(symbols=("B",), since=date(2020, 1, 2), until=date(2020, 1, 3))
    universe = Universe.resolve(
        UniverseConfig(members=(UniverseMember(symbols=("A",)), member)), ["A", "B", "C"]
    )
    assert universe.symbols == ("A", "B")
    expected = [[True, False], [True, True], [True, True], [True, False]]
    np.testing.assert_array_equal(universe.active(DAYS), expected)
    assert universe.size(DAYS).tolist() == [1.0, 2.0, 2.0, 1.0]


def test_a_symbol_that_left_and_came_back_has_two_spans() -> None:
    config = UniverseConfig(
        members=(
            UniverseMember(symbols=("A",), until=date(2020, 1, 1)),
            UniverseMember(symbols=("A",), since=date(2020, 1, 4)),
        )
    )
    assert Universe.resolve(config, ["A"]).active(DAYS)[:, 0].tolist() == [True, False, False, True]


def test_the_universe_keeps_the_order_of_the_store_not_of_the_config() -> None:
    config = UniverseConfig(members=(UniverseMember(symbols=("C", "A")),))
    assert Universe.resolve(config, ["A", "B", "C"]).symbols == ("A", "C")


def test_a_member_that_the_store_does_not_hold_is_refused_by_name() -> None:
    config = UniverseConfig(members=(UniverseMember(symbols=("A", "XX")),))
    with pytest.raises(UnknownSymbolError, match="found XX"):
        Universe.resolve(config, ["A"])


def test_the_section_of_the_config_file_makes_the_members() -> None:
    values = {"members": [{"symbols": ["A"], "since": "2020-01-02"}], "min_present": 0.5}
    config = build_dataclass(UniverseConfig, values, where="[universe]")
    assert config.members == (UniverseMember(symbols=("A",), since=date(2020, 1, 2)),)
    assert config.min_present == 0.5


def test_impossible_members_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"since 2020-01-02 after until 2020-01-01"):
        UniverseMember(symbols=("A",), since=date(2020, 1, 2), until=date(2020, 1, 1))
    with pytest.raises(ConfigError, match="at least one symbol"):
        UniverseMember(symbols=())
    with pytest.raises(ConfigError, match=r"\(0, 1\], found 0"):
        UniverseConfig(min_present=0.0)


def test_an_end_counts_only_to_those_who_look_as_far() -> None:
    two = UniverseConfig(members=(UniverseMember(symbols=("A", "B")),))
    ends = UniverseConfig(
        members=(
            UniverseMember(symbols=("B",), until=date(2020, 1, 3)),
            UniverseMember(symbols=("A",)),
        )
    )
    for day, is_same in ((date(2020, 1, 4), True), (date(2020, 1, 5), False), (None, False)):
        assert (ends.as_seen_before(day) == two.as_seen_before(day)) == is_same
    fewer = UniverseConfig(members=two.members, min_present=0.5)
    assert fewer.as_seen_before(date(2020, 1, 4)) != two.as_seen_before(date(2020, 1, 4))
