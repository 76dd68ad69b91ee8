"""Returns and volatilities as known: restatements change scale, never a return or an old σ."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from tft_core.data.panel import label_returns
from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market
from tft_core.features.as_known import session_risk, wealth
from tft_core.features.kernels import daily_volatility

SYMBOLS = ("S00", "S01")
FIRST, LAST = date(2015, 9, 1), date(2016, 4, 29)


@pytest.fixture
def bars():
    return synthetic_market(2, 360, seed=5, start="2015-01-01")


def risk_of(tmp_path, *frames, last=LAST):
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        for frame, moment in frames:
            store.ingest(frame, ingested_at=moment)
        return session_risk(store, SYMBOLS, FIRST, last), store.panel(SYMBOLS)


def test_without_restatements_it_is_the_plain_return_and_volatility(tmp_path, bars):
    risk, panel = risk_of(tmp_path, (bars, None))
    inside = (panel.dates >= pd.Timestamp(FIRST)) & (panel.dates <= pd.Timestamp(LAST))
    sigma = daily_volatility(panel.close)[inside]
    np.testing.assert_array_equal(risk.sigma_daily, sigma)
    plain = pd.DataFrame(panel.close, index=panel.dates).apply(
        lambda own: own.dropna().pct_change()
    )
    np.testing.assert_allclose(risk.returns, plain.to_numpy()[inside], rtol=1e-12)


def test_wealth_gives_the_labels_that_prices_give(tmp_path, bars):
    risk, panel = risk_of(tmp_path, (bars, None))
    inside = (panel.dates >= pd.Timestamp(FIRST)) & (panel.dates <= pd.Timestamp(LAST))
    np.testing.assert_allclose(
        label_returns(wealth(risk.returns)), label_returns(panel.close[inside]), rtol=1e-9
    )


def test_a_roll_that_rescales_all_history_changes_nothing(tmp_path, bars):
    rolled = bars.copy()
    prices = ["open", "high", "low", "close"]
    rolled[prices] = rolled[prices] * 1.7
    moment = datetime(2016, 2, 1, 20, tzinfo=UTC)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain, _ = risk_of(tmp_path / "a", (bars, None))
    restated, _ = risk_of(tmp_path / "b", (bars, None), (rolled, moment))
    np.testing.assert_allclose(restated.returns, plain.returns, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(restated.sigma_daily, plain.sigma_daily, rtol=1e-9)


def test_a_correction_moves_no_volatility_before_it_was_known(tmp_path, bars):
    wrong = bars.copy()
    day = pd.Timestamp("2015-12-01")
    hit = (wrong["date"] == day) & (wrong["symbol"] == "S00")
    assert hit.sum() == 1
    wrong.loc[hit, ["open", "high", "low", "close"]] *= 1.3
    moment = datetime(2016, 1, 15, 20, tzinfo=UTC)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    believed, _ = risk_of(tmp_path / "a", (wrong, None))
    corrected, _ = risk_of(tmp_path / "b", (wrong, None), (bars, moment))
    before = np.asarray(believed.dates < pd.Timestamp("2016-01-15"))
    np.testing.assert_array_equal(corrected.sigma_daily[before], believed.sigma_daily[before])
    after = ~before & np.isfinite(believed.sigma_daily[:, 0])
    assert (corrected.sigma_daily[after, 0] < believed.sigma_daily[after, 0]).any()


def test_bars_after_the_span_change_nothing(tmp_path, bars):
    poisoned = bars.copy()
    later = poisoned["date"] > pd.Timestamp(LAST)
    poisoned.loc[later, ["open", "high", "low", "close"]] *= 9.0
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    clean, _ = risk_of(tmp_path / "a", (bars, None))
    noisy, _ = risk_of(tmp_path / "b", (poisoned, None))
    np.testing.assert_array_equal(clean.returns, noisy.returns)
    np.testing.assert_array_equal(clean.sigma_daily, noisy.sigma_daily)
