"""Deflation, against formulas written out here and against simulated best-of-many."""

import math
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from tft_core.errors import ConfigError
from tft_core.evidence import (
    deflate,
    deflated_sharpe,
    effective_trials,
    expected_max_sharpe_ann,
    min_track_record_days,
    probabilistic_sharpe,
)

NORMAL = NormalDist()


def moments(returns: np.ndarray) -> tuple[float, float, float]:
    """Daily Sharpe ratio, skew and raw kurtosis by their definitions."""
    z = (returns - returns.mean()) / returns.std()
    return returns.mean() / returns.std(ddof=1), float(np.mean(z**3)), float(np.mean(z**4))


def psr_by_hand(returns: np.ndarray, benchmark_daily: float) -> float:
    sharpe, skew, kurtosis = moments(returns)
    spread = math.sqrt(1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2)
    return NORMAL.cdf((sharpe - benchmark_daily) * math.sqrt(len(returns) - 1) / spread)


def expected_max_by_hand(n: float, dispersion: float) -> float:
    gamma = 0.5772156649015329
    return dispersion * (
        (1 - gamma) * NORMAL.inv_cdf(1 - 1 / n) + gamma * NORMAL.inv_cdf(1 - 1 / (n * math.e))
    )


@pytest.fixture
def returns() -> np.ndarray:
    rng = np.random.default_rng(3)
    return 0.0008 + 0.01 * (rng.standard_t(5, 500) - 0.2 * rng.standard_exponential(500))


@pytest.mark.parametrize("benchmark_ann", [0.0, 0.7])
def test_probabilistic_sharpe_takes_an_annual_benchmark(returns, benchmark_ann):
    expected = psr_by_hand(returns, benchmark_ann / math.sqrt(252))
    # skfolio's skew and kurtosis may differ from the plain moments by n/(n−1)
    assert probabilistic_sharpe(returns, benchmark_ann=benchmark_ann) == pytest.approx(
        expected, abs=2e-3
    )


@pytest.mark.parametrize("daily", [0.0, 0.001, 0.1])
def test_a_record_without_spread_has_no_probability(daily):
    assert math.isnan(probabilistic_sharpe(np.full(100, daily)))
    # 0.1 has no exact float: the computed deviation of a hundred of them is not 0
    assert math.isnan(effective_trials(np.full((100, 2), daily)))


def test_expected_maximum_of_noise_is_the_published_one():
    # reference/xtrend.md §6: 40 null trials over 126 days show 3.1, over 520 days 1.5
    assert expected_max_sharpe_ann(40.0, math.sqrt(252 / 126)) == pytest.approx(3.1, abs=0.06)
    assert expected_max_sharpe_ann(40.0, math.sqrt(252 / 520)) == pytest.approx(1.5, abs=0.04)
    assert expected_max_sharpe_ann(7.5, 0.4) == pytest.approx(expected_max_by_hand(7.5, 0.4))


def test_the_best_of_one_is_not_deflated():
    assert expected_max_sharpe_ann(1.0, 2.0) == 0.0
    assert expected_max_sharpe_ann(1.01, 2.0) == 0.0  # the formula itself would give −2.3
    assert math.isnan(expected_max_sharpe_ann(math.nan, 2.0))


def test_deflated_sharpe_is_the_probability_of_beating_the_expected_maximum(returns):
    benchmark = expected_max_by_hand(20, 0.9)
    assert deflated_sharpe(returns, n_trials=20.0, dispersion_ann=0.9) == pytest.approx(
        psr_by_hand(returns, benchmark / math.sqrt(252)), abs=2e-3
    )


@pytest.mark.parametrize(("sharpe", "days"), [(0.66, 1568), (1.0, 685), (1.5, 306), (2.0, 173)])
def test_minimum_track_record_is_the_published_table(sharpe, days):
    # reference/xtrend.md §6, rounded up to whole days there
    assert min_track_record_days(sharpe) == pytest.approx(days, abs=2.5)


def test_no_record_is_long_enough_for_a_sharpe_below_its_benchmark():
    assert min_track_record_days(0.5, benchmark_ann=0.6) == math.inf
    assert math.isnan(min_track_record_days(math.nan))
    with pytest.raises(ConfigError, match=r"must lie in \(0.5, 1\), found 0.5"):
        min_track_record_days(1.0, confidence=0.5)


def test_fat_left_tails_lengthen_the_record():
    assert min_track_record_days(1.0, skew=-1.0, kurtosis=8.0) > min_track_record_days(1.0)


def null_trials(kind: str, rng: np.random.Generator, n_days: int = 190, n: int = 40) -> np.ndarray:
    own = rng.normal(size=(n_days, n))
    if kind == "independent":
        return own
    if kind == "correlated":  # any two at .8
        return math.sqrt(0.8) * rng.normal(size=(n_days, 1)) + math.sqrt(0.2) * own
    return rng.normal(size=(n_days, 4))[:, np.arange(n) % 4] + 0.02 * own  # four ideas, ten clones


@pytest.mark.parametrize(
    ("kind", "expected"), [("independent", 40), ("correlated", 40), ("clones", 4)]
)
def test_effective_trials_counts_ideas_not_clones(kind, expected):
    rng = np.random.default_rng(5)
    scales = rng.uniform(0.2, 3.0, 40)  # different position sizes change nothing
    found = [effective_trials(null_trials(kind, rng) * scales) for _ in range(10)]
    assert np.mean(found) == pytest.approx(expected, rel=0.1)


def test_forty_copies_of_one_trial_are_one_trial():
    one = np.random.default_rng(0).normal(size=(100, 1))
    assert effective_trials(np.tile(one, 40)) == 1.0
    assert effective_trials(one) == 1.0
    assert math.isnan(effective_trials(np.hstack([one, np.zeros((100, 1))])))


@pytest.mark.parametrize("kind", ["independent", "correlated", "clones"])
def test_the_expected_maximum_is_what_the_best_of_noise_shows_on_average(kind):
    rng = np.random.default_rng(11)
    shown, expected = [], []
    for _ in range(60):
        values = null_trials(kind, rng)
        sharpes = values.mean(axis=0) / values.std(axis=0, ddof=1) * math.sqrt(252)
        report = deflate(pd.DataFrame(values), int(sharpes.argmax()))
        assert report.sharpe == pytest.approx(sharpes.max(), rel=1e-9)
        shown.append(report.sharpe)
        expected.append(report.expected_max)
    assert np.mean(expected) == pytest.approx(np.mean(shown), rel=0.35)


def test_pruned_trials_count_and_do_not_shrink_the_dispersion():
    rng = np.random.default_rng(2)
    whole, pruned, survivors = [], [], []
    for _ in range(12):
        values = pd.DataFrame(rng.normal(size=(180, 40)))
        lagging = values.iloc[:120].mean().sort_values().index.drop(0)[:20]
        cut = values.copy()
        cut.loc[120:, lagging] = np.nan
        assert deflate(cut, 0).n_trials == 40
        whole.append(deflate(values, 0).expected_max)
        pruned.append(deflate(cut, 0).expected_max)
        survivors.append(deflate(values.drop(columns=lagging), 0).expected_max)
    assert np.mean(pruned) == pytest.approx(np.mean(whole), rel=0.07)
    assert np.mean(survivors) < 0.8 * np.mean(whole)  # what leaving them out would have shown


def test_trials_of_other_studies_deflate_too():
    values = pd.DataFrame(np.random.default_rng(2).normal(size=(180, 10)))
    assert deflate(values, 0, n_trials=400).expected_max > deflate(values, 0).expected_max


def test_the_sentence_carries_the_numbers():
    report = deflate(pd.DataFrame(np.random.default_rng(2).normal(size=(180, 10))), 3)
    assert report.sentence.startswith("The best of 10 trials")
    assert f"Sharpe ratio of {report.expected_max:.2f} over these 180 days" in report.sentence
    assert report.sentence.endswith(f"this one shows {report.sharpe:.2f}.")


def test_a_pruned_trial_cannot_be_the_best():
    values = pd.DataFrame(np.random.default_rng(2).normal(size=(180, 3)))
    values.iloc[-1, 1] = np.nan
    with pytest.raises(ConfigError, match="complete column of daily, found 1"):
        deflate(values, 1)
