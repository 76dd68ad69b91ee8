"""The bundled sample: the demo bundle's values, from published rates."""

from datetime import date
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tft_core.data.sample import load_sample, sample_bars, sample_instruments
from tft_core.data.store import MarketDataStore

BUNDLE = Path(__file__).parents[4] / "shared" / "data" / "demo_bundle.parquet"
MAX_BYTES = 1.5 * 2**20


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with MarketDataStore(tmp_path_factory.mktemp("sample") / "market.duckdb") as opened:
        load_sample(opened)
        yield opened


def test_the_sample_is_the_demo_bundle_to_the_last_digit() -> None:
    if not BUNDLE.is_file():
        pytest.skip(f"needs {BUNDLE}, which comes with the project's shared data")
    bundle = pd.read_parquet(BUNDLE)
    bundle["date"] = pd.to_datetime(bundle["date"])
    bars = sample_bars()
    assert len(bars) == len(bundle) == 184_117
    both = bundle.merge(bars, on=["date", "symbol"], suffixes=("", "_s"))
    assert len(both) == len(bundle)
    for name in ("open", "high", "low", "close", "volume", "open_interest"):
        expected = both[name].to_numpy(np.float64, na_value=np.nan)
        np.testing.assert_array_equal(both[f"{name}_s"].to_numpy(np.float64), expected)


def test_crosses_come_from_the_published_rates(store) -> None:
    # ECB, 1999-01-04: 1 EUR = 1.1789 USD = 133.73 JPY = 0.7111 GBP
    first = store.bars(end="1999-01-04").set_index("symbol")["close"]
    assert first["EURUSD"] == 1.1789
    assert first["JPYUSD"] == pytest.approx(1.1789 / 133.73, rel=5e-7)
    assert first["GBPUSD"] == pytest.approx(1.1789 / 0.7111, rel=5e-7)


def test_every_row_is_accepted_and_a_second_load_changes_nothing(store) -> None:
    before = store.data_hash()
    report = load_sample(store)
    assert (report.rows_in, report.unchanged, report.quarantined) == (184_117, 184_117, 0)
    # two real crashes that fell by a split's ratio: Apple's profit warning, the Gulf war's oil
    found = report.findings
    assert set(found["rule"]) == {"unadjusted_split"}
    assert dict(zip(found["symbol"], found["date"].astype(str), strict=True)) == {
        "AAPL": "2000-09-29",
        "WTI_SPOT": "1991-01-17",
    }
    assert store.summary()["withheld"] == 0
    assert report.source == "bundled sample"
    assert store.data_hash() == before


@pytest.mark.parametrize(
    ("symbol", "first", "last"),
    [
        ("AAPL", date(2000, 3, 1), date(2013, 3, 1)),
        ("GOOG", date(2004, 8, 19), date(2013, 3, 1)),
        ("IBM", date(2000, 3, 1), date(2013, 3, 1)),
        ("MSFT", date(2000, 3, 1), date(2013, 3, 1)),
        ("WTI_SPOT", date(1986, 1, 2), date(2019, 1, 3)),
        ("EURUSD", date(1999, 1, 4), date(2026, 10, 30)),
        ("ILSUSD", date(2011, 1, 3), date(2026, 10, 30)),
    ],
)
def test_the_spans_that_the_docstring_promises(store, symbol: str, first: date, last: date) -> None:
    assert store.first_session([symbol]) == first
    assert store.last_session([symbol]) == last


def test_instruments_name_class_exchange_and_currency_and_leave_costs_open(store) -> None:
    table = store.instruments()
    assert len(table) == len(sample_instruments()) == 31
    assert table["asset_class"].value_counts().to_dict() == {
        "currency": 26,
        "equity": 4,
        "energy": 1,
    }
    assert (table["exchange"] != "").all()
    assert (table["currency"] == "USD").all()
    assert (table["description"] != "").all()
    assert table[["cost_bps", "cost_vol"]].isna().all().all()


def test_the_bundle_is_small_and_names_its_sources() -> None:
    folder = resources.files("tft_core.data") / "bundled"
    size = sum(len(f.read_bytes()) for f in folder.iterdir() if f.is_file())
    assert size <= MAX_BYTES
    notice = (folder / "NOTICE").read_text(encoding="utf-8")
    for words in ("Source: ECB", "derived by this project", "Quandl WIKI", "public domain", "FRED"):
        assert words in notice
