"""Sizing and costs, against arithmetic done by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tft_core.errors import ConfigError
from tft_core.positions import (
    PositionConfig,
    cost_rates,
    next_positions,
    portfolio_returns,
    portfolio_weights,
    walk_positions,
)

CONFIG = PositionConfig(max_position=0.25, position_smooth=0.5, max_daily_turnover=0.1)


def test_a_position_is_clipped_then_smoothed_then_capped():
    # 0.8 clips to 0.25; half way from 0 is 0.125; the cap allows 0.1
    assert next_positions(np.array([0.8]), np.zeros(1), CONFIG)[0] == pytest.approx(0.1)
    # from 0.2: target -0.25, half way is -0.025, the cap allows 0.2 - 0.1
    assert next_positions(np.array([-0.9]), np.array([0.2]), CONFIG)[0] == pytest.approx(0.1)


def test_an_asset_without_a_session_keeps_its_position_and_never_goes_long_on_nan():
    held = np.array([0.07, 0.0])
    assert next_positions(np.array([np.nan, np.nan]), held, CONFIG).tolist() == [0.07, 0.0]


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float64, (30, 3), elements=st.floats(-1, 1)),
    st.integers(1, 29),
)
def test_walking_in_two_parts_equals_walking_once(raw, cut):
    whole = walk_positions(raw, CONFIG)
    first = walk_positions(raw[:cut], CONFIG)
    second = walk_positions(raw[cut:], CONFIG, previous=first[-1])
    assert np.array_equal(whole, np.concatenate([first, second]))
    assert np.abs(whole).max() <= CONFIG.max_position
    assert np.abs(np.diff(whole, axis=0)).max() <= CONFIG.max_daily_turnover + 1e-15


def test_positions_before_a_day_do_not_depend_on_later_outputs():
    rng = np.random.default_rng(0)
    raw = rng.uniform(-1, 1, (40, 4))
    poisoned = raw.copy()
    poisoned[20:] *= -7.0
    assert np.array_equal(walk_positions(raw, CONFIG)[:20], walk_positions(poisoned, CONFIG)[:20])


def test_weights_scale_to_the_volatility_target_and_hold_over_closed_days():
    config = PositionConfig(vol_target=0.15)
    positions = np.array([[0.2], [0.2], [0.1]])
    sigma = np.array([[0.01], [np.nan], [0.02]])
    weights = portfolio_weights(positions, sigma, np.array([4.0, 4.0, 4.0]), config)
    daily_target = 0.15 / 252**0.5
    assert weights[0, 0] == pytest.approx(0.2 * daily_target / (0.01 * 4))
    assert weights[1, 0] == weights[0, 0]
    assert weights[2, 0] == pytest.approx(0.1 * daily_target / (0.02 * 4))


def test_an_asset_weighs_nothing_before_its_first_session():
    weights = portfolio_weights(
        np.array([[0.2], [0.2]]), np.array([[np.nan], [0.01]]), np.ones(2), PositionConfig()
    )
    assert weights[0, 0] == 0.0


def test_net_returns_pay_the_entry_and_every_change():
    weights = np.array([[0.5], [0.5], [-0.5]])
    returns = np.array([[0.01], [np.nan], [0.02]])
    result = portfolio_returns(weights, returns, np.full((3, 1), 0.001))
    assert result.gross.tolist() == pytest.approx([0.005, 0.0, -0.01])
    assert result.cost.tolist() == pytest.approx([0.0005, 0.0, 0.001])
    assert result.turnover.tolist() == pytest.approx([0.5, 0.0, 1.0])
    assert result.by_asset.sum() == pytest.approx(result.net.sum())


def test_a_cost_in_volatility_units_replaces_basis_points():
    rates = cost_rates(np.array([[0.01, 0.01]]), np.array([5.0, 5.0]), np.array([np.nan, 0.1]))
    assert rates[0].tolist() == pytest.approx([0.0005, 0.001])


@pytest.mark.parametrize("field", ["max_position", "position_smooth", "vol_target"])
def test_a_setting_out_of_range_is_refused_by_name(field):
    with pytest.raises(ConfigError, match=rf"positions\.{field} must lie in \(0, .*found 0"):
        PositionConfig(**{field: 0.0})
