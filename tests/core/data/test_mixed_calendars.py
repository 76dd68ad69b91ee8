"""Mumbai, New York, FX and a market that never closes in one universe: masked, never filled."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from tft_core.data.panel import label_returns
from tft_core.data.store import MarketDataStore

SPAN = pd.date_range("2024-10-28", "2024-12-02", freq="D")
# From the exchanges' own holiday lists for 2024: Diwali, Gurunanak Jayanti, the assembly election
# and the Muhurat session of 1 November (a Friday that exchange_calendars takes for a holiday);
# Thanksgiving. FX rests at weekends only.
RESTS = {
    "INR_STOCK": ["2024-11-15", "2024-11-20"],
    "US_STOCK": ["2024-11-28"],
    "EURUSD": [],
}
EXCHANGES = {"INR_STOCK": "NSE", "US_STOCK": "XNYS", "EURUSD": "FX_ECB", "COIN": "24/7"}


def trading_days(symbol: str) -> pd.DatetimeIndex:
    if symbol == "COIN":
        return SPAN
    weekdays = SPAN[SPAN.dayofweek < 5]
    return weekdays[~weekdays.isin(pd.to_datetime(RESTS[symbol]))]


def market() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = []
    for symbol in EXCHANGES:
        days = trading_days(symbol)
        close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(len(days))))
        parts.append(pd.DataFrame({"date": days, "symbol": symbol, "close": close}))
    return pd.concat(parts).sample(frac=1.0, random_state=1)


@pytest.fixture
def store(tmp_path):
    facts = pd.DataFrame({"symbol": list(EXCHANGES), "exchange": list(EXCHANGES.values())})
    with MarketDataStore(tmp_path / "m.duckdb") as opened:
        report = opened.ingest(market(), instruments=facts)
        assert report.findings.empty, report.counts()  # every market's own days are its sessions
        yield opened


def test_each_asset_has_its_own_sessions_and_nothing_on_other_days(store) -> None:
    panel = store.panel()
    assert panel.dates.tolist() == SPAN.tolist()  # the coin trades on every day
    for column, symbol in enumerate(panel.symbols):
        own = panel.dates[panel.has_session[:, column]]
        assert own.tolist() == trading_days(symbol).tolist()
        assert np.isnan(panel.close[~panel.has_session[:, column], column]).all()


def test_a_label_counts_the_assets_own_sessions_whatever_the_others_do(store) -> None:
    panel = store.panel()
    labels = label_returns(panel.close)
    for column, symbol in enumerate(panel.symbols):
        bars = market()
        own = bars[bars["symbol"] == symbol].sort_values("date")["close"].to_numpy()
        expected = np.append(own[2:] / own[1:-1] - 1.0, [np.nan, np.nan])
        np.testing.assert_array_equal(labels[panel.has_session[:, column], column], expected)
        assert np.isnan(labels[~panel.has_session[:, column], column]).all()


def test_an_assets_history_is_counted_in_its_own_sessions(store) -> None:
    newest = date(2024, 12, 2)
    for symbol in EXCHANGES:
        tenth = trading_days(symbol)[-10].date()
        assert store.history_start([symbol], newest, 10) == tenth


def test_a_weekend_bar_of_a_market_that_rests_is_refused_beside_one_that_trades(store) -> None:
    saturday = pd.DataFrame(
        {"date": ["2024-11-09"] * 4, "symbol": list(EXCHANGES), "close": [101.0, 1.0, 1.1, 9.0]}
    )
    report = store.ingest(saturday)
    assert sorted(store.quarantine()["symbol"]) == ["EURUSD", "INR_STOCK", "US_STOCK"]
    assert report.accepted == 1
