"""Building from a store: history, universe, vintages and exogenous series."""

import sys
import types
from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest
from feature_market import deviations, panel_of

from tft_core.data.store import MarketDataStore
from tft_core.data.universe import UniverseConfig, UniverseMember
from tft_core.errors import FeatureError, UnknownSymbolError
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.registry import FeatureConfig, FeatureGroup, definer


@pytest.fixture(scope="module")
def store(tmp_path_factory, bars, series):
    path = tmp_path_factory.mktemp("store") / "market.duckdb"
    with MarketDataStore(path) as opened:
        opened.ingest(bars)
        opened.ingest_series(series)
        yield opened


@pytest.fixture(scope="module")
def whole(store, builder):
    return builder.build(store)


def test_the_store_gives_the_same_features_as_the_arrays(whole, built):
    assert whole.symbols == built.symbols and whole.dates.equals(built.dates)
    np.testing.assert_array_equal(whole.values, built.values)


def test_a_span_and_a_few_symbols_equal_their_part_of_the_whole(store, builder, whole):
    start, end = date(2018, 5, 15), date(2018, 6, 1)
    part = builder.build(store, symbols=["A3", "A0"], start=start, end=end)
    assert part.symbols == ("A3", "A0")
    expected = whole.between(start, date(2018, 6, 2)).values[:, [3, 0]]
    assert not (np.abs(part.values - expected) / deviations(whole) > 1e-6).any()
    np.testing.assert_array_equal(np.isnan(part.values), np.isnan(expected))
    assert part.dates[-1] == pd.Timestamp(end)


def test_the_universe_is_the_configured_one_whoever_is_asked_for(store, bars):
    config = FeatureConfig(groups=("xs",))
    three = UniverseConfig(members=(UniverseMember(symbols=("A0", "A1", "A2")),))
    builder = MegaFeatureBuilder(config, three)
    both = builder.build(store, symbols=["A0", "A3"])
    alone = builder.build(store, symbols=["A0"])
    rows = both.dates.get_indexer(alone.dates)
    np.testing.assert_array_equal(alone.values[:, 0], both.values[rows, 0])
    # an outsider has no rank, but sees the market's breadth
    assert np.isnan(both.select(["xs_rank_ret_5"]).values[:, 1]).all()
    assert np.isfinite(both.select(["xs_adv_share_1"]).values[-1, 1])


def test_a_cross_section_with_too_few_members_is_unknown(store):
    config = FeatureConfig(groups=("xs",))
    dated = UniverseConfig(
        members=(
            UniverseMember(symbols=("A0", "A1", "A2", "A3")),
            UniverseMember(symbols=("A5",), until=date(2018, 1, 31)),
        ),
        min_present=1.0,
    )
    panel = MegaFeatureBuilder(config, dated).build(store, symbols=["A0"])
    found = panel.select(["xs_adv_share_1"]).values[:, 0, 0]
    closes = store.panel(["A0", "A1", "A2", "A3", "A5"])
    present = closes.has_session.copy()
    present[np.asarray(closes.dates > "2018-01-31"), 4] = True  # no longer a member
    complete = present.all(axis=1)[closes.dates.get_indexer(panel.dates)]
    assert np.isnan(found[~complete]).all()
    assert np.isfinite(found[complete][30:]).all() and 0 < (~complete).sum() < 60


def test_a_restated_bar_counts_from_the_day_it_was_known(tmp_path, bars):
    builder = MegaFeatureBuilder(FeatureConfig(groups=("ret",)))
    bars = bars[bars["symbol"].isin(["A0", "A1"])]
    days = np.sort(bars["date"].unique())
    restated_day, known_day = pd.Timestamp(days[600]), pd.Timestamp(days[610])
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        store.ingest(bars)
        before = builder.build(store)
        one = bars[(bars["symbol"] == "A0") & (bars["date"] == restated_day)].copy()
        factor = 1.1
        one[["open", "high", "low", "close"]] *= factor
        store.ingest(one, ingested_at=datetime.fromisoformat(f"{known_day.date()}T12:00:00"))
        after = builder.build(store)
        late = builder.build(store, start=pd.Timestamp(days[612]).date())
    r21 = [panel.select(["ret_21"]).values[:, 0, 0] for panel in (before, after)]
    np.testing.assert_array_equal(r21[0][:610], r21[1][:610])
    # from then on the bar of day 600 is higher, so the return since it is lower
    row = 600 + 21
    assert r21[1][row] == pytest.approx(r21[0][row] - np.log(factor), abs=1e-6)
    np.testing.assert_allclose(after.values[612:], late.values, rtol=1e-6, atol=1e-9)


def test_a_roll_that_restates_all_history_changes_no_feature(tmp_path, bars):
    """Ratio back-adjustment: on the day of a roll every earlier price is multiplied."""
    roll, factor = np.sort(bars["date"].unique())[560], 1.37
    prices = ["open", "high", "low", "close"]
    is_old = bars["date"] < roll
    believed = bars.copy()  # before the roll the old contract's prices were the series
    believed.loc[is_old, prices] /= factor
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        store.ingest(believed[is_old])
        moment = datetime.fromisoformat(f"{pd.Timestamp(roll).date()}T12:00:00")
        store.ingest(bars, ingested_at=moment)
        builder = MegaFeatureBuilder()
        start = pd.Timestamp(np.sort(bars["date"].unique())[540]).date()
        rolled = builder.build(store, start=start)
        assert len(store.vintage_blocks(start, store.last_session(), store.symbols())) > 1
    plain = builder.build_panel(panel_of(bars))
    rows = plain.dates.get_indexer(rolled.dates)
    assert (rolled.dates < roll).any() and (rolled.dates > roll).any()
    expected = plain.values[rows]
    np.testing.assert_array_equal(np.isnan(rolled.values), np.isnan(expected))
    assert np.nanmax(np.abs(rolled.values - expected) / deviations(plain)) < 1e-5


def test_an_asset_that_resumes_after_a_long_pause_has_its_history(tmp_path, bars):
    builder = MegaFeatureBuilder(FeatureConfig(groups=("ret", "paper")))
    days = np.sort(bars["date"].unique())
    paused = (bars["symbol"] == "A1") & bars["date"].between(days[520], days[620])
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        store.ingest(bars[~paused])
        whole = builder.build(store)
        part = builder.build(store, start=pd.Timestamp(days[600]).date())
    np.testing.assert_allclose(part.values, whole.values[600:], rtol=1e-5, atol=1e-8)
    assert np.isfinite(part.select(["ret_252"]).values[-1, 1, 0])


def test_a_users_group_reads_its_own_table_point_in_time(monkeypatch, store, market):
    asked = []

    def load(source, start, end, as_of):
        asked.append((source, start, end))
        days = market.dates[-4:]
        return pd.DataFrame(
            {
                "date": [*days, days[-1]],
                "symbol": ["A0"] * 4 + ["A2"],
                "put_call": [1.0, 2.0, 3.0, 4.0, 9.0],
                # the third row was published a day late
                "available_at": [days[0], days[1], days[3], days[3], days[3]],
            }
        )

    define = definer("opt")
    group = FeatureGroup(
        name="opt",
        title="Option chain",
        axis="own_sessions",
        features=(define("put_call", "table", 1, "ratio", "put/call ratio"),),
        compute=lambda bars: {"opt_put_call": bars.table_column("opt", "put_call")},
        load=load,
    )
    module = types.ModuleType("option_chain")
    module.GROUP = group  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "option_chain", module)
    builder = MegaFeatureBuilder(FeatureConfig(plugins=("option_chain",), groups=("opt",)))
    built = builder.build(store, symbols=["A0", "A2"])
    expected = [[1.0, np.nan], [2.0, np.nan], [np.nan, np.nan], [4.0, 9.0]]
    np.testing.assert_array_equal(built.values[-4:, :, 0], expected)
    assert asked == [(store, market.dates[0].date(), market.dates[-1].date())]
    assert np.isnan(builder.build_panel(market).values).all()


def test_an_unknown_symbol_is_named(store, builder):
    with pytest.raises(UnknownSymbolError, match="found NOPE"):
        builder.build(store, symbols=["A0", "NOPE"])


def test_a_span_without_sessions_is_refused(store, builder):
    with pytest.raises(FeatureError, match="found none between 2031-01-01"):
        builder.build(store, start=date(2031, 1, 1))
