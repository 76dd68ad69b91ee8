"""Rows of an earlier build come back only while all that they were made from is the same."""

from dataclasses import replace
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest

from tft_core.data.panel import FIELDS, MarketPanel
from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market
from tft_core.data.universe import Universe, UniverseConfig
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.registry import FeatureConfig
from tft_core.features.row_cache import RowCache

N_ROWS = 12
GROUPS = FeatureConfig(groups=("ret", "vol", "xs"))
BARS = synthetic_market(5, 620, seed=4, start="2019-01-01", holidays=False)
DAYS = [day.date() for day in sorted(BARS["date"].unique())]
FIRST_LOAD = datetime(2019, 1, 1)


@pytest.fixture
def store(tmp_path):
    with MarketDataStore(tmp_path / "market.duckdb") as opened:
        opened.ingest(BARS, ingested_at=FIRST_LOAD)
        yield opened


@pytest.fixture
def cached() -> MegaFeatureBuilder:
    return MegaFeatureBuilder(GROUPS, cache=RowCache(N_ROWS))


def span(end: int) -> dict[str, date]:
    """The rows that a prediction of session ``end`` asks for."""
    return {"start": DAYS[end - N_ROWS + 1], "end": DAYS[end]}


def assert_same(made, store, **asked) -> None:
    """As a builder that remembers nothing makes it."""
    fresh = MegaFeatureBuilder(GROUPS).build(store, **asked)
    assert (made.symbols, made.feature_names) == (fresh.symbols, fresh.feature_names)
    assert made.dates.equals(fresh.dates)
    np.testing.assert_array_equal(made.has_session, fresh.has_session)
    np.testing.assert_allclose(made.values, fresh.values, rtol=1e-5, atol=1e-7)


def test_the_next_session_builds_one_row_and_takes_the_others_as_they_were(store, cached):
    before = cached.build(store, **span(-3))
    assert cached.cache.n_hits == 0
    made = cached.build(store, **span(-2))
    assert cached.cache.n_hits == N_ROWS - 1
    np.testing.assert_array_equal(made.values[:-1], before.values[1:])
    assert_same(made, store, **span(-2))


def test_a_session_asked_for_again_is_not_built_again(store, cached, monkeypatch):
    first = cached.build(store, **span(-2))
    monkeypatch.setattr(cached, "build_panel", lambda *a, **k: pytest.fail("built again"))
    np.testing.assert_array_equal(cached.build(store, **span(-2)).values, first.values)


def test_what_a_caller_does_to_its_rows_reaches_no_later_build(store, cached):
    for _ in range(2):
        cached.build(store, **span(-3)).values[:] = 7.0
    assert_same(cached.build(store, **span(-2)), store, **span(-2))


def test_an_earlier_session_and_another_symbol_are_built(store, cached):
    cached.build(store, **span(-2))
    assert_same(cached.build(store, **span(-6)), store, **span(-6))
    assert cached.cache.n_hits == 0
    cached.build(store, **span(-2))
    hits = cached.cache.n_hits  # of the four rows that were built for the earlier session
    few = {"symbols": ["S03", "S00"], **span(-2)}
    assert_same(cached.build(store, **few), store, **few)
    assert cached.cache.n_hits == hits


def test_rows_from_a_restatement_on_are_built_anew_the_ones_before_it_are_not(store, cached):
    before = cached.build(store, **span(-2))
    wrong = BARS[BARS["date"] == pd.Timestamp(DAYS[-40])].copy()
    wrong[["open", "high", "low", "close"]] *= 1.03
    known_from = N_ROWS - 5
    day = DAYS[len(DAYS) - 2 - (N_ROWS - 1) + known_from]
    store.ingest(wrong, ingested_at=datetime.combine(day, datetime.min.time()))
    made = cached.build(store, **span(-2))
    assert 0 < cached.cache.n_hits <= known_from
    assert_same(made, store, **span(-2))
    changed = (made.values != before.values) & ~np.isnan(made.values)
    assert not changed[: known_from - 1].any()
    assert changed[known_from:].any()


def test_another_as_of_finds_nothing_that_it_must_not_know(store, cached):
    wrong = BARS[BARS["date"] == pd.Timestamp(DAYS[-4])].copy()
    wrong[["open", "high", "low", "close"]] *= 1.03
    store.ingest(wrong, ingested_at=datetime.combine(DAYS[-3], datetime.min.time()))
    now = cached.build(store, **span(-2))
    then = {**span(-2), "as_of": DAYS[-4]}
    asked = cached.build(store, **then)
    assert_same(asked, store, **then)
    assert_same(now, store, **span(-2))
    late = cached.build(store, **span(-2))
    assert_same(late, store, **span(-2))


def test_features_that_read_more_than_bars_are_always_built(store):
    builder = MegaFeatureBuilder(
        FeatureConfig(groups=("ret", "exo"), series=("cpi",)), cache=RowCache(N_ROWS)
    )
    days = pd.DatetimeIndex(DAYS[::20])
    store.ingest_series(
        pd.DataFrame({"name": "cpi", "date": days, "value": 1.0, "available_at": days})
    )
    for end in (-3, -2):
        builder.build(store, **span(end))
    assert builder.cache.n_hits == 0


# -- the comparison itself ---------------------------------------------------------------------


def panel(first: int = 0, last: int = 40) -> MarketPanel:
    chosen = BARS[BARS["date"].isin(pd.DatetimeIndex(DAYS[first:last]))].copy()
    chosen["open_interest"] = np.nan
    return MarketPanel.from_bars(chosen, ("S00", "S01", "S02"))


def universe(symbols=("S00", "S01", "S02"), **config) -> Universe:
    return Universe.resolve(UniverseConfig(**config), symbols)


VALUES = np.arange(10.0)[:, None, None]
"""Rows 30 to 39 of ``panel()``."""


@pytest.fixture
def cache() -> RowCache:
    made = RowCache(100)
    made.keep(panel(), universe(), ("S00",), 30, VALUES)
    made.end_build()
    return made


def test_rows_are_found_by_date_where_history_begins_later(cache):
    later = panel(5)
    np.testing.assert_array_equal(cache.known(later, universe(), ("S00",), 27), VALUES[2:])


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("row", [0, 29, 30, 36, 39])
def test_one_changed_bar_hides_its_row_and_all_after_it(cache, field, row):
    now = panel()
    values = getattr(now, field).copy()
    values[row, 2] = 1.0 if np.isnan(values[row, 2]) else values[row, 2] * (1 + 1e-15) + 1e-12
    found = cache.known(replace(now, **{field: values}), universe(), ("S00",), 30)
    n = 0 if found is None else len(found)
    assert n == max(row - 30, 0)


def test_a_session_that_came_in_late_hides_the_rows_after_it(cache):
    made = RowCache(100)
    lacking = panel()
    keep = np.arange(40) != 34
    fields = {name: getattr(lacking, name)[keep] for name in FIELDS}
    made.keep(
        replace(lacking, dates=lacking.dates[keep], **fields), universe(), ("S00",), 30, VALUES[:9]
    )
    made.end_build()
    found = made.known(panel(), universe(), ("S00",), 30)
    np.testing.assert_array_equal(found, VALUES[:4])


@pytest.mark.parametrize(
    "asked",
    [
        {"universe": universe(min_present=0.5)},
        {"universe": universe(("S00", "S01"))},
        {"wanted": ("S01",)},
        {"market": replace(panel(), symbols=("S00", "S01", "S09"))},
        {"first_row": 29},
        {"first_row": 40},
    ],
    ids=["least present", "members", "wanted", "symbols", "before the first", "after the last"],
)
def test_anything_else_is_not_found(cache, asked):
    call = {"market": panel(), "universe": universe(), "wanted": ("S00",), "first_row": 30}
    assert cache.known(**(call | asked)) is None


def test_a_longer_history_is_not_found_since_it_may_know_more():
    made = RowCache(100)
    made.keep(panel(5), universe(), ("S00",), 25, VALUES)
    made.end_build()
    assert made.known(panel(), universe(), ("S00",), 30) is None


def test_only_the_newest_rows_of_the_last_build_are_kept():
    made = RowCache(4)
    made.keep(panel(), universe(), ("S00",), 30, VALUES)
    made.end_build()
    assert made.known(panel(), universe(), ("S00",), 30) is None
    np.testing.assert_array_equal(made.known(panel(), universe(), ("S00",), 36), VALUES[6:])
    made.end_build()  # a build that kept nothing
    assert made.known(panel(), universe(), ("S00",), 36) is None
