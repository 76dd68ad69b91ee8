"""Paired comparison: each verdict, its interval, SPA, and what may be shipped."""

import math

import numpy as np
import pandas as pd
import pytest

from tft_core.errors import ConfigError
from tft_core.evidence import choose_path, compare, superior_ability
from tft_core.metrics import sharpe_ann

RESAMPLES = 400


def paths(edge_daily: float, n_days: int = 500, *, rho: float = 0.9, seed: int = 0) -> np.ndarray:
    """Two paths at 1 % a day, correlated at ``rho``; the first earns ``edge_daily`` more."""
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=(n_days, 1)), rng.normal(size=(n_days, 2))
    noise = 0.01 * (math.sqrt(rho) * common + math.sqrt(1 - rho) * own)
    return noise + 0.0003 + np.array([edge_daily, 0.0])


@pytest.mark.parametrize(
    ("edge", "verdict"),
    [(0.002, "better"), (0.0, "not_distinguishable"), (-0.002, "worse")],
)
def test_each_verdict_is_reached(edge, verdict):
    pair = paths(edge)
    result = compare(pair[:, 0], pair[:, 1], n_resamples=RESAMPLES)
    assert result.verdict == verdict
    assert result.difference == pytest.approx(
        sharpe_ann(pair[:, 0]) - sharpe_ann(pair[:, 1]), rel=1e-12
    )
    assert result.low < result.difference < result.high
    assert verdict.replace("_", " ") in result.sentence
    assert (result.p_value < 0.05) == (verdict != "not_distinguishable")


def test_the_interval_of_independent_days_is_the_textbook_one():
    pair = paths(0.0005, 2000, rho=0.5, seed=3)
    result = compare(pair[:, 0], pair[:, 1], n_resamples=2000)
    # Jobson & Korkie 1981 as corrected by Memmel 2003, normal and independent days
    a, b = (p.mean() / p.std(ddof=1) for p in pair.T)
    rho = np.corrcoef(pair.T)[0, 1]
    variance = (2 - 2 * rho + 0.5 * (a**2 + b**2 - 2 * a * b * rho**2)) / len(pair)
    reach = 1.96 * math.sqrt(variance * 252)
    assert (result.high - result.low) / 2 == pytest.approx(reach, rel=0.12)


def test_five_percent_of_equal_paths_are_told_apart():
    told = 0
    for seed in range(60):
        pair = paths(0.0, 250, seed=seed)
        told += compare(pair[:, 0], pair[:, 1], n_resamples=200).verdict != "not_distinguishable"
    assert told <= 8  # binomial(60, .05) exceeds it once in 200


def test_a_path_against_itself_cannot_be_told_apart():
    path = paths(0.0)[:, 0]
    for other in (path, 3.0 * path):  # leverage is not skill
        result = compare(other, path, n_resamples=50)
        assert (result.verdict, result.low, result.high) == ("not_distinguishable", 0.0, 0.0)


def test_sixty_days_are_asked_for():
    pair = paths(0.05, 59)
    result = compare(pair[:, 0], pair[:, 1])
    assert result.verdict == "not_distinguishable" and math.isnan(result.low)
    assert "59 common days" in result.sentence


def test_a_path_that_never_traded_cannot_be_compared():
    result = compare(np.zeros(300), paths(0.0, 300)[:, 1])
    assert result.verdict == "not_distinguishable" and math.isnan(result.difference)


def test_the_same_seed_gives_the_same_interval():
    pair = paths(0.0005)
    one, two = (compare(pair[:, 0], pair[:, 1], n_resamples=100) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.zeros(70), np.zeros(71), "same days, found 70 and 71"),
        (np.full(70, np.nan), np.zeros(70), "finite returns, found NaN"),
    ],
)
def test_paths_that_do_not_match_are_refused(first, second, message):
    with pytest.raises(ConfigError, match=message):
        compare(first, second)


def records(edges: list[float], days_each: int = 250) -> list[pd.DataFrame]:
    dates = pd.bdate_range("2015-01-01", periods=len(edges) * days_each)
    frames = []
    for k, edge in enumerate(edges):
        index = dates[k * days_each : (k + 1) * days_each]
        pair = paths(edge, days_each, seed=k)
        frames.append(pd.DataFrame(pair, index=index, columns=["tuned", "default"]))
    return frames


def test_the_first_fold_ships_the_default():
    assert choose_path([]) == "default"


@pytest.mark.parametrize(
    ("edge", "shipped"), [(0.002, "tuned"), (0.0, "default"), (-0.002, "default")]
)
def test_tuned_is_shipped_only_if_it_is_better(edge, shipped):
    assert choose_path(records([edge, edge])) == shipped


def test_what_fold_k_ships_does_not_depend_on_its_own_record_or_later_ones():
    folds = records([0.002, 0.002, 0.002, 0.002])
    chosen = [choose_path(folds[:k]) for k in range(4)]
    poisoned = [*folds[:2], *(frame.assign(tuned=frame["default"] * -7.0) for frame in folds[2:])]
    assert [choose_path(poisoned[:k]) for k in range(3)] == chosen[:3]
    assert choose_path(poisoned) != chosen[3]  # the poison would have been seen


def test_records_out_of_order_are_refused():
    with pytest.raises(ConfigError, match="without overlap, found dates out of order"):
        choose_path(list(reversed(records([0.0, 0.0]))))
    with pytest.raises(ConfigError, match="must have a column 'default'"):
        choose_path([records([0.0])[0][["tuned"]]])


def spa_by_hand(returns: pd.DataFrame, benchmark: str, block: int, reps: int) -> float:
    """Hansen's upper (White) p-value with independent code and another random stream."""
    scaled = (returns / returns.std()).to_numpy()
    column = list(returns.columns).index(benchmark)
    gain = np.delete(scaled, column, axis=1) - scaled[:, [column]]
    n_days, rng = len(gain), np.random.default_rng(0)
    means = []
    for _ in range(reps):
        index = np.empty(n_days, dtype=int)
        for day in range(n_days):
            jump = day == 0 or rng.random() < 1 / block
            index[day] = rng.integers(n_days) if jump else (index[day - 1] + 1) % n_days
        means.append(gain[index].mean(axis=0))
    drawn = np.array(means)
    spread = drawn.std(axis=0)
    observed = (gain.mean(axis=0) / spread).max()
    null = ((drawn - gain.mean(axis=0)) / spread).max(axis=1)
    return float(np.mean(null > observed))


def several(edge: float) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(
        rng.normal(0.0003, 0.01, (400, 4)), columns=["tuned", "default", "tsmom", "long_only"]
    )
    frame["tuned"] += edge
    frame["tsmom"] *= 2.0  # another volatility, the same Sharpe ratio
    return frame


@pytest.mark.parametrize("edge", [0.0010, 0.0016])
def test_superior_ability_agrees_with_a_plain_reality_check(edge):
    frame = several(edge)
    result = superior_ability(frame, "default", n_resamples=1000)
    assert result.p_lower <= result.p_value <= result.p_upper
    assert result.p_upper == pytest.approx(spa_by_hand(frame, "default", 7, 300), abs=0.08)
    assert (result.n_rivals, result.n_days) == (3, 400)


def test_superior_ability_sees_a_rival_that_is_better():
    assert superior_ability(several(0.003), "default").p_value < 0.05
    assert superior_ability(several(0.003), "tuned").p_value > 0.5  # nothing beats it


def test_superior_ability_over_scaled_copies_of_the_benchmark_is_none():
    frame = several(0.0)[["default"]].assign(tuned=lambda f: 2.0 * f["default"])
    assert superior_ability(frame, "default").p_value == 1.0


def test_superior_ability_of_short_or_flat_paths_is_undefined():
    assert math.isnan(superior_ability(several(0.0).head(30), "default").p_value)
    for daily in (0.0, 0.1):
        assert math.isnan(superior_ability(several(0.0).assign(tuned=daily), "default").p_value)
    with pytest.raises(ConfigError, match="must hold 'paper' and a rival"):
        superior_ability(several(0.0), "paper")
