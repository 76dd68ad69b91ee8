"""What was known when: restatements, publication lags, given instants, blocks of vintages."""

import itertools
from datetime import date, datetime, time, timedelta

import numpy as np
import pandas as pd
import pytest

from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market
from tft_core.errors import DataError

DAYS = pd.bdate_range("2020-01-06", periods=10)


def bars(closes, days=DAYS, symbol: str = "A") -> pd.DataFrame:
    return pd.DataFrame({"date": days[: len(closes)], "symbol": symbol, "close": closes})


@pytest.fixture
def store(tmp_path):
    with MarketDataStore(tmp_path / "market.duckdb") as opened:
        yield opened


def closes(store: MarketDataStore, as_of=None) -> list[float]:
    return store.bars(as_of=as_of)["close"].tolist()


def test_ingesting_the_same_rows_again_changes_nothing(store) -> None:
    store.ingest(bars([1.0, 2.0, 3.0]))
    before = store.data_hash()
    report = store.ingest(bars([1.0, 2.0, 3.0]))
    assert (report.new, report.restated, report.unchanged) == (0, 0, 3)
    assert (store.data_hash(), store.summary()["superseded"]) == (before, 0)


def test_quarantined_rows_of_a_repeated_ingestion_are_kept_once(store) -> None:
    for _ in range(2):
        assert store.ingest(bars([1.0, -2.0, 3.0])).quarantined == 1
    assert len(store.quarantine()) == 1


def test_a_restated_bar_keeps_its_old_value_for_those_who_ask_as_of_then(store) -> None:
    store.ingest(bars([1.0, 2.0, 3.0]), ingested_at=datetime(2020, 1, 9))
    report = store.ingest(bars([1.0, 2.5, 3.0]), ingested_at=datetime(2020, 2, 1, 12))
    assert (report.new, report.restated, report.unchanged) == (0, 1, 2)
    assert closes(store) == [1.0, 2.5, 3.0]
    assert closes(store, date(2020, 1, 31)) == [1.0, 2.0, 3.0]
    assert closes(store, datetime(2020, 2, 1, 11, 59)) == [1.0, 2.0, 3.0]
    assert closes(store, datetime(2020, 2, 1, 12)) == [1.0, 2.5, 3.0]
    assert closes(store, date(2020, 2, 1)) == [1.0, 2.5, 3.0]
    assert store.sql("SELECT close FROM bars", as_of="2020-01-31")["close"].tolist()[1] == 2.0


def test_a_value_may_be_restated_back_and_every_step_is_remembered(store) -> None:
    for month, value in ((1, 2.0), (2, 9.0), (3, 2.0)):
        store.ingest(bars([value]), ingested_at=datetime(2020, month, 20))
    assert [closes(store, date(2020, m, 25)) for m in (1, 2, 3)] == [[2.0], [9.0], [2.0]]
    assert store.summary()["superseded"] == 2


def test_a_restatement_that_claims_to_be_older_still_comes_after_what_was_known(store) -> None:
    store.ingest(bars([1.0]))
    store.ingest(bars([2.0]), ingested_at=datetime(2020, 1, 6, 10))  # before the session's end
    assert closes(store) == [2.0]
    assert closes(store, date(2020, 1, 6)) == [2.0]


def test_a_first_load_counts_as_known_at_the_end_of_its_session_day(store) -> None:
    store.ingest(bars([1.0, 2.0, 3.0]))
    assert closes(store, DAYS[1].date()) == [1.0, 2.0]
    assert closes(store, DAYS[1]) == [1.0, 2.0]  # a session stamp means its whole day
    assert closes(store, datetime.combine(DAYS[1].date(), time(12))) == [1.0]


def test_a_publication_lag_delays_what_was_known(store) -> None:
    facts = pd.DataFrame({"symbol": ["A"], "publication_lag_days": [2]})
    store.ingest(bars([1.0, 2.0, 3.0, 4.0]), instruments=facts)
    assert closes(store, DAYS[3].date()) == [1.0, 2.0]


def test_a_lagged_instrument_has_no_row_on_any_day_and_is_counted_as_late(store) -> None:
    facts = pd.DataFrame({"symbol": ["A"], "publication_lag_days": [1]})
    report = store.ingest(bars([1.0, 2.0, 3.0, 4.0]), instruments=facts)
    assert any(
        "1 symbols with publication_lag_days of 1 or more (first A)" in n for n in report.notes
    )
    store.ingest(bars([1.0, 2.0, 3.0, 4.0], symbol="B"))
    for day in DAYS[:4]:
        assert store.bars(start=day, end=day, as_of=day)["symbol"].tolist() == ["B"]
    assert store.late_share().to_dict() == {"A": 1.0, "B": 0.0}
    seen = store.late_share(end=DAYS[1], as_of=DAYS[1])  # what comes later is not counted
    assert seen.to_dict() == {"A": 1.0, "B": 0.0}
    one_late = bars([9.0], days=DAYS[4:5], symbol="B").assign(available_at="2020-01-20")
    store.ingest(one_late)
    assert store.late_share(["B"]).to_dict() == {"B": 0.2}
    store.ingest(bars([1.5], symbol="B"))  # a restatement is news about an old bar, not a late bar
    assert store.late_share(["B"]).to_dict() == {"B": 0.2}


def test_instants_given_by_the_file_are_believed(store) -> None:
    frame = bars([1.0, 2.0]).assign(available_at=["2020-01-06T18:00", "2020-03-01T09:00"])
    report = store.ingest(frame)
    assert any("became known after their session day" in note for note in report.notes)
    assert closes(store, datetime(2020, 1, 6, 18)) == [1.0]
    assert closes(store, datetime(2020, 3, 1, 9)) == [1.0, 2.0]
    assert store.ingest(frame).unchanged == 2


def test_one_file_may_bring_several_vintages_of_a_bar(store) -> None:
    frame = pd.concat(
        [
            bars([1.0]).assign(available_at="2020-01-06T20:00"),
            bars([1.5]).assign(available_at="2020-02-01T20:00"),
            bars([1.5]).assign(available_at="2020-02-02T20:00"),  # no news
        ]
    )
    report = store.ingest(frame)
    assert (report.new, report.restated, report.unchanged) == (1, 1, 1)
    assert closes(store, date(2020, 1, 31)) == [1.0]
    assert closes(store) == [1.5]
    again = store.ingest(frame)
    assert (again.new, again.restated, again.unchanged) == (0, 0, 3)


def test_a_vintage_may_arrive_between_two_that_are_known(store) -> None:
    for value, at in ((1.0, "2020-01-06T20:00"), (3.0, "2020-03-01T20:00")):
        store.ingest(bars([value]).assign(available_at=at))
    store.ingest(bars([2.0]).assign(available_at="2020-02-01T20:00"))
    known = [closes(store, date(2020, m, 10)) for m in (1, 2, 3)]
    assert known == [[1.0], [2.0], [3.0]]


def test_two_values_that_claim_the_same_instant_do_not_rewrite_the_past(store) -> None:
    frame = bars([1.0]).assign(available_at="2020-01-06T20:00")
    store.ingest(frame, ingested_at=datetime(2020, 1, 7))
    store.ingest(frame.assign(close=2.0), ingested_at=datetime(2020, 5, 1))
    assert closes(store, date(2020, 4, 30)) == [1.0]
    assert closes(store) == [2.0]


def test_two_hundred_random_restatements_never_change_what_was_known_before(tmp_path) -> None:
    """A cent, a split's ratio, a misplaced decimal, and back to the first value."""
    rng = np.random.default_rng(3)
    market = synthetic_market(3, 60, seed=4)
    prices = ["open", "high", "low", "close"]
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        moment = datetime(2015, 1, 1)
        store.ingest(market, ingested_at=moment)
        asked = [d.date() for d in pd.date_range("2015-01-20", "2015-12-20", periods=12)]
        remembered: dict[date, tuple[str, int]] = {}
        restated = 0
        while restated < 200:
            moment += timedelta(days=int(rng.integers(5, 50)), hours=int(rng.integers(24)))
            rows = market.sample(14, random_state=int(rng.integers(1 << 30)))
            factor = rng.choice([1.0, 1.001, 0.5, 3.0, 10.0, 0.01], size=(14, 1))
            changed = rows.assign(**{p: rows[p] * factor[:, 0] for p in prices})
            restated += store.ingest(changed, ingested_at=moment).restated
            for day in asked:
                if day < moment.date():
                    known = store.data_hash(as_of=day), len(store.findings(as_of=day))
                    assert remembered.setdefault(day, known) == known
        assert len(remembered) == 12
        assert len({digest for digest, _ in remembered.values()}) >= 8  # they do differ
        assert store.summary()["withheld"] > 0


def known_rows(store: MarketDataStore, row: date, as_of: date | None) -> pd.DataFrame:
    return store.bars(end=row, as_of=as_of)


def assert_blocks_tell_the_truth(store: MarketDataStore, start: date, end: date) -> int:
    """Oracle: each row of a block sees what it would see as of its own day."""
    blocks = store.vintage_blocks(start, end)
    assert blocks[0][0] == start
    assert blocks[-1][1] == end
    for (_, last, _), (first, _, _) in itertools.pairwise(blocks):
        assert first == last + timedelta(days=1)
    for first, last, as_of in blocks:
        for day in store.session_dates(start=first, end=last).date:
            pd.testing.assert_frame_equal(
                known_rows(store, day, as_of), known_rows(store, day, day)
            )
    return len(blocks)


def test_without_restatements_all_rows_share_one_block_without_a_limit(store) -> None:
    store.ingest(synthetic_market(2, 50, seed=6))
    first, last = store.first_session(), store.last_session()
    assert store.vintage_blocks(first, last) == [(first, last, None)]


def test_a_restatement_after_the_rows_limits_their_block(store) -> None:
    store.ingest(bars([1.0, 2.0, 3.0]))
    store.ingest(bars([1.5]), ingested_at=datetime(2020, 6, 1))
    first, last = DAYS[0].date(), DAYS[2].date()
    assert store.vintage_blocks(first, last) == [(first, last, last)]
    # a row after the restatement sees it, so nothing that comes later concerns it
    later = date(2020, 6, 2)
    assert store.vintage_blocks(later, later) == [(later, later, None)]


def test_blocks_split_where_knowledge_changes(store) -> None:
    market = synthetic_market(3, 80, seed=7)
    store.ingest(market)
    days = store.session_dates()
    for at, symbol in ((20, "S00"), (21, "S01"), (50, "S00"), (79, "S02")):
        past = market[(market["symbol"] == symbol) & (market["date"] < days[at])].tail(3)
        prices = {p: past[p] * 1.1 for p in ("open", "high", "low", "close")}
        store.ingest(
            past.assign(**prices), ingested_at=days[at].to_pydatetime() + timedelta(hours=9)
        )
    assert assert_blocks_tell_the_truth(store, days[5].date(), days[79].date()) == 5
    assert assert_blocks_tell_the_truth(store, days[25].date(), days[40].date()) == 1
    assert len(store.vintage_blocks(days[5].date(), days[79].date(), ["S01"])) == 2


def test_blocks_hold_with_lags_and_weekend_restatements(store) -> None:
    lagged = pd.DataFrame({"symbol": ["S00"], "publication_lag_days": [3]})
    store.ingest(synthetic_market(2, 15, seed=8), instruments=lagged)
    first_two = store.bars(["S01"]).head(2)
    change = first_two.assign(close=first_two["low"])
    report = store.ingest(change, ingested_at=datetime(2015, 1, 10, 8))  # a Saturday
    assert report.restated == 2
    assert_blocks_tell_the_truth(store, date(2015, 1, 1), date(2015, 1, 25))


def test_an_instant_that_cannot_be_read_is_quarantined(store) -> None:
    frame = bars([1.0, 2.0]).assign(available_at=["2020-01-06T18:00", "soon"])
    report = store.ingest(frame)
    assert report.counts() == {"bad_available_at": 1}


def test_the_future_cannot_move_what_was_known(tmp_path) -> None:
    market = synthetic_market(2, 60, seed=9)
    cut = sorted(market["date"].unique())[30]
    poisoned = market.copy()
    late = poisoned["date"] > cut
    poisoned.loc[late, ["open", "high", "low", "close"]] *= 7.0
    panels = []
    for name, frame in (("a", market), ("b", poisoned), ("c", market[~late])):
        with MarketDataStore(tmp_path / f"{name}.duckdb") as store:
            store.ingest(frame)
            panels.append(store.panel(as_of=cut))
    for other in panels[1:]:
        assert other.dates.equals(panels[0].dates)
        np.testing.assert_array_equal(other.close, panels[0].close)


def test_as_of_must_be_a_moment(store) -> None:
    store.ingest(bars([1.0]))
    assert closes(store, "2020-01-06") == [1.0]
    assert closes(store, "2020-01-06T10:00:00+00:00") == []
    with pytest.raises(DataError, match="as_of must be a date"):
        store.bars(as_of="yesterday")
