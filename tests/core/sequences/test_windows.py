import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_tables import planted_rows

from tft_core.errors import ConfigError, TrainingError
from tft_core.sequences import (
    PADDING,
    epoch_windows,
    first_loss_date,
    minibatches,
    window_index,
)


def test_a_window_ends_at_its_row_and_is_padded_before_the_assets_start() -> None:
    rows = planted_rows(n_assets=2, n_days=5, n_features=4)
    index = window_index(rows, np.array([1, 4, 6]), 4)
    assert index.tolist() == [[-1, -1, 0, 1], [1, 2, 3, 4], [-1, -1, 5, 6]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    length=st.integers(2, 30),
    data=st.data(),
)
def test_every_loss_row_bears_loss_exactly_once(seed: int, length: int, data) -> None:
    warmup = data.draw(st.integers(0, length - 1))
    stride = data.draw(st.none() | st.integers(1, length - warmup))
    rng = np.random.default_rng(seed)
    rows = planted_rows(n_assets=3, n_days=40, n_features=4, late={1: 17, 2: 39})
    loss_rows = rng.random(len(rows)) < rng.random()
    index, bears_loss = epoch_windows(rows, loss_rows, length, warmup, rng, stride)
    counted = np.bincount(index[bears_loss], minlength=len(rows))
    np.testing.assert_array_equal(counted, loss_rows.astype(int))
    if len(index):
        # a window is consecutive rows of one asset and ends at a loss row
        assert loss_rows[index[:, -1]].all()
        real = index != PADDING
        assert (rows.asset_id[index[:, -1]][:, None].repeat(length, 1)[real]
                == rows.asset_id[index[real]]).all()  # fmt: skip
        assert (np.diff(index, axis=1)[real[:, :-1]] == 1).all()
        # warm-up steps bear loss only where no earlier row could warm up the window
        assert not (bears_loss[:, :warmup]).any()


def test_no_window_reaches_past_the_last_loss_row() -> None:
    rows = planted_rows(n_assets=2, n_days=60, n_features=4)
    loss_rows = rows.date_index < 33
    for seed in range(20):
        index, _ = epoch_windows(rows, loss_rows, 12, 4, np.random.default_rng(seed))
        assert rows.date_index[index[index >= 0]].max() < 33


def test_the_first_loss_date_is_that_of_the_first_loss_bearing_step() -> None:
    rows = planted_rows(n_assets=2, n_days=9, n_features=4)
    index = np.array([[-1, 0, 1, 2], [12, 13, 14, 15]])
    bears_loss = np.array([[False, True, True, True], [False, False, True, True]])
    assert first_loss_date(rows, index, bears_loss).tolist() == [0, 5]


def test_a_tile_longer_than_the_window_allows_is_refused() -> None:
    rows = planted_rows(n_assets=1, n_days=9, n_features=4)
    with pytest.raises(ConfigError, match=r"stride must lie in \[1, 3\].*found 4"):
        epoch_windows(rows, np.ones(9, bool), 5, 2, np.random.default_rng(0), 4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 12), st.integers(12, 120))
def test_minibatches_hold_every_window_once_and_are_enough(
    seed: int, batch_size: int, min_steps: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    bears_loss = rng.random((n, 6)) < 0.7
    bears_loss[:, -1] = True
    if bears_loss.sum() < 2 * max(min_steps, -(-n // batch_size)):
        return
    parts = minibatches(bears_loss, batch_size, min_steps, rng)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    assert all(bears_loss[part].sum() >= 2 for part in parts)


def test_an_epoch_has_the_least_number_of_steps_when_windows_allow() -> None:
    bears_loss = np.ones((40, 5), bool)
    parts = minibatches(bears_loss, 32, 16, np.random.default_rng(0))
    assert len(parts) == 16
    assert max(map(len, parts)) == 3


def test_too_few_windows_for_an_epochs_steps_are_refused() -> None:
    with pytest.raises(TrainingError, match="at least 16 windows and 32 loss rows, found 10"):
        minibatches(np.ones((10, 5), bool), 32, 16, np.random.default_rng(0))
