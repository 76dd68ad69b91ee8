"""The evidence of a search and of a record: assembled right, and said in words that agree."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from tft_core.errors import ConfigError
from tft_core.evidence import (
    compare,
    deflate,
    overfitting_probability,
    probabilistic_sharpe,
    record_evidence,
    search_evidence,
    superior_ability,
)

NAMES = ["shipped", "tuned", "default", "long_only"]


def record(edge: float = 0.0, n_days: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    dates = pd.bdate_range("2020-01-01", periods=n_days)
    frame = pd.DataFrame(rng.normal(0.0, 0.01, (n_days, 4)), dates, NAMES)
    frame["tuned"] += edge
    return frame.assign(shipped=frame["default"])


def test_the_parts_are_the_library_s_own():
    paths = record(0.002)
    found = record_evidence(paths, n_procedures=4)
    net = {name: paths[name].to_numpy() for name in NAMES}
    assert found.tuned_against_default == compare(net["tuned"], net["default"])
    assert found.shipped_against["long_only"].difference == pytest.approx(
        compare(net["shipped"], net["long_only"]).difference
    )
    assert found.probabilistic == probabilistic_sharpe(net["shipped"])
    # the shipped path is one of the others: as a rival of its own it would count twice
    assert found.superior_ability["default"] == superior_ability(
        paths[["tuned", "default", "long_only"]], "default"
    )
    assert set(found.superior_ability) == {"tuned", "default", "long_only"}


@pytest.mark.parametrize(
    ("edge", "verdict"),
    [(0.004, "better"), (0.0, "not_distinguishable"), (-0.004, "worse")],
)
def test_each_verdict_reaches_the_words(edge, verdict):
    found = record_evidence(record(edge))
    assert found.tuned_against_default.verdict == verdict
    assert any(verdict.replace("_", " ") in sentence for sentence in found.sentences)


def test_looking_again_and_again_is_paid_for():
    once, often = (record_evidence(record(), n_procedures=n) for n in (1, 40))
    assert once.expected_max == 0.0
    # reference/xtrend.md: the best of 40 independent ones over 520 days shows 1.5
    assert often.expected_max == pytest.approx(1.5 * math.sqrt(520 / 400), abs=0.06)
    assert "40 different procedures" in often.sentences[1]
    assert f"would show {often.expected_max:.2f}" in often.sentences[1]


def test_a_record_below_zero_has_no_length_that_proves_it():
    paths = record()
    paths["shipped"] = paths["default"] - 0.003
    found = record_evidence(paths)
    assert found.min_record_days == math.inf
    assert "no length of such a record would prove it" in found.sentences[0]
    assert found.to_dict()["min_record_days"] is None


def test_the_length_that_convinces_is_the_one_at_which_the_probability_is_95_percent():
    paths = record(n_days=900)
    paths["shipped"] = paths["default"] - paths["default"].mean() + 0.0006
    found = record_evidence(paths)
    n, days = found.n_days, found.min_record_days
    z = float(np.sqrt((days - 1) / (n - 1)))  # PSR's argument grows with the root of the days
    from statistics import NormalDist

    argument = NormalDist().inv_cdf(found.probabilistic)
    assert NormalDist().cdf(argument * z) == pytest.approx(0.95, abs=0.002)


def test_a_path_that_never_traded_is_said_and_not_scored():
    found = record_evidence(record().assign(shipped=0.0))
    assert math.isnan(found.sharpe) and math.isnan(found.probabilistic)
    assert "has no Sharpe ratio" in found.sentences[0]
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_record_without_its_paths_is_refused():
    with pytest.raises(ConfigError, match="found no 'tuned'"):
        record_evidence(record().drop(columns="tuned"))
    paths = record()
    paths.iloc[3, 0] = np.nan
    with pytest.raises(ConfigError, match="found NaN on the shipped path"):
        record_evidence(paths)


def test_the_search_is_deflated_and_its_overfitting_measured():
    daily = pd.DataFrame(np.random.default_rng(1).normal(0.0, 0.01, (240, 12)))
    found = search_evidence(daily, 3, 50)
    assert found.deflation == deflate(daily, 3, n_trials=50)
    assert found.overfitting == overfitting_probability(daily)
    assert found.sentences[0].startswith("The best of 50 trials")
    assert f"In {found.overfitting.probability:.0%} of 12,870" in found.sentences[1]
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_search_of_one_trial_says_that_nothing_can_be_split():
    daily = pd.DataFrame(np.random.default_rng(1).normal(0.0, 0.01, (240, 1)))
    found = search_evidence(daily, 0)
    assert "undefined" in found.sentences[1]
    assert found.to_dict()["overfitting"]["probability"] is None
