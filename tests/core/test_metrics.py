"""Figures of a return series, against formulas written out."""

import numpy as np
import pytest

from tft_core.metrics import max_drawdown, sharpe_ann, sharpe_se_ann, total_return


def test_the_sharpe_ratio_is_mean_over_deviation_times_root_252():
    returns = np.array([0.01, -0.005, 0.02, 0.0])
    mean = sum(returns) / 4
    deviation = (sum((r - mean) ** 2 for r in returns) / 3) ** 0.5
    assert sharpe_ann(returns) == pytest.approx(mean / deviation * 252**0.5)


@pytest.mark.parametrize("returns", [[], [0.01], [0.01, 0.01, 0.01]])
def test_an_undefined_sharpe_ratio_is_nan_and_never_zero(returns):
    assert np.isnan(sharpe_ann(np.array(returns)))


def test_the_standard_error_matches_the_spread_of_simulated_sharpe_ratios():
    rng = np.random.default_rng(0)
    simulated = rng.normal(0.0005, 0.01, (400, 750))
    ratios = [sharpe_ann(row) for row in simulated]
    errors = [sharpe_se_ann(row) for row in simulated]
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.1)


def test_drawdown_and_total_return_compound():
    returns = np.array([0.1, -0.5, 0.2])
    assert total_return(returns) == pytest.approx(1.1 * 0.5 * 1.2 - 1)
    assert max_drawdown(returns) == pytest.approx(0.5)
    assert np.isnan(total_return(np.array([])))
    assert np.isnan(max_drawdown(np.array([])))
