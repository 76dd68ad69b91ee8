"""Fold plan: keys from configuration alone, splits in time, nothing at or after test start."""

from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from tft_core.errors import ConfigError, FoldError
from tft_core.folds import FoldConfig, WalkForward, shift, split_sessions

CONFIG = FoldConfig(anchor=date(2020, 1, 1), test_length="12M", n_windows=3)


def test_keys_are_the_first_test_days_and_live():
    plan = WalkForward.from_config(CONFIG)
    assert plan.keys == ("2020-01-01", "2021-01-01", "2022-01-01", "live")
    assert plan.reported_keys == ("2020-01-01", "2021-01-01")


def test_feature_spans_tile_all_time_without_overlap():
    plan = WalkForward.from_config(CONFIG)
    spans = [plan.feature_span(key) for key in plan.keys]
    assert spans[0] == (None, date(2020, 1, 1))
    assert spans[-1] == (date(2022, 1, 1), None)
    assert all(a[1] == b[0] for a, b in pairwise(spans))


def test_one_more_window_leaves_every_older_fold_as_it_was():
    before = WalkForward.from_config(CONFIG)
    after = WalkForward.from_config(
        FoldConfig(anchor=date(2020, 1, 1), test_length="12M", n_windows=4)
    )
    for key in before.keys[:-1]:
        assert before.fold(key) == after.fold(key)
        assert before.upto(key) == after.upto(key)
        assert before.feature_span(key) == after.feature_span(key)


@pytest.mark.parametrize(
    ("length", "times", "expected"),
    [
        ("24M", 1, date(2022, 1, 1)),
        ("1Y", -1, date(2019, 1, 1)),
        ("2W", 1, date(2020, 1, 15)),
        ("10D", 1, date(2020, 1, 11)),
        ("3B", 1, date(2020, 1, 6)),
    ],
)
def test_lengths_are_calendar_arithmetic(length, times, expected):
    assert shift(date(2020, 1, 1), length, times) == expected


@pytest.mark.parametrize("length", ["", "M", "0M", "-3M", "12X", "1.5M"])
def test_a_length_that_is_none_is_refused_by_name(length):
    with pytest.raises(ConfigError, match="fold length must be a positive number"):
        shift(date(2020, 1, 1), length, 1)


def test_validation_is_the_newest_part_and_purges_lie_before_it_and_before_the_test():
    sessions = pd.bdate_range("2018-01-01", periods=500)
    fold = WalkForward.from_config(CONFIG).fold("2020-01-01")
    split = split_sessions(sessions, fold, CONFIG)
    assert split.train[-1] == 500 - 5 - 1
    assert split.validation[-1] == split.train[-1]
    assert split.validation[0] - split.fit[-1] == 5 + 1
    assert len(split.validation) == round(495 * 0.2)


def test_a_session_at_the_test_start_is_refused():
    sessions = pd.bdate_range("2018-01-01", "2020-01-01")
    fold = WalkForward.from_config(CONFIG).fold("2020-01-01")
    with pytest.raises(FoldError, match="must end before 2020-01-01, found 2020-01-01"):
        split_sessions(sessions, fold, CONFIG)


def test_too_little_history_is_an_error_that_says_how_little():
    sessions = pd.bdate_range("2019-06-01", periods=100)
    fold = WalkForward.from_config(CONFIG).fold("2020-01-01")
    with pytest.raises(FoldError, match=r"at least 120 training sessions.*found 95"):
        split_sessions(sessions, fold, CONFIG)


def test_a_purge_shorter_than_the_label_is_refused():
    with pytest.raises(ConfigError, match=r"purge_sessions must be at least 2.*found 1"):
        FoldConfig(purge_sessions=1)


def test_a_fold_key_that_does_not_exist_names_those_that_do():
    with pytest.raises(FoldError, match=r"one of 2020-01-01, .*live, found '1999-01-01'"):
        WalkForward.from_config(CONFIG).fold("1999-01-01")


def test_a_session_belongs_to_the_fold_whose_window_holds_it():
    plan = WalkForward.from_config(CONFIG)
    assert plan.fold_of_session(date(2021, 12, 31)).key == "2021-01-01"
    assert plan.fold_of_session(date(2022, 1, 1)).key == "2022-01-01"
    with pytest.raises(FoldError, match="must lie in a walk-forward window"):
        plan.fold_of_session(date(2023, 1, 1))


def test_rolling_training_windows_start_their_length_before_the_test():
    plan = WalkForward.from_config(
        FoldConfig(anchor=date(2020, 1, 1), test_length="12M", train_length="36M", n_windows=3)
    )
    assert plan.fold("2021-01-01").train_start == date(2018, 1, 1)
    assert plan.fold("live").train_start == date(2019, 1, 1)
    sessions = pd.bdate_range("2016-01-01", "2020-12-31")
    split = split_sessions(sessions, plan.fold("2021-01-01"), plan.config)
    assert sessions[split.train[0]] == pd.Timestamp("2018-01-01")
    assert np.array_equal(split.train[: len(split.fit)], split.fit)
