"""Ingestion: every row is accounted for, every fault has a code, nothing is repaired."""

import itertools
import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tft_core.data import calendar
from tft_core.data.rules import RULES
from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market
from tft_core.errors import DataError


@pytest.fixture
def store(tmp_path):
    with MarketDataStore(tmp_path / "market.duckdb") as opened:
        yield opened


def bars(**changes) -> pd.DataFrame:
    """Three weekdays of one symbol; ``changes`` replace whole columns."""
    frame = pd.DataFrame(
        {
            "date": pd.to_datetime(["2020-01-06", "2020-01-07", "2020-01-08"]),
            "symbol": "A",
            "open": [10.0, 11.0, 12.0],
            "high": [11.0, 12.0, 13.0],
            "low": [9.0, 10.0, 11.0],
            "close": [10.5, 11.5, 12.5],
            "volume": [100.0, 200.0, 300.0],
            "open_interest": [5.0, 6.0, 7.0],
        }
    )
    return frame.assign(**changes)


def with_value(column: str, value: object, row: int = 1) -> pd.DataFrame:
    frame = bars()
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value
    return frame


FAULTS = [
    ("missing_symbol", with_value("symbol", None)),
    ("missing_symbol", with_value("symbol", "  ")),
    ("bad_date", with_value("date", "2020-02-30")),
    ("bad_date", with_value("date", None)),
    ("impossible_date", with_value("date", pd.Timestamp("1801-01-01"))),
    ("impossible_date", with_value("date", pd.Timestamp("2199-01-01"))),
    ("not_a_number", with_value("close", "n.b.")),
    ("not_a_number", with_value("volume", "many")),
    ("missing_close", with_value("close", np.nan)),
    ("missing_close", with_value("close", "")),
    ("infinite_value", with_value("close", np.inf)),
    ("infinite_value", with_value("high", np.inf)),
    ("nonpositive_price", with_value("close", 0.0)),
    ("nonpositive_price", with_value("low", -1.0)),
    ("high_below_low", with_value("high", 9.99)),
    ("negative_volume", with_value("volume", -1)),
    ("negative_volume", with_value("open_interest", -1)),
]


@pytest.mark.parametrize(
    ("rule", "frame"), FAULTS, ids=[f"{r}-{i}" for i, (r, _) in enumerate(FAULTS)]
)
def test_a_faulty_row_is_quarantined_with_its_rule_and_the_others_are_kept(
    store, rule: str, frame: pd.DataFrame
) -> None:
    report = store.ingest(frame)
    assert (report.rows_in, report.accepted, report.quarantined) == (3, 2, 1)
    assert rule in set(report.findings["rule"])
    kept = store.quarantine()
    assert kept["rule"].tolist() == [rule]
    assert kept["source_row"].tolist() == [1]
    assert set(json.loads(kept["raw"][0])) == set(frame.columns)
    assert len(store.bars()) == 2


def test_a_finding_names_symbol_date_value_and_row(store) -> None:
    found = store.ingest(with_value("close", -3.5)).findings
    row = found.iloc[0]
    assert (row["rule"], row["symbol"], row["value"], row["row"]) == (
        "nonpositive_price",
        "A",
        -3.5,
        1,
    )
    assert row["date"] == pd.Timestamp("2020-01-07")


@pytest.mark.parametrize(
    ("rule", "frame"),
    [
        ("close_outside_range", with_value("close", 12.5)),
        ("open_outside_range", with_value("open", 9.5)),
        ("weekend_row_unknown_exchange", with_value("date", pd.Timestamp("2020-01-11"))),
    ],
)
def test_a_doubtful_row_is_accepted_with_a_flag(store, rule: str, frame: pd.DataFrame) -> None:
    report = store.ingest(frame)
    assert (report.accepted, report.flagged, report.quarantined) == (3, 1, 0)
    flags = store.sql("SELECT flags FROM bar_vintages WHERE flags IS NOT NULL")
    assert flags["flags"].tolist() == [rule]


def test_rounding_of_adjusted_prices_is_not_a_close_outside_its_range(store) -> None:
    frame = bars(close=[11.0 * (1 + 5e-7), 11.5, 12.5])
    assert store.ingest(frame).flagged == 0


def test_exact_duplicates_are_counted_and_kept_once(store) -> None:
    report = store.ingest(pd.concat([bars(), bars().iloc[[1, 1]]]))
    assert (report.rows_in, report.accepted, report.exact_duplicates) == (5, 3, 2)
    assert report.findings.empty


def test_conflicting_duplicates_are_all_quarantined(store) -> None:
    other = bars(close=[10.5, 11.6, 12.5])
    report = store.ingest(pd.concat([bars(), bars(), other], ignore_index=True))
    # rows 0 and 2 agree three times over; row 1 says 11.5 twice and 11.6 once
    assert (report.accepted, report.exact_duplicates, report.quarantined) == (2, 5, 2)
    assert set(store.quarantine()["rule"]) == {"conflicting_duplicate"}
    assert store.bars()["date"].dt.day.tolist() == [6, 8]


def test_intraday_rows_are_told_from_conflicting_ones(store) -> None:
    stamps = pd.to_datetime(["2020-01-06 10:00", "2020-01-06 11:00", "2020-01-07 10:00"])
    report = store.ingest(bars(date=stamps))
    assert report.accepted == 1
    assert set(store.quarantine()["rule"]) == {"intraday_row"}


def test_weekend_rows_of_a_known_exchange_follow_its_calendar(store) -> None:
    saturdays = pd.to_datetime(["2024-01-20", "2024-01-27", "2024-01-29"])
    instruments = pd.DataFrame({"symbol": ["A"], "exchange": ["NSE"]})
    report = store.ingest(bars(date=saturdays), instruments=instruments)
    assert store.bars()["date"].dt.day.tolist() == [20, 29]  # the 20th was a special session
    assert report.counts() == {"weekend_row": 1}


def test_a_holiday_row_is_flagged_and_kept(store) -> None:
    days = pd.to_datetime(["2024-11-27", "2024-11-28", "2024-11-29"])
    report = store.ingest(bars(date=days, exchange="XNYS"))
    assert report.counts() == {"holiday_row": 1}
    assert report.accepted == 3


def test_one_row_may_break_several_rules_and_is_quarantined_once(store) -> None:
    frame = with_value("close", -1.0)
    frame["volume"] = [100.0, -5.0, 300.0]
    report = store.ingest(frame)
    assert report.quarantined == 1
    assert set(report.findings["rule"]) == {"nonpositive_price", "negative_volume"}


def test_unsorted_rows_give_the_same_store_as_sorted_ones(tmp_path) -> None:
    frame = synthetic_market(3, 60, seed=1)
    with MarketDataStore(tmp_path / "a.duckdb") as a, MarketDataStore(tmp_path / "b.duckdb") as b:
        a.ingest(frame)
        b.ingest(frame.sample(frac=1.0, random_state=0))
        assert a.data_hash() == b.data_hash()


REFUSED = [
    ("empty file", b"", "must hold bars, found an empty file"),
    ("header only", b"date,symbol,close\n", "a header and no rows"),
    ("no symbol column", b"date,close\n2020-01-01,1\n", "must have a column 'symbol', found date"),
    ("no close column", b"date,symbol\n2020-01-01,A\n", "must have a column 'close'"),
    ("no dates", b"date,symbol,close\nx,A,1\ny,A,2\n", "column 'date' must hold dates, found 'x'"),
    ("no prices", b"date,symbol,close\n2020-01-01,A,-\n", "column 'close' must hold prices"),
    ("too long a row", b"date,symbol,close\n2020-01-01,A,1,5\n", "must be a readable CSV"),
    ("two closes", b"date,symbol,close,Close\n2020-01-01,A,1,2\n", "found close and Close"),
    ("a column twice", b"date,symbol,close,close\n2020-01-01,A,1,2\n", "found 'close' twice"),
    ("undecidable dates", b"date,symbol,close\n03/04/2020,A,1\n", "one reading of day and month"),
    ("mixed dates", b"date,symbol,close\n13/04/2020,A,1\n04/13/2020,A,1\n", "in the other order"),
    ("binary", bytes(range(256)) * 4, "must"),
]


@pytest.mark.parametrize(
    ("content", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_a_file_that_makes_no_sense_is_refused_whole_and_the_store_is_unchanged(
    store, tmp_path: Path, content: bytes, message: str
) -> None:
    store.ingest(bars())
    before = (store.data_hash(), store.summary())
    file = tmp_path / "broken.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as refusal:
        store.ingest(file)
    assert "broken.csv" in str(refusal.value)
    assert (store.data_hash(), store.summary()) == before


NOT_BARS = [
    (
        "yields",
        b"date,symbol,par_yield\n2020-01-01,UST_10,0.02\n",
        r"found values of a series \('par_yield'\).*tft ingest PATH --series",
    ),
    (
        "instruments",
        b"symbol,asset_class,exchange\nA,bond,CME\n",
        r"found facts about instruments \('asset_class'\).*--instruments",
    ),
    (
        "option chain",
        b"TradDt,TckrSymb,XpryDt,StrkPric,OptnTp,ClsPric\n"
        b"2026-08-11,ABC,2026-08-25,100,CE,5\n2026-08-11,ABC,2026-08-25,100,PE,6\n"
        b"2026-08-11,ABC,2026-08-25,110,CE,2\n",
        "found 3 rows of ABC on 2026-08-11 told apart by XpryDt, StrkPric, OptnTp; give each",
    ),
    (
        "several expiries",
        b"date,symbol,expiry,close\n2020-01-06,CL,2020-02,60\n2020-01-06,CL,2020-03,61\n",
        "found 2 rows of CL on 2020-01-06 told apart by expiry",
    ),
]


@pytest.mark.parametrize(
    ("content", "message"), [r[1:] for r in NOT_BARS], ids=[r[0] for r in NOT_BARS]
)
def test_a_table_that_is_no_bars_is_told_where_it_belongs(
    store, tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        store.ingest(file)
    assert store.summary()["ingestions"] == 0


def test_a_contract_column_beside_one_row_per_day_is_no_chain(store) -> None:
    report = store.ingest(bars(contract=[202003, 202003, 202006], strike=5.0))
    assert (report.accepted, report.ignored_columns) == (3, ("contract", "strike"))


def test_unreadable_and_unknown_files_are_refused_by_name(store, tmp_path: Path) -> None:
    parquet = tmp_path / "broken.parquet"
    parquet.write_bytes(b"PAR1 but not really")
    with pytest.raises(DataError, match=r"broken\.parquet must be a readable Parquet file"):
        store.ingest(parquet)
    with pytest.raises(DataError, match=r"none\.csv must be a file, found nothing there"):
        store.ingest(tmp_path / "none.csv")
    (tmp_path / "bars.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match=r"found \.xlsx"):
        store.ingest(tmp_path / "bars.xlsx")


HEADERS = {
    "Yahoo": ("Date", "Ticker", "Open", "High", "Low", "Close", "Volume"),
    "upper": ("DATE", "SYMBOL", "OPEN", "HIGH", "LOW", "CLOSE", "VOLUME"),
    "vendor": ("Trade Date", "ric", "PX_OPEN", "PX_HIGH", "PX_LOW", "PX_LAST", "PX_VOLUME"),
    "settlement": ("session", "Instrument", "o", "h", "l", "Settle", "vol"),
}


@pytest.mark.parametrize("names", HEADERS.values(), ids=HEADERS.keys())
def test_columns_are_found_under_their_usual_names(store, tmp_path: Path, names) -> None:
    plain = ["date", "symbol", "open", "high", "low", "close", "volume"]
    frame = bars()[plain].set_axis(list(names), axis=1)
    frame.to_csv(tmp_path / "named.csv", index=False)
    report = store.ingest(tmp_path / "named.csv")
    assert report.accepted == 3
    pd.testing.assert_frame_equal(
        store.bars()[plain], bars()[plain], check_dtype=False, check_index_type=False
    )


def test_a_traded_close_goes_before_an_adjusted_one_and_the_report_says_so(store) -> None:
    frame = bars().rename(columns={"close": "Close"}).assign(**{"Adj Close": 1.0, "Remark": "x"})
    report = store.ingest(frame)
    assert store.bars()["close"].tolist() == [10.5, 11.5, 12.5]
    assert report.ignored_columns == ("Adj Close", "Remark")


NUMBER_TEXTS = [
    (("1234.5", "1,234.50", " 1234.5 "), (1234.5, 1234.5, 1234.5)),
    (("1.234,5", "1234,5", "7,25"), (1234.5, 1234.5, 7.25)),
    (("1e3", "+5", "$3.50"), (1000.0, 5.0, 3.5)),
    (("12,34,567", "100,000", "5"), (1234567.0, 100000.0, 5.0)),
]


@pytest.mark.parametrize(("texts", "numbers"), NUMBER_TEXTS)
def test_numbers_are_read_in_the_usual_formats(store, texts, numbers) -> None:
    frame = bars()[["date", "symbol"]].assign(close=list(texts))
    assert store.ingest(frame).accepted == 3
    assert tuple(store.bars()["close"]) == numbers


DATE_TEXTS = [
    ("2020-01-06", "2020-01-07", "2020-01-13"),
    ("20200106", "20200107", "20200113"),
    ("06/01/2020", "07/01/2020", "13/01/2020"),
    ("01/06/2020", "01/07/2020", "01/13/2020"),
    ("06.01.2020", "07.01.2020", "13.01.2020"),
    ("06-Jan-2020", "07-Jan-2020", "13-Jan-2020"),
    ("Jan 6, 2020", "Jan 7, 2020", "Jan 13, 2020"),
    ("2020/01/06", "2020-01-07 16:00:00", "2020-01-13T00:00:00"),
    (20200106, 20200107, 20200113),
    (1578268800, 1578355200, 1578873600),
    (1578268800000, 1578355200000, 1578873600000),
    (date(2020, 1, 6), date(2020, 1, 7), date(2020, 1, 13)),
]


@pytest.mark.parametrize("texts", DATE_TEXTS, ids=[str(t[0]) for t in DATE_TEXTS])
def test_dates_are_read_in_the_usual_formats(store, texts) -> None:
    store.ingest(bars(date=list(texts)))
    expected = pd.to_datetime(["2020-01-06", "2020-01-07", "2020-01-13"])
    assert store.session_dates().tolist() == expected.tolist()


def test_a_stamp_with_a_zone_belongs_to_the_session_of_its_exchange(store) -> None:
    # 20:30 UTC on Monday is already Tuesday in Mumbai and still Monday in New York
    stamps = ["2024-01-22T20:30:00Z"] * 2
    frame = pd.DataFrame(
        {"date": stamps, "symbol": ["I", "U"], "close": [1.0, 2.0], "exchange": ["NSE", "XNYS"]}
    )
    store.ingest(frame)
    assert store.last_session(["I"]) == date(2024, 1, 23)
    assert store.last_session(["U"]) == date(2024, 1, 22)


def test_midnight_utc_stamps_are_session_dates(store) -> None:
    stamps = pd.to_datetime(["2024-01-22", "2024-01-23", "2024-01-24"], utc=True)
    store.ingest(bars(date=stamps, exchange="XNYS"))
    assert store.session_dates().strftime("%d").tolist() == ["22", "23", "24"]


def test_evening_stamps_of_a_futures_exchange_belong_to_the_next_session(store) -> None:
    stamps = ["2024-01-21T18:30-06:00", "2024-01-22T18:30-06:00", "2024-01-23T18:30-06:00"]
    report = store.ingest(bars(date=stamps, exchange="CME"))  # Sunday to Tuesday evening
    assert store.session_dates().strftime("%a %d").tolist() == ["Mon 22", "Tue 23", "Wed 24"]
    assert report.quarantined == 0
    assert "stamps with a zone read as sessions of CME (America/Chicago)" in report.notes


def test_the_report_says_when_a_calendar_ends(store) -> None:
    last = calendar.horizon("NSE")
    assert last is not None
    if last <= date.today():
        pytest.skip(f"exchange_calendars ends the Indian calendar at {last}: its future is past")
    report = store.ingest(bars(exchange="NSE"))
    assert not [note for note in report.notes if "ends at" in note]
    newest = np.busday_offset(date.today(), 0, roll="backward").item()
    late = bars(exchange="NSE").iloc[[0]].assign(date=pd.Timestamp(newest))
    notes = [note for note in store.ingest(late).notes if f"ends at {last}" in note]
    assert len(notes) == (newest > last - timedelta(days=calendar.NOTICE_DAYS))


def test_a_frame_with_its_dates_in_the_index_is_understood(store) -> None:
    assert store.ingest(bars().set_index("date")).accepted == 3
    assert store.ingest(bars().set_index(["date", "symbol"])).unchanged == 3


def test_facts_carried_by_the_bars_become_instruments(store) -> None:
    store.ingest(bars(asset_class="energy", currency="USD"))
    row = store.instruments().loc["A"]
    assert (row["asset_class"], row["currency"], row["exchange"]) == ("energy", "USD", "")
    assert np.isnan(row["cost_bps"])


def test_the_report_in_words_and_as_json_adds_up(store) -> None:
    report = store.ingest(with_value("close", None))
    assert "3 rows in = 2 accepted + 1 quarantined + 0 exact duplicates" in str(report)
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["rows_in"] == plain["accepted"] + plain["quarantined"] + plain["exact_duplicates"]
    assert plain["rules"] == {"missing_close": 1}
    logged = store.ingestions().iloc[0]
    assert (logged["rows_in"], logged["accepted"]) == (3, 2)


def test_every_rule_has_a_code_of_its_own_and_a_reason() -> None:
    codes = [rule.code for rule in RULES]
    assert len(set(codes)) == len(codes)
    assert all(rule.reason for rule in RULES)


def test_rows_after_a_bad_one_do_not_change_how_earlier_rows_are_judged(store, tmp_path) -> None:
    """The causality test of ingestion: other rows never move an accepted one."""
    frame = synthetic_market(2, 40, seed=2)
    cut = frame["date"].sort_values().iloc[40]
    poisoned = frame.copy()
    late = poisoned["date"] > cut
    poisoned.loc[late, ["open", "high", "low", "close"]] *= -7.0
    store.ingest(frame)
    with MarketDataStore(tmp_path / "other.duckdb") as other:
        report = other.ingest(poisoned)
        assert report.quarantined == late.sum()
        assert other.data_hash(end=cut) == store.data_hash(end=cut)


def test_combinations_of_faults_always_add_up(tmp_path) -> None:
    pairs = list(itertools.combinations([frame for _, frame in FAULTS], 2))[::14]
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        for number, (one, two) in enumerate(pairs):
            both = pd.concat([one, two.assign(symbol=f"B{number}")], ignore_index=True)
            report = store.ingest(both)
            told = report.accepted + report.quarantined + report.exact_duplicates
            assert report.rows_in == told == 6
