"""Values against independent oracles: pandas, NumPy, SciPy, TA-Lib and plain arithmetic."""

import numpy as np
import pandas as pd
import pytest
import talib
from feature_market import make_bars, make_series, panel_of

from tests.oracles import feature_values, feature_values_market
from tft_core.features import kernels as k
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.groups.calendar import calendar_of
from tft_core.features.groups.fractional import difference_weights
from tft_core.features.panel import FeaturePanel
from tft_core.features.registry import FeatureConfig

SERIES = ("rates", "oil", "vix", "dollar")


@pytest.fixture(scope="module")
def clean_bars() -> pd.DataFrame:
    return make_bars(7, 530, seed=21)


@pytest.fixture(scope="module")
def clean_series(clean_bars) -> pd.DataFrame:
    every = [
        make_series(clean_bars, name).assign(value=lambda f, i=i: np.roll(f["value"], 97 * i))
        for i, name in enumerate(SERIES)
    ]
    return pd.concat(every, ignore_index=True)


@pytest.fixture(scope="module")
def clean_panel(clean_bars, clean_series) -> FeaturePanel:
    builder = MegaFeatureBuilder(FeatureConfig(series=SERIES))
    return builder.build_panel(panel_of(clean_bars), series=clean_series)


def oracle_of(bars: pd.DataFrame, series: pd.DataFrame) -> pd.DataFrame:
    """Every feature of two assets at the newest date, from the oracles."""
    closes = bars.pivot(index="date", columns="symbol", values="close")
    rows = {}
    for symbol in ("A2", "A5"):
        own = bars[bars["symbol"] == symbol]
        rows[symbol] = feature_values.own_values(own)
        for slot, name in enumerate(SERIES, start=1):
            known = series[series["name"] == name].set_index("date")["value"]
            rows[symbol] |= feature_values_market.exogenous_values(slot, known, own)
    return pd.DataFrame(rows).T.join(feature_values_market.market_values(closes))


# in the week of an expiry, and at the end of a year
@pytest.mark.parametrize("day", ["2017-12-14", "2017-12-29"])
def test_every_feature_matches_its_written_definition(clean_bars, clean_series, clean_panel, day):
    expected = oracle_of(
        clean_bars[clean_bars["date"] <= day], clean_series[clean_series["date"] <= day]
    )
    assert set(expected.columns) == set(clean_panel.feature_names)
    assert len(expected.columns) == 292
    names, row = list(clean_panel.feature_names), clean_panel.dates.get_loc(pd.Timestamp(day))
    every = pd.DataFrame(clean_panel.values[row], index=clean_panel.symbols, columns=names)
    found = every.loc[expected.index]
    assert found.notna().all(axis=None)
    gap = (found - expected[names]).abs() / (1e-6 + expected[names].abs())
    worst = gap.astype(float).max()
    assert worst[worst > 2e-5].to_dict() == {}


def test_truncated_wilder_kernels_tend_to_talib():
    bars = make_bars(1, 2000, seed=5)
    high, low, close = (bars[n].to_numpy(dtype=float) for n in ("high", "low", "close"))
    panel = MegaFeatureBuilder().build_panel(panel_of(bars), first_row=1999)
    value = dict(zip(panel.feature_names, panel.values[0, 0], strict=True))
    assert value["ta_rsi_7"] == pytest.approx(talib.RSI(close, 7)[-1], rel=1e-6)
    assert value["ta_rsi_14"] == pytest.approx(talib.RSI(close, 14)[-1], rel=1e-5)
    assert value["ta_natr_14"] == pytest.approx(talib.NATR(high, low, close, 14)[-1] / 100, 1e-5)
    assert value["ta_adx_14"] == pytest.approx(talib.ADX(high, low, close, 14)[-1], rel=1e-3)
    ppo = talib.PPO(close, 12, 26, 1)[-1] / 100
    assert value["ta_ppo_12_26"] == pytest.approx(ppo, rel=1e-5, abs=1e-7)
    assert value["ta_trix_15"] == pytest.approx(talib.TRIX(close, 15)[-1] / 100, rel=1e-4)


def test_daily_volatility_is_the_papers_on_own_sessions():
    bars = make_bars(1, 400, seed=2)
    close = bars["close"].to_numpy()
    wide = np.full((800, 1), np.nan)
    wide[::2, 0] = close  # trades every other row
    sigma = k.daily_volatility(wide)[:, 0]
    returns = pd.Series(close).pct_change()
    for session in (21, 100, 399):
        newest = returns.iloc[max(session - 251, 1) : session + 1]
        assert sigma[2 * session] == pytest.approx(newest.ewm(span=60).std().iloc[-1], rel=1e-9)
    assert np.isnan(sigma[1::2]).all() and np.isnan(sigma[: 2 * 21]).all()


def test_volatility_of_a_price_that_stands_still_is_unknown():
    assert np.isnan(k.daily_volatility(np.full((60, 1), 1.2345))).all()


@pytest.mark.parametrize("window", [1, 2, 5, 21, 64, 252, 300])
def test_moving_sums_match_pandas(window):
    values = np.random.default_rng(0).standard_normal((2, 300))
    values[0, 50:60] = np.nan
    expected = pd.DataFrame(values.T).rolling(window, min_periods=1).sum().to_numpy().T
    np.testing.assert_allclose(k.move_sum(values, window, 1), expected, rtol=1e-9, atol=1e-12)


def test_moments_and_correlations_match_pandas():
    x, y = np.random.default_rng(1).standard_normal((2, 1, 200))
    frame = pd.DataFrame({"x": x[0], "y": y[0]})
    rolling = frame["x"].rolling(50)
    np.testing.assert_allclose(k.move_std(x, 50)[0, 49:], rolling.std(ddof=0)[49:], rtol=1e-9)
    corr = rolling.corr(frame["y"])
    np.testing.assert_allclose(k.move_corr(x, y, 50)[0, 49:], corr[49:], rtol=1e-9)


KERNELS = {
    "lag": lambda x, y, n: k.lag(x, 21, n),
    "diff": lambda x, y, n: k.diff(x, 21, n),
    "sum": lambda x, y, n: k.move_sum(x, 21, newest=n),
    "mean": lambda x, y, n: k.move_mean(x, 60, newest=n),
    "zscore": lambda x, y, n: k.move_zscore(x, 60, newest=n),
    "cov": lambda x, y, n: k.move_cov(x, y, 60, newest=n),
    "corr": lambda x, y, n: k.move_corr(x, y, 60, newest=n),
    "kurt": lambda x, y, n: k.move_skew_kurt(x, 60, n)[1],
    "max": lambda x, y, n: k.move_max(x, 60, newest=n),
    "rank": lambda x, y, n: k.move_rank(x, 60, newest=n),
    "fir": lambda x, y, n: k.fir(x, k.trend_weights(60), n),
    "ema": lambda x, y, n: k.ema(x, 20, 63, n),
    "sigma": lambda x, y, n: k.ewm_std_daily(x, max_lag=100, newest=n),
    "residual": lambda x, y, n: k.trend(x, 60, n)[1],
}


@pytest.mark.parametrize("newest", [1, 5, 63, 180, 199, 200, 300])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_the_newest_columns_alone_are_those_of_the_whole(kernel, newest):
    x, y = np.random.default_rng(6).standard_normal((2, 3, 200))
    x[1, 90:96] = y[2, 190] = np.nan
    x[2, :50] = np.nan
    whole, alone = kernel(x, y, None), kernel(x, y, newest)
    assert alone.shape == (3, min(newest, 200))
    np.testing.assert_allclose(alone, whole[:, -newest:], rtol=1e-9, atol=1e-12)


def test_a_moving_sum_has_no_memory_of_a_huge_value():
    values = np.full((1, 100), 1e-3)
    values[0, 10] = 1e30
    assert k.move_sum(values, 21)[0, 31] == pytest.approx(21e-3, rel=1e-12)


def test_fractional_weights_of_order_one_are_a_difference():
    weights = difference_weights(1.0, 10)
    np.testing.assert_allclose(weights, [1.0, -1.0] + [0.0] * 8, atol=1e-15)
    assert difference_weights(0.4).sum() == pytest.approx(0.0, abs=1e-15)


def test_calendar_knows_the_turn_of_the_month_and_the_third_friday():
    days = np.array(["2024-03-15", "2024-03-29", "2024-04-01", "2024-04-04", "2024-12-31"],
                    dtype="datetime64[D]")  # fmt: skip
    found = calendar_of(days)
    assert found["turn_of_month"].tolist() == [0.0, 1.0, 1.0, 0.0, 1.0]
    assert found["quarter_end"].tolist() == [0.0, 1.0, 0.0, 0.0, 1.0]
    assert found["year_end"].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert found["expiry_week"].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert found["weekday_of_month"].tolist() == [11.0, 21.0, 1.0, 4.0, 22.0]
