from dataclasses import replace

import numpy as np
import pytest
from row_tables import planted_rows, poisoned

from tft_core.errors import ModelError
from tft_core.sequences import (
    NO_CONTEXT,
    PADDING,
    choose_contexts,
    context_candidates,
    find_segments,
    sample_contexts,
    sample_pool,
)


@pytest.fixture(scope="module")
def rows():
    return planted_rows(n_assets=3, n_days=200, n_features=4, late={2: 90})


@pytest.mark.parametrize("mode", ["random", "time", "segment"])
def test_a_context_and_its_last_label_end_before_the_first_loss_step(rows, mode: str) -> None:
    rng = np.random.default_rng(3)
    candidates = context_candidates(rows, np.ones(len(rows), bool), 12, mode)
    gates = rng.integers(20, 200, size=50)
    pool = sample_pool(candidates, gates, 40, rng)
    choice = choose_contexts(pool.available, gates, 6, rng)
    assert (choice != NO_CONTEXT).any()
    target, slot = np.nonzero(choice != NO_CONTEXT)
    chosen = choice[target, slot]
    last_row = pool.index[chosen][:, -1]
    # the label of row t ends two own sessions later
    realised = rows.date_index[last_row + 2]
    assert (rows.asset_id[last_row + 2] == rows.asset_id[last_row]).all()
    assert (realised < gates[target]).all()
    assert (rows.date_index[last_row] < gates[target]).all()


def test_a_target_gets_no_context_twice_and_none_from_its_future(rows) -> None:
    available = np.array([10, 20, 30, 40])
    gates = np.array([5, 11, 31, 99])
    for seed in range(20):
        choice = choose_contexts(available, gates, 3, np.random.default_rng(seed))
        assert (choice[0] == NO_CONTEXT).all()
        assert sorted(choice[1][choice[1] >= 0]) == [0]
        assert sorted(choice[2][choice[2] >= 0]) == [0, 1, 2]
        assert len(set(choice[3])) == 3


def test_random_contexts_are_full_windows_of_one_asset(rows) -> None:
    allowed = rows.date_index < 150
    found = context_candidates(rows, allowed, 12, "random")
    assert (np.diff(found.index, axis=1) == 1).all()
    assert (rows.asset_id[found.index] == found.asset_id[:, None]).all()
    assert (np.diff(found.available) >= 0).all()
    # 150 − 11 full windows for the two old assets, 60 − 11 for the late one
    assert len(found) == 2 * (150 - 11) + (60 - 11)


def test_too_few_contexts_before_a_date_are_refused(rows) -> None:
    with pytest.raises(ModelError, match=r"at least 4 contexts of 12 steps.*found 0"):
        sample_contexts(rows, 4, 12, "random", np.random.default_rng(0), before_date_index=12)


def test_a_bank_draws_different_contexts_and_the_same_for_the_same_seed(rows) -> None:
    draws = [
        sample_contexts(rows, 8, 12, "random", np.random.default_rng(5), before_date_index=100)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(draws[0].index, draws[1].index)
    assert len(np.unique(draws[0].index[:, -1])) == 8
    assert (draws[0].available < 100).all()


def regime_rows(n_days: int = 240, seed: int = 0):
    """One asset whose mean return jumps from +2σ to −2σ at day 100 and back at day 170."""
    rows = planted_rows(n_assets=1, n_days=n_days, n_features=4, ic=0.0, seed=seed)
    drift = np.where((np.arange(n_days) >= 100) & (np.arange(n_days) < 170), -2.0, 2.0)
    returns = np.random.default_rng(seed).standard_normal(n_days) + drift
    label = np.full(n_days, np.nan)
    label[:-2] = returns[2:] * 0.01  # y_t = r(t+1 → t+2)
    return replace(rows, label=label, sigma=np.full(n_days, 0.01))


def test_a_jump_of_the_mean_ends_a_segment_near_it_and_is_detected_after_it() -> None:
    segments = find_segments(regime_rows(), 63)
    starts = np.append(segments.last_row + 1, segments.first_row)
    for jump in (100, 170):
        assert np.abs(starts - jump).min() <= 2
    assert (segments.detected_row >= segments.last_row).all()
    lengths = segments.last_row - segments.first_row + 1
    assert lengths.min() >= 5
    assert lengths.max() <= 63
    near = np.abs(segments.last_row + 1 - 100).argmin()
    assert 0 < segments.detected_row[near] - segments.last_row[near] <= 21


def test_segments_detected_by_a_date_do_not_move_when_the_future_is_replaced() -> None:
    rows = planted_rows(n_assets=3, n_days=220, n_features=4, seed=4)
    whole = find_segments(rows, 30)
    for cut in (60, 120, 180):
        changed = find_segments(poisoned(rows, cut), 30)
        for name in ("first_row", "last_row", "detected_row"):
            early = rows.date_index[whole.detected_row] < cut
            late = rows.date_index[changed.detected_row] < cut
            np.testing.assert_array_equal(getattr(whole, name)[early], getattr(changed, name)[late])


def test_a_segment_context_counts_from_its_detection() -> None:
    rows = regime_rows()
    segments = find_segments(rows, 63)
    found = context_candidates(rows, np.ones(len(rows), bool), 63, "segment")
    by_last = dict(zip(segments.last_row, segments.detected_row, strict=True))
    for index, available in zip(found.index, found.available, strict=True):
        assert available >= rows.date_index[by_last[index[-1]]]
        assert available >= rows.date_index[index[-1]] + 2
        steps = index[index != PADDING]
        assert (np.diff(steps) == 1).all()
