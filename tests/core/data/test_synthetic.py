"""The synthetic market and features hold the truth that was planted."""

import numpy as np
import pytest

from tft_core.data.panel import MarketPanel
from tft_core.data.synthetic import BETA, planted_features, shadows, synthetic_market
from tft_core.errors import DataError
from tft_core.schema import BAR_COLUMNS


def trend_sharpe(bars, lookback: int = 60) -> float:
    """Sharpe ratio of following the sign of the last 60 days, an oracle in four lines."""
    symbols = sorted(bars["symbol"].unique())
    close = MarketPanel.from_bars(bars, symbols).close
    returns = np.diff(np.log(close), axis=0)
    signal = np.sign(np.log(close[lookback:-1]) - np.log(close[: -lookback - 1]))
    earned = np.nanmean(signal * returns[lookback:], axis=1)
    return float(earned.mean() / earned.std() * 252**0.5)


def test_bars_are_possible_prices_in_the_order_of_the_columns() -> None:
    bars = synthetic_market(3, 200, seed=1, close_only=("S01",))
    assert tuple(bars.columns) == BAR_COLUMNS
    full = bars[bars["symbol"] != "S01"]
    assert (full["low"] <= full[["open", "close"]].min(axis=1)).all()
    assert (full["high"] >= full[["open", "close"]].max(axis=1)).all()
    assert bars.loc[bars["symbol"] == "S01", ["open", "volume"]].isna().all().all()
    assert not bars.duplicated(["date", "symbol"]).any()
    assert bars["date"].dt.day_of_week.max() == 4


def test_the_same_seed_gives_the_same_bars() -> None:
    assert synthetic_market(2, 50, seed=3).equals(synthetic_market(2, 50, seed=3))
    assert not synthetic_market(2, 50, seed=3).equals(synthetic_market(2, 50, seed=4))


def test_trend_following_earns_where_a_trend_was_planted_and_not_elsewhere() -> None:
    planted = synthetic_market(8, 2500, seed=5, holidays=False)
    flat = synthetic_market(8, 2500, seed=5, holidays=False, trend_sharpe=0.0)
    assert trend_sharpe(planted) > 1.0
    assert abs(trend_sharpe(flat)) < 0.7


def test_features_have_unit_variance_and_the_wanted_memory() -> None:
    made = planted_features(n_features=20, n_assets=5, n_days=4000, seed=2)
    values = made.values.reshape(4000, -1)
    assert values.std() == pytest.approx(1.0, abs=0.05)
    memory = (values[1:] * values[:-1]).mean() / (values**2).mean()
    assert memory == pytest.approx(0.9, abs=0.02)


def test_the_signal_has_the_wanted_information_coefficient_and_weights() -> None:
    made = planted_features(n_features=20, n_assets=5, n_days=8000, seed=3, ic=0.3)
    ic = np.corrcoef(made.signal.ravel(), made.next_return.ravel())[0, 1]
    assert ic == pytest.approx(0.3, abs=0.02)
    informative = made.values[..., : len(BETA)].reshape(-1, len(BETA))
    weights, *_ = np.linalg.lstsq(informative, made.signal.ravel(), rcond=None)
    np.testing.assert_allclose(weights / weights[0], BETA, atol=0.05)


def test_clones_correlate_with_their_original_and_noise_with_nothing() -> None:
    made = planted_features(n_features=30, n_assets=5, n_days=6000, seed=4, n_clones=6)
    flat = made.values.reshape(-1, 30)
    rho = np.corrcoef(flat.T)
    np.testing.assert_allclose(np.diag(rho[:6, 6:12]), 0.97, atol=0.01)
    assert np.abs(rho[:6, 12:]).max() < 0.15
    assert made.is_informative.sum() == 12
    assert made.names[0] == "informative_0"
    assert made.names[12] == "noise_0"


def test_without_signal_no_feature_knows_anything() -> None:
    made = planted_features(n_features=12, n_assets=5, n_days=6000, seed=5, ic=0.0)
    assert np.abs(made.signal).max() == 0.0
    ics = [
        np.corrcoef(made.values[..., j].ravel(), made.next_return.ravel())[0, 1] for j in range(12)
    ]
    assert np.abs(ics).max() < 0.03


def test_the_nonlinear_signal_is_invisible_to_single_correlations_of_an_interaction() -> None:
    made = planted_features(n_features=12, n_assets=5, n_days=8000, seed=6, ic=0.5, nonlinear=True)
    x = made.values
    product = np.sign(x[..., 0]) * x[..., 1]
    assert np.corrcoef(product.ravel(), made.signal.ravel())[0, 1] > 0.4
    assert abs(np.corrcoef(x[..., 1].ravel(), made.signal.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("shuffle", [False, True])
def test_shadows_hold_the_values_of_real_columns_at_other_times(shuffle: bool) -> None:
    made = planted_features(n_features=12, n_assets=2, n_days=400, seed=7)
    moved = shadows(made.values, 12, seed=1, shuffle=shuffle)
    originals = {tuple(np.sort(made.values[:, 0, j])) for j in range(12)}
    assert {tuple(np.sort(moved[:, 0, j])) for j in range(12)} == originals
    assert not any(
        np.array_equal(moved[..., j], made.values[..., k]) for j in range(12) for k in range(12)
    )


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(DataError, match="found 8 with 6 clones"):
        planted_features(n_features=8)
    with pytest.raises(DataError, match=r"ic must lie in \[0, 1\), found 1"):
        planted_features(ic=1.0)
