"""Bands of live figures: their coverage, their alarms, and what they leave unsaid."""

import numpy as np
import pytest

from tft_core.errors import TftError
from tft_core.evidence.tracking import track


def noise(n: int, seed: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, n)


def test_the_band_of_independent_days_is_the_normal_one():
    made = track("net", noise(100, 1), noise(4000, 2), level=0.95)
    # ±1.96/√100 around the record's own mean
    centre = noise(4000, 2).mean()
    assert made.low == pytest.approx(centre - 0.196, abs=0.03)
    assert made.high == pytest.approx(centre + 0.196, abs=0.03)


def test_days_like_the_record_are_inside_as_often_as_the_level_says():
    record = noise(3000, 0)
    inside = [
        track("net", noise(40, seed), record, level=0.9).verdict == "inside"
        for seed in range(1, 201)
    ]
    # 200 trials at 0.9: standard error 0.021
    assert np.mean(inside) == pytest.approx(0.9, abs=4 * 0.021)


def test_a_band_of_days_that_hang_together_is_wider():
    shocks = noise(4000, 3)
    slow = np.convolve(shocks, np.ones(8) / 8**0.5, mode="valid")
    alone, together = (track("net", noise(60, 4), r) for r in (shocks, slow))
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_a_broken_signal_raises_the_alarm():
    assert track("net", noise(60, 5, mean=-1.0), noise(1000, 6)).verdict == "outside"


@pytest.mark.parametrize("realised", [noise(19, 7, mean=-5.0), np.array([]), np.full(50, np.nan)])
def test_too_few_days_judge_nothing(realised):
    assert track("net", realised, noise(1000, 8)).verdict == "unknown"


def test_a_record_that_says_nothing_judges_nothing():
    assert track("net", noise(50, 9), np.full(1000, np.nan)).verdict == "unknown"


def test_a_level_that_is_none_is_refused():
    with pytest.raises(TftError, match=r"level must lie in \[0.5, 1\), found 1"):
        track("net", noise(50, 9), noise(1000, 8), level=1.0)
