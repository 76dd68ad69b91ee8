"""Confidence: a probability that validation measured, larger with size, smaller with spread."""

import numpy as np
import pytest

from tft_core.confidence import MIN_ROWS, Calibration, agreement_score
from tft_core.errors import CheckpointError


def planted(n: int, seed: int):
    """Rows whose sign is right with a known probability that falls with the spread."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1.0, 1.0, n)
    spread = rng.uniform(0.0, 1.0, n)
    probability = 0.5 + 0.3 * np.abs(z) ** 3 / (z**2 + spread**2)
    hit = rng.random(n) < probability
    label = np.sign(z) * np.where(hit, 1.0, -1.0) * rng.uniform(0.5, 2.0, n)
    return z, spread, label, probability


def test_the_score_grows_with_size_and_falls_with_disagreement():
    z = np.array([0.1, 0.2, 0.2, 0.2, -0.2, 0.0])
    spread = np.array([0.1, 0.1, 0.2, np.nan, 0.1, 0.0])
    expected = [0.05, 0.16, 0.1, 0.2, 0.16, 0.0]  # |z|·z²/(z²+s²)
    np.testing.assert_allclose(agreement_score(z, spread), expected)


def test_predicted_probabilities_are_those_that_were_planted():
    fitted = Calibration.fit(*planted(20_000, 1)[:3])
    z, spread, label, truth = planted(20_000, 2)
    told = fitted.probability(z, spread)
    hit = np.sign(z) == np.sign(label)
    bins = np.searchsorted(np.unique(np.quantile(told, np.linspace(0.1, 0.9, 9))), told)
    for b in np.unique(bins):
        inside = bins == b
        band = 3.0 * np.sqrt(0.25 / inside.sum()) + 3.0 * np.sqrt(0.25 / 2000)
        assert abs(hit[inside].mean() - told[inside].mean()) < band
    assert np.abs(told - truth).mean() < 0.03


def test_confidence_is_monotone_in_both():
    fitted = Calibration.fit(*planted(20_000, 1)[:3])
    grid = np.linspace(0.01, 1.0, 50)
    by_size = fitted.probability(grid, np.full(50, 0.3))
    by_spread = fitted.probability(np.full(50, 0.8), grid)
    assert (np.diff(by_size) >= 0).all() and by_size[-1] > by_size[0]
    assert (np.diff(by_spread) <= 0).all() and by_spread[-1] < by_spread[0]
    assert ((by_size >= 0) & (by_size <= 1)).all()


def test_noise_is_confident_of_nothing():
    rng = np.random.default_rng(3)
    z, spread = rng.uniform(-1, 1, 4000), rng.uniform(0, 1, 4000)
    told = Calibration.fit(z, spread, rng.standard_normal(4000)).probability(z, spread)
    # a bin's hit rate of 400 rows has a standard error of 0.025
    assert np.abs(told - 0.5).max() < 4 * 0.025


def test_too_few_traded_rows_leave_confidence_unknown():
    z, spread, label, _ = planted(MIN_ROWS - 1, 4)
    fitted = Calibration.fit(z, spread, label)
    assert np.isnan(fitted.probability(z, spread)).all()
    assert Calibration.from_dict(fitted.to_dict()) == fitted


def test_rows_without_an_outcome_or_a_position_do_not_count():
    z, spread, label, _ = planted(2_000, 5)
    more = Calibration.fit(
        np.concatenate([z, [0.0, 0.5, np.nan]]),
        np.concatenate([spread, [0.1, 0.1, 0.1]]),
        np.concatenate([label, [1.0, np.nan, 1.0]]),
    )
    assert more == Calibration.fit(z, spread, label)


def test_an_unknown_output_has_no_confidence():
    fitted = Calibration.fit(*planted(2_000, 5)[:3])
    assert np.isnan(fitted.probability(np.array([np.nan]), np.array([0.1]))).all()


@pytest.mark.parametrize(
    "knots",
    [
        {},
        {"score": [0.1], "hit_rate": [0.5, 0.6], "n_rows": 500},
        {"score": [0.2, 0.1], "hit_rate": [0.5, 0.6], "n_rows": 500},
        {"score": [0.1, 0.2], "hit_rate": [0.6, 0.5], "n_rows": 500},
        {"score": [0.1, 0.2], "hit_rate": [0.6, 1.5], "n_rows": 500},
        {"score": [0.1, None], "hit_rate": [0.5, 0.6], "n_rows": 500},
    ],
)
def test_broken_knots_are_refused(knots):
    with pytest.raises(CheckpointError, match="confidence must"):
        Calibration.from_dict(knots)
