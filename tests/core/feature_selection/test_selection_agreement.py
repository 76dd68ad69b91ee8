"""Nogueira, Kendall, Jaccard and the test against shadows, each against another source."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.inter_rater import fleiss_kappa

from tft_core.feature_selection.agreement import jaccard, kendall, nogueira, pairwise_agreement
from tft_core.feature_selection.chance import (
    chance_p_value,
    mean_interval,
    q_values,
    shadow_threshold,
    smallest_p_value,
    tail_p_values,
)


def nogueira_by_hand(z: np.ndarray) -> tuple[float, float]:
    """Estimate and variance, written out from the paper's definitions with loops."""
    n_sets, d = z.shape
    p = [sum(z[i][f] for i in range(n_sets)) / n_sets for f in range(d)]
    k = [sum(z[i]) for i in range(n_sets)]
    kbar = sum(k) / n_sets
    denominator = (kbar / d) * (1 - kbar / d)
    phi = 1 - sum(n_sets / (n_sets - 1) * q * (1 - q) for q in p) / d / denominator
    per = [
        (
            sum(z[i][f] * p[f] for f in range(d)) / d
            - k[i] * kbar / d**2
            + phi / 2 * (2 * k[i] * kbar / d**2 - k[i] / d - kbar / d + 1)
        )
        / denominator
        for i in range(n_sets)
    ]
    mean = sum(per) / n_sets
    return phi, 4 / n_sets**2 * sum((v - mean) ** 2 for v in per)


def test_nogueira_equals_the_paper_written_out() -> None:
    z = np.random.default_rng(0).random((7, 40)) < np.linspace(0.05, 0.9, 40)
    phi, variance = nogueira_by_hand(z.astype(int))
    result = nogueira(z, 0.95)
    assert result.phi == pytest.approx(phi)
    assert result.upper - result.lower == pytest.approx(2 * 1.959964 * variance**0.5, rel=1e-6)


def test_nogueira_is_fleiss_kappa_of_feature_sets() -> None:
    z = np.random.default_rng(1).random((5, 30)) < 0.4
    counts = np.column_stack([z.sum(axis=0), 5 - z.sum(axis=0)])
    assert nogueira(z, 0.9).phi == pytest.approx(fleiss_kappa(counts))


def test_nogueira_of_equal_sets_is_one_and_of_random_ones_about_zero() -> None:
    same = np.tile(np.arange(20) < 5, (4, 1))
    assert nogueira(same, 0.9).phi == 1.0
    random = np.random.default_rng(2).random((200, 50)) < 0.3
    assert nogueira(random, 0.9).phi == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("fill", [False, True])
def test_nogueira_of_empty_or_full_sets_is_undefined(fill: bool) -> None:
    assert np.isnan(nogueira(np.full((3, 10), fill), 0.9).phi)


def test_jaccard_and_kendall_of_small_cases() -> None:
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert jaccard(a, b) == pytest.approx(1 / 3)
    assert np.isnan(jaccard(a & ~a, b & ~b))
    # three pairs of four ranks: one discordant
    assert kendall(np.array([1.0, 2, 3, np.nan]), np.array([1.0, 3, 2, 9])) == pytest.approx(1 / 3)
    assert np.isnan(kendall(np.ones(3), np.arange(3.0)))


def test_seeds_and_folds_are_compared_apart() -> None:
    """Seeds agree perfectly within each fold; folds are reversed."""
    index = pd.MultiIndex.from_product([["a", "b"], [0, 1]], names=["fold", "seed"])
    evidence = pd.DataFrame([[1, 2, 3], [1, 2, 3], [3, 2, 1], [3, 2, 1]], index, list("xyz"))
    chosen = (evidence == 3).astype(float)
    seeds = pairwise_agreement(evidence.astype(float), chosen, within="fold")
    folds = pairwise_agreement(evidence.astype(float), chosen, within="seed")
    assert (seeds["kendall"], seeds["jaccard"], seeds["n_pairs"]) == (1.0, 1.0, 2)
    assert (folds["kendall"], folds["jaccard"], folds["n_pairs"]) == (-1.0, 0.0, 2)


def test_a_new_shadow_exceeds_the_shadow_threshold_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(3)
    exceeded = [
        rng.exponential() > shadow_threshold(rng.exponential(size=40), 0.95) for _ in range(4000)
    ]
    # the second largest of 40: exceeded with probability 2/41
    assert np.mean(exceeded) == pytest.approx(2 / 41, abs=3 * (2 / 41 / 4000) ** 0.5)
    assert shadow_threshold(np.arange(10.0), 0.95) == 9.0
    assert np.isnan(shadow_threshold(np.array([]), 0.95))


def test_the_p_value_against_shadows_is_uniform_without_signal() -> None:
    rng = np.random.default_rng(4)
    p = [
        chance_p_value(rng.exponential(size=40), rng.exponential(size=20), seed=i)
        for i in range(60)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_the_p_value_of_a_clean_sweep_is_the_hypergeometric_one() -> None:
    features, shadows = np.r_[np.arange(3.0) + 10], np.arange(3.0)
    p = chance_p_value(features, shadows, seed=0)
    assert p == pytest.approx(1 / 20, abs=0.01)  # one labelling of C(6, 3)
    assert smallest_p_value(3, 3, 3) == pytest.approx(1 / 20)


def test_ties_between_features_and_shadows_are_no_evidence() -> None:
    assert chance_p_value(np.zeros(30), np.zeros(30), seed=0) == 1.0


def test_the_mean_interval_is_students() -> None:
    values = np.random.default_rng(5).standard_normal((6, 1))
    mean, low, high = mean_interval(values, 0.9)
    expected = stats.t.interval(0.9, 5, loc=values.mean(), scale=stats.sem(values[:, 0]))
    np.testing.assert_allclose([low[0], high[0]], expected)
    assert mean[0] == pytest.approx(values.mean())
    _, low, _ = mean_interval(np.array([[1.0], [np.nan]]), 0.9)
    assert np.isnan(low[0])


def test_tail_p_values_count_shadows_and_extrapolate_beyond_them() -> None:
    rng = np.random.default_rng(0)
    shadows = rng.exponential(size=400)
    features = np.array([0.0, np.median(shadows), 6.0, 12.0, np.nan])
    p = tail_p_values(features, shadows)
    assert p[0] == 1.0
    assert p[1] == pytest.approx(0.5, abs=0.01)
    # an exponential tail is extrapolated: P(> t) = e^-t
    assert np.log(p[2]) == pytest.approx(-6.0, abs=1.2)
    assert np.log(p[3]) == pytest.approx(-12.0, abs=2.5)
    assert np.isnan(p[4])


def test_tail_p_values_of_exchangeable_features_are_not_too_small() -> None:
    """The share of null features with p ≤ .05 and ≤ .01 stays near these levels."""
    small = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        drawn = np.maximum(rng.standard_normal(120) + 0.5, 0.0)  # a lump at 0, as weights have
        small.append(tail_p_values(drawn[:60], drawn[60:]))
    p = np.concatenate(small)
    assert np.mean(p <= 0.05) < 0.06
    assert np.mean(p <= 0.01) < 0.015


def test_few_shadows_give_no_p_value_and_q_values_follow_benjamini_hochberg() -> None:
    assert np.isnan(tail_p_values(np.ones(3), np.ones(7))).all()
    q = q_values(np.array([0.01, 0.04, np.nan, 0.03]))
    np.testing.assert_allclose(q[[0, 1, 3]], [0.03, 0.04, 0.04])
    assert np.isnan(q[2])
