"""Importances: what is planted is found, what is noise stays at chance, and few trials are mute."""

import numpy as np
import pandas as pd
import toy_objectives as toys

from tft_core.hp_tuner import SearchSpace, importances
from tft_core.hp_tuner.importance import MIN_TRIALS

SPACE = SearchSpace.from_table(toys.SPACE, toys.DEFAULTS)


def trials(n: int, value_of, seed: int = 0) -> pd.DataFrame:
    """A study drawn at random, its values by a rule of (log lr, d_hidden, noise)."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "number": np.arange(n),
            "state": "complete",
            "params_lr": np.exp(rng.uniform(np.log(3e-4), np.log(6e-3), n)),
            "params_d_hidden": rng.choice([8, 16, 32], n),
            "params_loss_mode": rng.choice(["sharpe", "joint_mle"], n),
        }
    )
    weight = np.where(frame["params_loss_mode"] == "joint_mle", rng.uniform(0.01, 0.2, n), np.nan)
    frame["params_mle_weight"] = weight
    frame["value"] = value_of(frame, rng.normal(size=n))
    return frame


def test_the_setting_that_decides_is_found_and_stands_above_chance():
    frame = trials(40, lambda f, noise: -((np.log(f["params_lr"] / 1e-3)) ** 2) + 0.05 * noise)
    found = importances(frame, SPACE)
    assert found[0].name == "lr" and found[0].is_above_chance
    assert abs(sum(item.share for item in found) - 1.0) < 1e-9
    # the conditional one is assessed too
    assert {item.name for item in found} == {"lr", "d_hidden", "loss_mode", "mle_weight"}


def test_noise_stands_above_chance_no_more_often_than_it_should():
    above = 0
    for seed in range(8):
        found = importances(trials(40, lambda f, noise: noise, seed), SPACE, seed=seed)
        above += sum(item.is_above_chance for item in found)
    assert above <= 6  # of 32 at 5 %: binomial exceeds it once in 1,000


def test_pruned_trials_have_no_say():
    frame = trials(40, lambda f, noise: -((np.log(f["params_lr"] / 1e-3)) ** 2))
    extra = frame.head(10).assign(state="pruned", value=np.nan, params_d_hidden=8)
    assert importances(pd.concat([frame, extra], ignore_index=True), SPACE) == importances(
        frame, SPACE
    )


def test_too_few_trials_or_one_setting_say_nothing():
    assert importances(trials(MIN_TRIALS - 1, lambda f, noise: noise), SPACE) == []
    one = SearchSpace.from_table({"lr": toys.SPACE["lr"]}, toys.DEFAULTS)
    assert importances(trials(30, lambda f, noise: noise), one) == []
