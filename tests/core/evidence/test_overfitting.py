"""PBO by CSCV, against the definition written as loops."""

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from tft_core.errors import ConfigError
from tft_core.evidence import overfitting_probability


def pbo_by_loops(values: np.ndarray, n_blocks: int) -> float:
    blocks = np.array_split(np.arange(len(values)), n_blocks)
    low = []
    for chosen in combinations(range(n_blocks), n_blocks // 2):
        inside = np.concatenate([blocks[b] for b in chosen])
        outside = np.setdiff1d(np.arange(len(values)), inside)
        is_sharpe = [
            values[inside, j].mean() / values[inside, j].std() for j in range(values.shape[1])
        ]
        oos_sharpe = [
            values[outside, j].mean() / values[outside, j].std() for j in range(values.shape[1])
        ]
        rank = 1 + sum(s < oos_sharpe[int(np.argmax(is_sharpe))] for s in oos_sharpe)
        omega = rank / (values.shape[1] + 1)
        low.append(math.log(omega / (1 - omega)) <= 0)
    return float(np.mean(low))


def test_it_is_the_share_of_splits_where_the_best_lands_in_the_lower_half():
    rng = np.random.default_rng(4)
    values = rng.normal(0.0, 0.01, (120, 9)) + np.linspace(0, 0.001, 9)
    result = overfitting_probability(pd.DataFrame(values), n_blocks=6)
    assert result.probability == pytest.approx(pbo_by_loops(values, 6), abs=1e-12)
    assert (result.n_splits, result.n_trials) == (20, 9)


def test_a_trial_that_is_better_everywhere_is_not_overfit():
    values = np.random.default_rng(0).normal(0.0, 0.01, (320, 20))
    values[:, 7] += 0.01
    result = overfitting_probability(pd.DataFrame(values))
    assert (result.probability, result.loss_probability) == (0.0, 0.0)
    assert result.n_splits == 12_870


def test_noise_is_overfit_about_every_second_time():
    rng = np.random.default_rng(9)
    found = [
        overfitting_probability(pd.DataFrame(rng.normal(size=(160, 20))), n_blocks=8).probability
        for _ in range(40)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.12)


def test_pruned_trials_are_left_out_and_clones_do_not_beat_the_best():
    rng = np.random.default_rng(1)
    values = pd.DataFrame(rng.normal(size=(160, 4)))
    values[0] += 2.0
    values["clone"] = values[0]
    values["pruned"] = np.where(np.arange(160) < 80, 5.0, np.nan)
    result = overfitting_probability(values, n_blocks=4)
    assert result.n_trials == 5 and result.probability == 0.0


def test_too_little_to_split_is_undefined():
    short = pd.DataFrame(np.random.default_rng(1).normal(size=(31, 4)))
    assert math.isnan(overfitting_probability(short).probability)
    assert math.isnan(overfitting_probability(pd.DataFrame(np.ones((200, 1)))).probability)
    with pytest.raises(ConfigError, match="even number from 2 to 20, found 7"):
        overfitting_probability(short, n_blocks=7)
