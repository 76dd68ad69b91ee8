"""The market store: reads, instruments, series, SQL and what it refuses."""

from datetime import date, datetime

import numpy as np
import pandas as pd
import pytest

from tft_core.data.panel import FIELDS, MarketPanel
from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market
from tft_core.errors import DataError, UnknownSymbolError
from tft_core.schema import BAR_COLUMNS

MARKET = synthetic_market(3, 200, seed=5, close_only=("S02",))


@pytest.fixture
def store(tmp_path):
    with MarketDataStore(tmp_path / "market.duckdb") as opened:
        opened.ingest(MARKET)
        yield opened


def test_bars_come_back_as_they_went_in(store) -> None:
    expected = MARKET.sort_values(["symbol", "date"], ignore_index=True)[list(BAR_COLUMNS)]
    pd.testing.assert_frame_equal(store.bars(), expected, check_dtype=False)


def test_start_and_end_are_both_included(store) -> None:
    days = store.session_dates()
    bars = store.bars(["S00"], start=days[10], end=days[20].date())
    own = MARKET[(MARKET["symbol"] == "S00") & MARKET["date"].between(days[10], days[20])]
    assert bars["date"].tolist() == own["date"].tolist()


def test_the_panel_keeps_the_order_asked_for_and_leaves_holes_open(store) -> None:
    panel = store.panel(["S02", "S00"])
    assert panel.symbols == ("S02", "S00")
    own = MARKET[MARKET["symbol"] == "S00"].set_index("date")["close"]
    np.testing.assert_array_equal(panel.close[:, 1], own.reindex(panel.dates).to_numpy())
    assert np.isnan(panel.open[:, 0]).all()
    assert np.isnan(panel.close).any()  # holidays differ by symbol and nothing is filled


def test_first_and_last_session_and_their_dates(store) -> None:
    assert store.first_session() == MARKET["date"].min().date()
    assert store.last_session(["S01"]) == MARKET["date"].max().date()
    assert store.session_dates().tolist() == sorted(MARKET["date"].unique())
    assert store.symbols() == ("S00", "S01", "S02")


def test_an_unknown_symbol_is_refused_with_the_nearest_name(store) -> None:
    with pytest.raises(UnknownSymbolError, match=r"found S0X; did you mean S0"):
        store.panel(["S00", "S0X"])
    with pytest.raises(DataError, match=r"found the text 'S00'; use a list"):
        store.bars("S00")
    with pytest.raises(DataError, match="found S00 twice"):
        store.bars(["S00", "S00"])


def test_an_empty_store_has_no_last_session(tmp_path) -> None:
    with MarketDataStore(tmp_path / "m.duckdb") as empty:
        assert empty.symbols() == ()
        assert empty.panel().close.shape == (0, 0)
        with pytest.raises(DataError, match="must hold bars, found none; run `tft sample`"):
            empty.last_session()


def test_a_store_that_does_not_exist_cannot_be_read(tmp_path) -> None:
    with pytest.raises(DataError, match=r"found nothing at .*none\.duckdb"):
        MarketDataStore(tmp_path / "none.duckdb", read_only=True)


def test_a_file_that_is_no_store_is_refused_by_name(tmp_path) -> None:
    file = tmp_path / "letter.duckdb"
    file.write_text("dear reader " * 500)
    with pytest.raises(DataError, match=r"letter\.duckdb must be a DuckDB file"):
        MarketDataStore(file)
    assert file.read_text().startswith("dear reader")


def test_a_read_only_store_refuses_to_write(store) -> None:
    with MarketDataStore(store.path, read_only=True) as reader:
        assert len(reader.bars()) == len(MARKET)
        with pytest.raises(DataError, match="found read_only=True"):
            reader.ingest(MARKET)
        with pytest.raises(DataError, match="found read_only=True"):
            reader.set_instruments(pd.DataFrame({"symbol": ["S00"]}))


def test_history_start_counts_each_symbols_own_sessions(store) -> None:
    last = store.last_session()
    starts = []
    for symbol in store.symbols():
        own = MARKET[MARKET["symbol"] == symbol]["date"].sort_values()
        starts.append(own.iloc[-50].date())
    assert store.history_start(None, last, 50) == min(starts)
    assert store.history_start(["S01"], last, 50) == starts[1]
    assert store.history_start(None, last, 10_000) == store.first_session()


@pytest.mark.parametrize("wanted", [1, 7, 40, 200])
def test_history_start_is_the_plain_count_for_pauses_and_young_symbols_too(tmp_path, wanted):
    days = pd.bdate_range("2015-01-01", periods=600)
    rng = np.random.default_rng(wanted)
    traded = {
        "FULL": days,
        "YOUNG": days[-30:],
        "PAUSED": days.delete(np.arange(300, 590)),
        "ROUGH": days[np.sort(rng.choice(len(days), 250, replace=False))],
        "GONE": days[:100],
    }
    bars = [pd.DataFrame({"date": own, "symbol": s, "close": 1.0}) for s, own in traded.items()]
    with MarketDataStore(tmp_path / "s.duckdb") as store:
        store.ingest(pd.concat(bars))
        for last in (days[-1], days[350], days[60]):
            plain = []
            for own in traded.values():
                own = own[own <= last]
                if len(own) and own[-1] >= last - pd.Timedelta(days=30):
                    plain.append(own[-wanted:][0])
            assert store.history_start(None, last.date(), wanted) == min(plain).date()


def test_a_panel_holds_the_bars_in_the_order_asked_for(store) -> None:
    days = store.session_dates()
    first, last = days[20].date(), days[150].date()
    for symbols in (("S02", "S00"), store.symbols()):
        panel = store.panel(symbols, first, last)
        plain = MarketPanel.from_bars(store.bars(symbols, first, last), symbols)
        assert panel.symbols == symbols
        pd.testing.assert_index_equal(panel.dates, plain.dates)
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(panel, name), getattr(plain, name))
    assert store.panel((), first, last).close.shape == (0, 0)


def test_exchanges_are_those_of_the_symbols_that_have_one(store) -> None:
    store.set_instruments(pd.DataFrame({"symbol": ["S00", "S01"], "exchange": ["XNYS", None]}))
    assert store.exchanges(["S01", "S00", "S02"]) == {"S00": "XNYS"}


def test_history_start_leaves_out_symbols_that_no_longer_trade(store) -> None:
    dead = pd.DataFrame({"date": [date(2010, 1, 4)], "symbol": ["OLD"], "close": [1.0]})
    store.ingest(dead)
    last = store.last_session()
    assert store.history_start(None, last, 10_000) == MARKET["date"].min().date()
    assert store.history_start(["OLD"], last, 5) == last


def test_the_hash_depends_on_content_and_not_on_the_order_of_ingestion(tmp_path, store) -> None:
    early = MARKET["date"] < MARKET["date"].median()
    with MarketDataStore(tmp_path / "other.duckdb") as other:
        other.ingest(MARKET[~early])
        other.ingest(MARKET[early].sample(frac=1.0, random_state=1))
        assert other.data_hash() == store.data_hash()
        first = MARKET[MARKET["symbol"] == "S01"].head(1)
        changed = first.assign(close=first["low"])
        other.ingest(changed)
        assert other.data_hash() != store.data_hash()
        assert other.data_hash(["S00"]) == store.data_hash(["S00"])


def test_instruments_list_every_symbol_and_updates_keep_what_they_do_not_name(store) -> None:
    store.set_instruments(
        pd.DataFrame(
            {"symbol": ["S00", "ZZ"], "asset_class": ["bond", "metal"], "cost_bps": [2, 1]}
        )
    )
    store.set_instruments(
        pd.DataFrame({"symbol": ["S00"], "cost_vol": [0.01], "publication_lag_days": [1]})
    )
    table = store.instruments()
    assert table.index.tolist() == ["S00", "S01", "S02", "ZZ"]
    row = table.loc["S00"]
    assert (row["asset_class"], row["cost_bps"], row["cost_vol"]) == ("bond", 2.0, 0.01)
    assert row["publication_lag_days"] == 1
    assert table.loc["S01", "asset_class"] == "unknown"
    assert np.isnan(table.loc["S01", "cost_bps"])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"symbol": ["A"], "cost_bps": [-1.0]}), "at least 0, found -1.0 for A"),
        (pd.DataFrame({"symbol": ["A", "A"]}), "found A twice"),
        (pd.DataFrame({"cost_bps": [1.0]}), "must have a column 'symbol'"),
        (pd.DataFrame({"symbol": ["A"], "publication_lag_days": [0.5]}), "whole numbers"),
    ],
)
def test_impossible_instruments_are_refused(store, frame, message: str) -> None:
    before = store.instruments()
    with pytest.raises(DataError, match=message):
        store.set_instruments(frame)
    pd.testing.assert_frame_equal(store.instruments(), before)


def test_sql_reads_bars_with_parameters(store) -> None:
    found = store.sql("SELECT count(*) AS n FROM bars WHERE symbol = ?", ["S01"])
    assert found["n"].tolist() == [int((MARKET["symbol"] == "S01").sum())]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM bar_vintages",
        "INSERT INTO bar_vintages SELECT * FROM bar_vintages",
        "DROP TABLE instruments",
        "CREATE TABLE x AS SELECT 1",
        "CREATE TEMP TABLE x AS SELECT 1",
        "COPY bars TO 'stolen.csv'",
        "SELECT 1; DELETE FROM quarantine",
        "ATTACH 'other.duckdb'",
        "PRAGMA memory_limit='1GB'",
        "EXPLAIN ANALYZE DELETE FROM bar_vintages",
        "WITH gone AS (SELECT 1) DELETE FROM bar_vintages",
        "",
    ],
)
def test_sql_cannot_write(store, query: str) -> None:
    before = store.data_hash()
    with pytest.raises(DataError, match="sql must be"):
        store.sql(query)
    assert store.data_hash() == before


def test_a_mistake_in_sql_is_a_data_error_with_duckdbs_own_words(store) -> None:
    with pytest.raises(DataError, match=r"(?s)found: .*clothes"):
        store.sql("SELECT clothes FROM bars")


def test_series_count_from_the_day_they_were_published(store) -> None:
    first = pd.DataFrame(
        {
            "name": "cpi",
            "date": ["2020-01-31", "2020-02-29"],
            "value": [1.0, 2.0],
            "available_at": ["2020-02-15", "2020-03-15"],
        }
    )
    revised = pd.DataFrame(
        {"name": ["cpi"], "date": ["2020-01-31"], "value": [1.5], "available_at": ["2020-06-01"]}
    )
    assert store.ingest_series(first) == 2
    assert store.ingest_series(revised) == 1
    assert store.ingest_series(first) == 0
    assert store.series(as_of=date(2020, 2, 14)).empty
    assert store.series(as_of=date(2020, 2, 15))["value"].tolist() == [1.0]
    assert store.series(["cpi"], end="2020-01-31")["value"].tolist() == [1.0, 1.5]
    assert store.sql("SELECT count(*) AS n FROM series", as_of=date(2020, 4, 1))["n"][0] == 2
    without = pd.DataFrame({"name": ["vix"], "date": ["2020-01-31"], "value": [20.0]})
    store.ingest_series(without)
    assert store.series(["vix"])["available_at"][0] == pd.Timestamp("2020-01-31 23:59:59")
    with pytest.raises(DataError, match="column value must be filled"):
        store.ingest_series(without.assign(value="?"))


def test_a_revised_series_without_instants_counts_from_its_ingestion(store) -> None:
    """The provider's file is loaded again: what it corrected was not known before."""
    days = ["2020-01-31", "2020-02-28"]
    first = pd.DataFrame({"name": "cpi", "date": days, "value": [1.0, 2.0]})
    assert store.ingest_series(first, ingested_at=datetime(2020, 3, 1)) == 2
    revised = first.assign(value=[1.5, 2.0])
    assert store.ingest_series(revised, ingested_at=datetime(2020, 6, 1, 12)) == 1
    assert store.ingest_series(revised, ingested_at=datetime(2020, 6, 2)) == 0
    january = {"names": ["cpi"], "end": "2020-01-31"}
    assert store.series(**january, as_of=date(2020, 5, 31))["value"].tolist() == [1.0]
    known = store.series(**january)
    assert known["value"].tolist() == [1.0, 1.5]
    assert known["available_at"].iloc[1] == pd.Timestamp("2020-06-01 12:00")


def test_another_value_at_an_instant_that_is_taken_is_a_revision(store) -> None:
    told = pd.DataFrame(
        {"name": "cpi", "date": ["2020-01-31"], "value": [1.0], "available_at": ["2020-02-15"]}
    )
    other = told.assign(value=1.5)
    store.ingest_series(told, ingested_at=datetime(2020, 2, 16))
    assert store.ingest_series(other, ingested_at=datetime(2020, 6, 1)) == 1
    assert store.ingest_series(other, ingested_at=datetime(2020, 6, 2)) == 0
    assert store.ingest_series(told, ingested_at=datetime(2020, 6, 3)) == 0  # both are known
    assert store.series(as_of=date(2020, 5, 31))["value"].tolist() == [1.0]
    assert store.series()["value"].tolist() == [1.0, 1.5]


def test_a_value_revised_on_its_own_day_is_the_one_that_counts(store) -> None:
    for hour, value in ((14, 1.0), (15, 1.5), (16, 1.25)):
        rows = pd.DataFrame({"name": "cpi", "date": ["2020-01-31"], "value": [value]})
        store.ingest_series(rows, ingested_at=datetime(2020, 1, 31, hour))
    assert store.series()["value"].tolist() == [1.0, 1.5, 1.25]
    assert store.series(as_of=date(2020, 1, 30)).empty


@pytest.mark.parametrize("column", ["cost_bp", "Costs_bps", "publication_lag", "asset_clas"])
def test_a_misspelt_fact_of_an_instrument_is_refused_and_not_left_at_its_default(
    store, column
) -> None:
    with pytest.raises(DataError, match=f"must name its columns exactly, found '{column}'"):
        store.set_instruments(pd.DataFrame({"symbol": ["S00"], column: [5.0]}))
    store.set_instruments(pd.DataFrame({"symbol": ["S00"], "isin": ["X"], "note": ["mine"]}))


def test_the_summary_counts_what_is_there(store) -> None:
    facts = store.summary()
    assert (facts["symbols"], facts["bars"], facts["ingestions"]) == (3, len(MARKET), 1)
    assert facts["last"] == str(MARKET["date"].max().date())


def test_without_a_path_the_configured_store_is_opened(tmp_path, monkeypatch) -> None:
    (tmp_path / "tft.toml").write_text("[profile.demo]\n")
    monkeypatch.setenv("TFT_CONFIG", str(tmp_path / "tft.toml"))
    monkeypatch.setenv("TFT_HOME", str(tmp_path / "home"))
    with MarketDataStore() as store:
        assert store.path == tmp_path / "home" / "market.duckdb"


def test_a_failure_in_the_middle_of_an_ingestion_leaves_the_store_as_it_was(
    store, monkeypatch
) -> None:
    before = (store.data_hash(), store.summary())

    def fail(*_: object) -> int:
        raise RuntimeError("disk on fire")

    monkeypatch.setattr("tft_core.data.store_writing.keep_quarantine", fail)
    with pytest.raises(RuntimeError, match="disk on fire"):
        store.ingest(MARKET.assign(close=MARKET["close"] * 2, high=MARKET["high"] * 2))
    assert (store.data_hash(), store.summary()) == before


def test_a_store_opened_as_of_a_day_never_reads_past_it(store) -> None:
    days = store.session_dates()
    with MarketDataStore(store.path, as_of=days[30].date()) as guarded:
        assert guarded.session_dates().tolist() == days[:31].tolist()
        assert guarded.last_session(as_of=datetime(2999, 1, 1)) == days[30].date()
        assert len(guarded.sql("SELECT DISTINCT date FROM bars")) == 31
