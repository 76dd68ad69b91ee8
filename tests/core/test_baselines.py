import numpy as np
import pandas as pd
import pytest

from tft_core.baselines import BASELINES, long_only, macd_blend, tsmom


@pytest.fixture(scope="module")
def close() -> np.ndarray:
    rng = np.random.default_rng(0)
    prices = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal((800, 3)), axis=0))
    prices[::7, 1] = np.nan
    prices[:100, 2] = np.nan
    return prices


@pytest.mark.parametrize("name", list(BASELINES))
def test_a_baseline_is_causal(close: np.ndarray, name: str) -> None:
    whole = BASELINES[name](close)
    for cut in (500, 650, 799):
        foul = close.copy()
        foul[cut:] = foul[cut:] * 7.0 + 1e3
        np.testing.assert_array_equal(BASELINES[name](foul)[:cut], whole[:cut])
        np.testing.assert_array_equal(BASELINES[name](close[:cut]), whole[:cut])


@pytest.mark.parametrize("name", list(BASELINES))
def test_a_baseline_lies_in_minus_one_to_one_and_is_nan_off_session(
    close: np.ndarray, name: str
) -> None:
    z = BASELINES[name](close)
    assert np.isnan(z[~np.isfinite(close)]).all()
    assert np.nanmax(np.abs(z)) <= 1.0
    assert np.isfinite(z[-2]).sum() == np.isfinite(close[-2]).sum()


def test_tsmom_is_the_sign_of_twelve_months_of_own_sessions(close: np.ndarray) -> None:
    for asset in range(3):
        own = pd.Series(close[:, asset]).dropna()
        expected = np.sign(own / own.shift(252) - 1.0)
        got = pd.Series(tsmom(close)[:, asset])[own.index]
        pd.testing.assert_series_equal(got, expected, check_names=False)


def test_long_only_holds_one_on_every_session(close: np.ndarray) -> None:
    z = long_only(close)
    assert (z[np.isfinite(close)] == 1.0).all()


def test_the_macd_blend_follows_its_formula(close: np.ndarray) -> None:
    price = pd.Series(close[:, 0])
    responses = []
    for short, long in ((8, 24), (16, 48), (32, 96)):
        averages = []
        for scale in (short, long):
            halflife = np.log(0.5) / np.log(1 - 1 / scale)
            weights = 0.5 ** (np.arange(252)[::-1] / halflife)
            averages.append(
                price.rolling(252).apply(lambda w, k=weights: (w @ k) / k.sum(), raw=True)
            )
        q = (averages[0] - averages[1]) / price.rolling(63).std()
        y = q / q.rolling(252).std()
        responses.append(y * np.exp(-(y**2) / 4) / 0.89)
    expected = sum(responses) / 3
    got = macd_blend(close)[:, 0]
    np.testing.assert_allclose(got, expected.clip(-1, 1), atol=1e-9)
    assert np.isfinite(got).sum() == 800 - 252 - 252 + 2


def test_a_constant_price_has_no_macd_rather_than_zero() -> None:
    assert np.isnan(macd_blend(np.full((800, 1), 5.0))).all()
