"""Inner folds: newest part of the training window, purged, never at the start."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tft_core.errors import ConfigError, FoldError
from tft_core.hp_tuner import inner_folds


def test_three_folds_of_63_tile_the_newest_189_sessions():
    folds = inner_folds(500, n_folds=3, test_sessions=63, purge=5, val_fraction=0.2)
    np.testing.assert_array_equal(np.concatenate([f.test for f in folds]), np.arange(311, 500))
    first = folds[0]
    assert (first.train[0], first.train[-1]) == (0, 305)  # 311 - 5 - 1
    assert (first.validation[0], first.validation[-1]) == (245, 305)  # newest 61 of 306
    assert first.fit[-1] == 239  # 245 - 5 - 1


@given(
    n_sessions=st.integers(100, 900),
    n_folds=st.integers(1, 6),
    test_sessions=st.integers(10, 70),
    purge=st.integers(2, 10),
    val_fraction=st.floats(0.05, 0.5),
)
def test_no_label_of_training_reaches_into_validation_or_test(
    n_sessions, n_folds, test_sessions, purge, val_fraction
):
    if n_sessions - n_folds * test_sessions - purge < 60:
        return
    folds = inner_folds(
        n_sessions,
        n_folds=n_folds,
        test_sessions=test_sessions,
        purge=purge,
        val_fraction=val_fraction,
    )
    tests = np.concatenate([fold.test for fold in folds])
    np.testing.assert_array_equal(tests, np.arange(n_sessions - len(tests), n_sessions))
    for fold in folds:
        assert len(fold.fit) and len(fold.validation)
        # a label of session t ends at the close of t + 2
        assert fold.fit[-1] + 2 < fold.validation[0]
        assert fold.train[-1] + 2 < fold.test[0]
        assert fold.validation[-1] == fold.train[-1]


def test_sessions_that_come_later_do_not_move_the_cut_relative_to_the_end():
    short = inner_folds(400, n_folds=2, test_sessions=50, purge=3)
    long = inner_folds(450, n_folds=3, test_sessions=50, purge=3)
    for old, new in zip(short, long, strict=False):
        for part in ("fit", "validation", "train", "test"):
            np.testing.assert_array_equal(getattr(old, part), getattr(new, part))


def test_a_window_too_short_for_its_folds_is_refused():
    with pytest.raises(FoldError, match="at least 254 sessions for 3 inner folds of 63, found 253"):
        inner_folds(253, n_folds=3, test_sessions=63, purge=5)


def test_a_purge_shorter_than_the_label_is_refused():
    with pytest.raises(ConfigError, match="at least 2, the label's horizon, found 1"):
        inner_folds(500, n_folds=3, test_sessions=63, purge=1)
