"""The fast change-point detector against Gaussian processes, and its calibration."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from row_tables import planted_rows

from tests.oracles import gp_change_points as gp
from tft_core.data.panel import label_returns
from tft_core.data.sample import sample_bars
from tft_core.features.kernels import daily_volatility
from tft_core.sequences import RowTable, find_segments
from tft_core.sequences.segments import LOOKBACK, change_evidence, evidence_for

SIGMA = 0.01


def rows_of(returns: np.ndarray) -> RowTable:
    """One asset with these daily returns, its volatility known to be ``SIGMA``."""
    n = len(returns)
    label = np.full(n, np.nan)
    label[:-2] = returns[2:]  # y_t = r(t+1 → t+2)
    rows = planted_rows(n_assets=1, n_days=n, n_features=3)
    return replace(rows, label=label, sigma=np.full(n, SIGMA))


def last_window(returns: np.ndarray) -> tuple[float, int]:
    """Evidence in the last ``LOOKBACK`` returns, and how many of them precede the change."""
    rows = rows_of(np.concatenate([np.zeros(2), returns]))
    share, change = change_evidence(rows)
    return float(share[-1]), int(change[-1]) - 2


@pytest.fixture(scope="module")
def breaks() -> list[tuple[int, np.ndarray]]:
    """Windows of returns whose volatility becomes six times as large, or a sixth, at a place."""
    rng, planted = np.random.default_rng(0), []
    for k in range(12):
        at, before, after = 7 + k % 8, 0.3, 1.8
        if k % 2:
            before, after = after, before
        scale = np.where(np.arange(LOOKBACK) < at, before, after)
        planted.append((at, SIGMA * scale * rng.standard_normal(LOOKBACK)))
    return planted


def test_planted_breaks_are_found_where_gaussian_processes_find_them(breaks) -> None:
    fast = [last_window(returns) for _, returns in breaks]
    slow = [gp.change(np.exp(np.append(0.0, returns).cumsum())) for _, returns in breaks]
    planted = np.array([at for at, _ in breaks])
    assert np.mean([share >= 0.5 for share, _ in fast]) >= 0.9
    assert np.mean([one.severity >= 0.9 for one in slow]) >= 0.8
    ours, theirs = np.array([at for _, at in fast]), np.array([one.location for one in slow])
    assert np.median(np.abs(ours - planted)) <= 1.0
    assert np.median(np.abs(ours - theirs)) <= 2.0


def test_where_nothing_changes_strong_evidence_is_rare() -> None:
    rng = np.random.default_rng(1)
    shares = [last_window(SIGMA * rng.standard_normal(LOOKBACK))[0] for _ in range(200)]
    assert np.mean(np.array(shares) >= 0.95) <= 0.05


def test_the_oracles_gradients_are_those_of_its_likelihoods() -> None:
    y = np.random.default_rng(2).standard_normal(22).cumsum()
    y = (y - y.mean()) / y.std()
    for likelihood, theta in (
        (gp._nlml_one, np.array([1.0, 0.1, -1.0])),
        (gp._nlml_two, np.array([9.0, 0.3, 1.0, 0.1, 2.0, -0.3, -1.0])),
    ):
        for k in range(len(theta)):
            step = np.eye(len(theta))[k] * 1e-6
            slope = (likelihood(theta + step, y)[0] - likelihood(theta - step, y)[0]) / 2e-6
            assert likelihood(theta, y)[1][k] == pytest.approx(slope, rel=1e-4, abs=1e-5)


@pytest.fixture(scope="module")
def currencies() -> RowTable:
    bars = sample_bars()
    bars = bars[bars["symbol"].isin(["EURUSD", "JPYUSD", "AUDUSD", "ZARUSD", "IBM"])]
    close = bars.pivot(index="date", columns="symbol", values="close").to_numpy(dtype=float)
    asset_id, date_index = (a.astype(np.int64) for a in np.nonzero(np.isfinite(close).T))
    sigma = daily_volatility(close)[date_index, asset_id]
    rows = planted_rows(n_assets=5, n_days=len(close), n_features=3)
    n = len(asset_id)
    return replace(
        rows,
        features=np.zeros((n, 3), dtype=np.float32),
        coverage=np.ones(n, dtype=np.float32),
        asset_id=asset_id,
        date_index=date_index,
        label=label_returns(close)[date_index, asset_id],
        sigma=np.where(sigma > 0, sigma, np.nan),
        cost_rate=np.zeros(n),
        asset_start=np.concatenate([[0], np.cumsum(np.isfinite(close).sum(axis=0))]),
    )


@pytest.mark.parametrize("longest", [21, 42, 63, 126])
def test_the_average_segment_is_half_the_longest_as_the_paper_calibrates(
    currencies, longest: int
) -> None:
    found = find_segments(currencies, longest)
    length = found.last_row - found.first_row + 1
    assert length.mean() == pytest.approx(longest / 2, rel=0.15)
    assert length.max() <= longest


def test_more_evidence_is_asked_for_where_segments_may_be_longer() -> None:
    asked = [evidence_for(longest) for longest in (5, 21, 30, 63, 100, 252, 1000)]
    assert asked[0] == asked[1] == pytest.approx(0.083)
    assert asked[-1] == asked[-2] == pytest.approx(0.985)
    assert all(a < b for a, b in pairwise(asked[1:-1]))
