"""Faults that only time shows: found where planted, when they can be, and felt from then on."""

import itertools
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tft_core.data.history import Fault, history_faults, large_moves
from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market

US_STOCKS = Path(__file__).parents[4] / "shared" / "data" / "us_pypi.parquet"
PRICES = ["open", "high", "low", "close"]


def walk(n_sessions: int = 400, seed: int = 3) -> np.ndarray:
    """Closes with 1 % volatility and no fault."""
    return 100.0 * np.exp(np.cumsum(0.01 * np.random.default_rng(seed).standard_normal(n_sessions)))


def scaled(close: np.ndarray, rows: slice, factor: float) -> np.ndarray:
    out = close.copy()
    out[rows] *= factor
    return out


def told(faults: list[Fault]) -> list[tuple[str, int, int, int]]:
    return [(f.rule, f.first, f.last, f.seen) for f in faults]


def test_a_sound_walk_has_no_fault() -> None:
    assert history_faults(walk()) == []
    assert history_faults(walk(1)) == []


PLANTED = [
    # rule, rows, factor, first, last, seen: by arithmetic from the rows that were changed
    ("decimal_spike", slice(200, 201), 10.0, 200, 200, 201),
    ("decimal_spike", slice(200, 201), 0.01, 200, 200, 201),
    ("decimal_spike", slice(200, 203), 100.0, 200, 202, 203),
    ("decimal_spike", slice(200, 205), 7.0, 200, 204, 205),
    ("unit_switch", slice(200, 206), 100.0, 200, 200, 205),
    ("unit_switch", slice(200, None), 0.001, 200, 200, 205),
    ("spike", slice(200, 201), 1.6, 200, 200, 201),
    ("spike", slice(200, 201), 0.5, 200, 200, 201),
    ("unadjusted_split", slice(200, None), 0.5, 200, 200, 205),
    ("unadjusted_split", slice(200, None), 1 / 3, 200, 200, 205),
    ("unadjusted_split", slice(200, None), 2.0, 200, 200, 205),
    ("unadjusted_split", slice(200, None), 7.0, 200, 200, 205),
]


@pytest.mark.parametrize(("rule", "rows", "factor", "first", "last", "seen"), PLANTED)
def test_a_planted_jump_is_found_on_its_day_and_not_before_it_can_be_seen(
    rule: str, rows: slice, factor: float, first: int, last: int, seen: int
) -> None:
    close = scaled(walk(), rows, factor)
    found = {f.rule: f for f in reversed(history_faults(close))}  # the first of each rule
    at_once = {"impossible_jump"} if max(factor, 1 / factor) > 4.5 else set()
    assert set(found) == at_once | {rule}
    assert told([found[rule]]) == [(rule, first, last, seen)]
    assert found[rule].value == pytest.approx(factor, rel=0.05)
    assert {f.rule for f in history_faults(close[:seen])} == at_once
    assert history_faults(close[:first]) == []


def test_a_day_that_traded_at_both_levels_was_no_split() -> None:
    close = scaled(walk(), slice(200, None), 0.5)
    low = close * 0.99
    high = close * 1.01
    assert [f.rule for f in history_faults(close, high, low)] == ["unadjusted_split"]
    high[200] = close[199]  # it opened at the old level: a crash
    assert history_faults(close, high, low) == []


def test_a_run_of_unchanged_closes_is_judged_by_the_markets_own_habit() -> None:
    close = walk()
    close[200:216] = close[200]
    assert told(history_faults(close)) == [("stale_run", 201, 211, 211)]
    rests = np.random.default_rng(5).random(400) < 0.5  # a short rate rests on every other day
    lazy = close[np.maximum.accumulate(np.where(rests, 0, np.arange(400)))]
    lazy[200:213] = lazy[200]
    assert history_faults(lazy) == []  # 12 in a row: once in 2^12 sessions


def test_a_symbol_that_stops_trading_is_told_once() -> None:
    close = walk(900)
    close[300:] = close[300]
    found = [f for f in history_faults(close) if f.rule == "does_not_trade"]
    assert len(found) == 1
    assert found[0].first == 300 + 152  # unchanged on more than 60 % of 252 sessions
    assert history_faults(np.full(30, 7.0))[-1].rule == "does_not_trade"


def test_large_moves_are_those_beyond_the_scale_of_the_year_before() -> None:
    assert large_moves(scaled(walk(), slice(200, None), 0.7)) == [200]
    pegged = 8.277 * np.exp(1e-7 * np.random.default_rng(1).standard_normal(400))
    assert large_moves(scaled(pegged, slice(300, None), 1.0001)) == []  # rounding of a peg


FACTORS = st.sampled_from([0.001, 0.1, 0.5, 0.6, 1.0, 1.6, 2.0, 10.0, 100.0])


@settings(max_examples=40, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(1, 390), st.integers(1, 9), FACTORS), max_size=5),
    cut=st.integers(2, 399),
    seed=st.integers(0, 50),
)
def test_the_future_never_changes_what_was_seen(edits, cut: int, seed: int) -> None:
    """The causality test: cut or replace what comes later, and the past is the same."""
    close = walk(400, seed)
    for start, length, factor in edits:
        close[start : start + length] = (
            close[start - 1] if factor == 1.0 else close[start : start + length] * factor
        )
    seen = [f for f in history_faults(close) if f.seen < cut]
    poisoned = np.concatenate([close[:cut], close[cut:] * 7.0 + 1e4])
    assert [f for f in history_faults(poisoned) if f.seen < cut] == seen
    assert history_faults(close[:cut]) == seen


# -- what the store makes of them ---------------------------------------------------------------


def faulty_market() -> pd.DataFrame:
    """Two symbols; S00 has a misplaced decimal, a stale run and a split, S01 is sound."""
    market = synthetic_market(2, 120, seed=4, holidays=False)
    own = market.index[market["symbol"] == "S00"]
    market.loc[own[40], PRICES] *= 100.0
    market.loc[own[60:75], PRICES] = market.loc[own[60], PRICES].to_numpy()
    market.loc[own[100:], PRICES] *= 0.5
    return market


def outcome(store: MarketDataStore) -> list[tuple]:
    found = store.findings()
    return [tuple(row) for row in found.itertuples(index=False, name=None)]


@pytest.mark.parametrize(
    "begins",
    [
        (0, 45, 90),
        # a day at a time wherever a fault begins, ends or is revealed
        (0, 39, 40, 41, 42, 60, 61, 70, 71, 72, 75, 100, 101, 104, 105, 106),
    ],
)
def test_a_file_in_pieces_leads_to_the_same_findings_and_reads_as_in_one(tmp_path, begins) -> None:
    market = faulty_market()
    days = sorted(market["date"].unique())
    with MarketDataStore(tmp_path / "a.duckdb") as one, MarketDataStore(tmp_path / "b.duckdb") as b:
        one.ingest(market)
        for begin, end in itertools.pairwise((*begins, len(days))):
            b.ingest(market[market["date"].isin(days[begin:end])])
        assert outcome(b) == outcome(one)
        assert [(r[0], r[1]) for r in outcome(one)] == [
            ("decimal_spike", "withheld"),
            ("impossible_jump", "flagged"),
            ("stale_run", "flagged"),
            ("unadjusted_split", "flagged"),
        ]
        for day in (days[39], days[40], days[41], days[80], None):
            assert b.data_hash(as_of=day) == one.data_hash(as_of=day)


def test_a_misplaced_decimal_is_read_until_the_day_that_shows_it_and_not_after(tmp_path) -> None:
    market = faulty_market()
    own = market[market["symbol"] == "S00"].reset_index(drop=True)
    spike, next_day = own["date"][40], own["date"][41]
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        report = store.ingest(market)
        assert (report.accepted, report.quarantined) == (len(market), 0)
        assert report.counts()["decimal_spike"] == 1
        row = report.findings.set_index("rule").loc["decimal_spike"]
        assert (row["outcome"], row["symbol"], row["date"]) == ("withheld", "S00", spike)
        assert row["known_at"] == next_day + pd.Timedelta("23:59:59")
        assert row["value"] == pytest.approx(100.0, rel=0.1)
        seen = store.bars(["S00"], spike, spike, as_of=spike)
        assert seen["close"].tolist() == [own["close"][40]]
        assert store.bars(["S00"], spike, spike, as_of=next_day).empty
        assert store.bars(["S00"], spike, spike).empty
        assert store.sql("SELECT * FROM bars WHERE date = ?", [spike])["symbol"].tolist() == ["S01"]
        kept = store.sql("SELECT close FROM bar_vintages WHERE withheld_from IS NOT NULL")
        assert kept["close"].tolist() == [own["close"][40]]  # nothing is dropped
        assert np.isnan(store.panel(["S00", "S01"], spike, spike).close[0, 0])  # masked, not filled
        assert store.summary()["withheld"] == 1


def test_findings_are_there_from_the_day_on_which_they_could_be_known(tmp_path) -> None:
    market = faulty_market()
    days = sorted(market["date"].unique())
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        store.ingest(market)
        rules = [
            store.findings(["S00"], as_of=days[i])["rule"].tolist() for i in (39, 40, 41, 71, 104)
        ]
        jumped, spiked = ["impossible_jump"], ["decimal_spike", "impossible_jump"]
        assert rules == [[], jumped, spiked, [*spiked, "stale_run"], rules[3]]
        assert store.findings(as_of=days[105])["rule"].tolist()[-1] == "unadjusted_split"
        assert store.findings(["S01"]).empty


def test_every_row_of_a_block_sees_what_was_known_on_its_own_day_with_spikes_too(tmp_path) -> None:
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        store.ingest(faulty_market())
        first, last = store.first_session(), store.last_session()
        blocks = store.vintage_blocks(first, last)
        assert len(blocks) == 2  # the block changes on the day that shows the spike
        for start, end, as_of in blocks:
            for day in store.session_dates(start=start, end=end).date:
                pd.testing.assert_frame_equal(
                    store.bars(end=day, as_of=as_of), store.bars(end=day, as_of=day)
                )


def test_the_session_of_a_withheld_bar_took_place_whoever_is_asked_about(tmp_path) -> None:
    market = faulty_market()
    spike = market[market["symbol"] == "S00"]["date"].iloc[40]
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        store.ingest(market)
        assert spike in store.session_dates(["S00"])
        (_, _, as_of), _ = store.vintage_blocks(spike.date(), store.last_session(), ["S00"])
        assert as_of == spike.date()
        assert len(store.bars(["S00"], spike, spike, as_of=as_of)) == 1


def test_a_withheld_bar_that_is_restated_is_read_again_from_then_on(tmp_path) -> None:
    market = faulty_market()
    own = market[market["symbol"] == "S00"].iloc[[40]]
    spike = own["date"].iloc[0]
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        store.ingest(market)
        before = {day: store.data_hash(as_of=day) for day in ("2015-02-20", "2015-12-31")}
        mended = own.assign(**{name: own[name] / 100.0 for name in PRICES})
        store.ingest(mended, ingested_at=datetime(2016, 5, 1))
        assert {day: store.data_hash(as_of=day) for day in before} == before
        assert store.bars(["S00"], spike, spike)["close"].tolist() == mended["close"].tolist()
        store.ingest(own, ingested_at=datetime(2016, 6, 1))  # the error again: seen at once
        assert store.bars(["S00"], spike, spike).empty
        assert len(store.bars(["S00"], spike, spike, as_of="2016-05-20")) == 1


def test_ingesting_a_faulty_file_again_tells_the_same_and_changes_nothing(tmp_path) -> None:
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        first = store.ingest(faulty_market())
        before = (store.data_hash(), outcome(store))
        again = store.ingest(faulty_market())
        pd.testing.assert_frame_equal(again.findings, first.findings)
        assert (again.new, again.restated, again.flagged) == (0, 0, first.flagged)
        assert (store.data_hash(), outcome(store)) == before


def test_the_splits_that_quandl_recorded_are_found_in_its_unadjusted_prices(tmp_path) -> None:
    """Truth from elsewhere: where the adjusted and the traded close part by a split's ratio."""
    if not US_STOCKS.is_file():
        pytest.skip(f"needs {US_STOCKS}, which comes with the project's shared data")
    bars = pd.read_parquet(US_STOCKS)
    bars = bars[bars["symbol"].isin(["AAPL", "GOOG", "IBM", "MSFT", "FB"])]
    truth = set()
    for symbol, own in bars.sort_values("date").groupby("symbol"):
        factor = (own["close"] / own["adj_close"]).to_numpy()
        days = pd.to_datetime(own["date"]).to_numpy()[1:]
        truth |= {(symbol, str(day)[:10]) for day in days[factor[:-1] / factor[1:] > 1.4]}
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        store.ingest(bars)
        found = store.findings()
    splits = set(
        zip(
            *(found[found["rule"] == "unadjusted_split"][c] for c in ("symbol", "date")),
            strict=True,
        )
    )
    assert {(s, str(d)[:10]) for s, d in truth} == {
        ("AAPL", "2000-06-21"),
        ("AAPL", "2005-02-28"),
        ("MSFT", "2003-02-18"),
    }
    found_days = {(s, str(d)[:10]) for s, d in splits}
    assert {(s, str(d)[:10]) for s, d in truth} <= found_days
    # one real crash has a split's size: Apple's profit warning of 2000-09-28
    assert found_days - {(s, str(d)[:10]) for s, d in truth} == {("AAPL", "2000-09-29")}
    assert found[found["outcome"] == "withheld"].empty


def test_faults_come_in_the_order_in_which_they_could_be_seen() -> None:
    close = scaled(scaled(walk(), slice(100, 101), 10.0), slice(200, None), 0.5)
    close[300:320] = close[300]
    seen = [f.seen for f in history_faults(close)]
    assert all(a <= b for a, b in itertools.pairwise(seen))
    assert len(seen) == 4
