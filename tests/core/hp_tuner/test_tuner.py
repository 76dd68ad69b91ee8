"""One worker: objective, pruning, budget, resume, names, repeatability."""

import json
import math
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import toy_objectives as toys

from tft_core.errors import TuningError
from tft_core.hp_tuner import DailyRecord, HPTuner, TunerConfig
from tft_core.metrics import sharpe_se_ann


def tuner(folder: Path, builder=toys.build_hill, *, identity=None, **changes) -> HPTuner:
    config = TunerConfig(**{"n_trials": 6, "space": toys.SPACE, **changes})
    url = f"sqlite:///{folder / 'studies.db'}"
    return HPTuner(config, builder, url, "toy", defaults=toys.DEFAULTS, identity=identity)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of 14 trials, shared by the tests that only read it."""
    calls: list[tuple[int, int, float, float]] = []
    result = tuner(tmp_path_factory.mktemp("study"), n_trials=14).tune(
        lambda *call: calls.append(call)
    )
    return result, calls


def params_of(trials: pd.DataFrame) -> pd.DataFrame:
    return trials.filter(like="params_")


def test_a_small_budget_completes(study):
    result, _ = study
    assert result.n_finished == 14 and len(result.trials) == 14
    assert list(result.trials["number"]) == list(range(14))
    assert result.budget.kind == "trials" and result.budget.spent
    assert "All 14 trials are finished" in result.budget.sentence


def test_the_default_configuration_is_trial_0(study):
    result, _ = study
    first = result.trials.iloc[0]
    assert first["state"] == "complete"
    assert (first["params_lr"], first["params_d_hidden"]) == (1e-3, 16)
    assert math.isnan(first["params_mle_weight"])  # its loss has none
    assert result.default_params == {"d_hidden": 16, "lr": 1e-3, "loss_mode": "sharpe"}
    assert result.default_value == first["value"]


def test_the_study_finds_the_hill(study):
    result, _ = study
    # the hill's top is at 3e-3, the default at 1e-3, e^1.1 away
    assert abs(math.log(result.best_params["lr"] / 3e-3)) < 0.7
    assert result.best_value > result.default_value


def test_the_objective_is_the_pooled_sharpe_less_half_its_standard_error(study):
    result, _ = study
    row = result.trials.iloc[0]
    returns = result.daily[0].to_numpy()
    sharpe = np.mean(returns) / np.std(returns, ddof=1) * np.sqrt(252)
    assert row["sharpe"] == pytest.approx(sharpe, rel=1e-12)
    assert row["value"] == pytest.approx(sharpe - 0.5 * sharpe_se_ann(returns), rel=1e-12)


def test_daily_returns_of_every_trial_are_kept(study):
    result, _ = study
    assert result.daily.shape == (3 * toys.FOLD_DAYS, 14)
    assert result.daily.index.equals(pd.DatetimeIndex(np.concatenate(
        [toys.fold_dates(f) for f in range(3)])))  # fmt: skip
    expected = np.concatenate([toys.hill({"lr": 1e-3}, f, 42).net for f in range(3)])
    np.testing.assert_array_equal(result.daily[0].to_numpy(), expected)  # to the bit, through SQL


def test_a_lagging_trial_is_pruned_after_two_folds_with_a_reason(study):
    result, _ = study
    pruned = result.trials[result.trials["state"] == "pruned"]
    assert len(pruned) == result.n_pruned > 0
    for _, row in pruned.iterrows():
        assert "after 2 of 3 inner folds lies below the median" in row["pruned_reason"]
        assert math.isnan(row["value"]) and math.isnan(row["sharpe_fold_2"])
        assert row["optimiser_steps"] == 10
        assert result.daily[row["number"]].isna().sum() == toys.FOLD_DAYS
        # the median rule, recomputed from the complete trials before it
        before = result.trials[
            (result.trials["number"] < row["number"]) & (result.trials["state"] == "complete")
        ]
        means = before[["sharpe_fold_0", "sharpe_fold_1"]].mean(axis=1)
        assert len(before) >= 4
        assert row[["sharpe_fold_0", "sharpe_fold_1"]].mean() < means.median()


def test_progress_names_each_trial_once_with_the_best_so_far(study):
    result, calls = study
    assert [call[:2] for call in calls] == [(n, 14) for n in range(14)]
    best = np.fmax.accumulate(result.trials["value"].to_numpy())
    np.testing.assert_array_equal([call[3] for call in calls], best)


def test_a_result_goes_into_json(study):
    result, _ = study
    back = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert back["best_params"] == result.best_params
    assert back["trials"][0]["params_mle_weight"] is None
    assert back["optimiser_steps"] == result.trials["optimiser_steps"].sum()


def test_one_worker_and_one_seed_give_the_same_trials_resumed_or_not(study, tmp_path):
    whole, _ = study
    half = tuner(tmp_path, n_trials=7).tune()
    assert half.n_finished == 7
    resumed = tuner(tmp_path, n_trials=14).tune()
    pd.testing.assert_frame_equal(
        resumed.trials.drop(columns="seconds"), whole.trials.drop(columns="seconds")
    )
    pd.testing.assert_frame_equal(resumed.daily, whole.daily)


def test_a_finished_study_runs_nothing_more(tmp_path):
    first = tuner(tmp_path, n_trials=2).tune()
    started = time.monotonic()
    again = tuner(tmp_path, partial(toys.build_slow_hill, 60.0), n_trials=2).tune()
    assert time.monotonic() - started < 30
    pd.testing.assert_frame_equal(again.trials, first.trials)


def test_another_seed_gives_other_trials(tmp_path):
    one, other = (tuner(tmp_path, seed=seed, n_trials=3).tune() for seed in (42, 43))
    assert one.study_name != other.study_name
    assert not params_of(one.trials).equals(params_of(other.trials))


@pytest.mark.parametrize(
    "changed",
    [
        {"space": {**toys.SPACE, "d_hidden": [8, 16]}},
        {"identity": {"features": ["a", "c"], "data": "1f"}},
        {"identity": {"features": ["a", "b"], "data": "20"}},
        {"se_penalty": 1.0},
        {"finetune_epochs": 26},
    ],
)
def test_a_changed_meaning_opens_a_new_study(tmp_path, changed):
    same = {"identity": {"features": ["a", "b"], "data": "1f"}}
    assert tuner(tmp_path, **same).study_name != tuner(tmp_path, **{**same, **changed}).study_name


def test_a_changed_budget_keeps_the_study(tmp_path):
    names = {
        tuner(tmp_path, **changes).study_name
        for changes in ({}, {"n_trials": 9}, {"n_jobs": 2}, {"timeout_seconds": None})
    }
    assert len(names) == 1


def test_time_that_runs_out_keeps_the_default_and_is_said(tmp_path):
    hurried = tuner(
        tmp_path, partial(toys.build_slow_hill, 0.05), n_trials=50, timeout_seconds=0.4
    ).tune()
    assert 1 <= hurried.n_finished < 50
    assert hurried.trials.iloc[0]["state"] == "complete"
    assert hurried.budget.kind == "time" and not hurried.budget.spent
    assert f"after {hurried.n_finished} of 50 trials" in hurried.budget.sentence
    resumed = tuner(tmp_path, n_trials=8).tune()  # what was begun is gone on with
    assert resumed.n_finished == 8
    n_both = min(hurried.n_finished, 8)
    assert hurried.trials["params_lr"][:n_both].equals(resumed.trials["params_lr"][:n_both])


def test_time_alone_can_be_the_budget(tmp_path):
    slow = partial(toys.build_slow_hill, 0.05)
    timed = tuner(tmp_path, slow, n_trials=math.inf, timeout_seconds=0.8).tune()
    assert timed.n_finished >= 1
    assert timed.budget.kind == "time" and timed.budget.spent  # nothing is left of it
    assert f"after {timed.n_finished} trials" in timed.budget.sentence
    again = tuner(tmp_path, slow, n_trials=math.inf, timeout_seconds=0.8).tune()
    assert again.n_finished > timed.n_finished


def test_a_study_that_is_only_looked_at_claims_no_limit(tmp_path):
    hurried = tuner(tmp_path, partial(toys.build_slow_hill, 0.05), n_trials=50, timeout_seconds=0.4)
    n = hurried.tune().n_finished
    budget = hurried.result().budget
    assert (budget.kind, budget.spent) == ("none", False)
    assert budget.sentence.startswith(f"{n} of 50 trials are finished so far")


def test_seeds_are_averaged_and_enter_the_daily_record(tmp_path):
    result = tuner(tmp_path, n_trials=1, n_seeds_per_trial=2).tune()
    per_seed = [
        np.concatenate([toys.hill({"lr": 1e-3}, f, seed).net for f in range(3)])
        for seed in (42, 43)
    ]
    sharpes = [np.mean(r) / np.std(r, ddof=1) * np.sqrt(252) for r in per_seed]
    assert result.best_sharpe == pytest.approx(np.mean(sharpes), rel=1e-12)
    np.testing.assert_allclose(result.daily[0], np.mean(per_seed, axis=0), rtol=1e-12)


def test_training_that_diverges_prunes_the_trial_and_not_the_study(tmp_path):
    result = tuner(tmp_path, toys.build_diverging, n_trials=6).tune()
    narrow = result.trials[result.trials["params_d_hidden"] == 8]
    assert len(narrow) and set(narrow["state"]) == {"pruned"}
    assert narrow["pruned_reason"].str.contains("found nan in epoch 2").all()
    assert result.n_finished == 6


def test_a_default_that_never_trades_has_an_undefined_value(tmp_path):
    result = tuner(tmp_path, toys.build_flat, n_trials=6).tune()
    assert math.isnan(result.default_value) and math.isnan(result.default_sharpe)
    assert "never traded" in result.trials.iloc[0]["pruned_reason"]
    assert result.best_params["d_hidden"] == 8


def test_a_study_in_which_nothing_trades_is_refused(tmp_path):
    with pytest.raises(TuningError, match="3 finished and none complete; reasons: undefined"):
        tuner(tmp_path, toys.build_flat, n_trials=3, space={"d_hidden": [16, 32]}, seed=1).tune()


def test_dates_that_depend_on_the_parameters_are_refused(tmp_path):
    with pytest.raises(TuningError, match=r"same dates in every trial .*28 days\), found"):
        tuner(tmp_path, toys.build_uneven, space={"d_hidden": [8, 16, 32]}, n_trials=8).tune()


def test_an_error_of_the_objective_is_raised_and_the_trial_can_be_run_again(tmp_path):
    with pytest.raises(KeyError, match="px_ret_1d"):
        tuner(tmp_path, toys.build_broken).tune()
    assert tuner(tmp_path, n_trials=2).tune().n_finished == 2


def test_reading_a_study_that_was_never_run_is_refused(tmp_path):
    with pytest.raises(TuningError, match="found no database"):
        tuner(tmp_path).result()
    tuner(tmp_path, seed=1, n_trials=1).tune()
    with pytest.raises(TuningError, match="found none; run tune"):
        tuner(tmp_path).result()


def test_five_folds_are_pruned_by_signed_ranks(tmp_path):
    result = tuner(tmp_path, n_trials=7, n_folds_per_trial=5).tune()
    reasons = result.trials["pruned_reason"].dropna()
    assert result.n_finished == 7 and len(reasons)
    assert reasons.str.contains("Wilcoxon signed rank").all()


@pytest.mark.parametrize(
    ("dates", "net", "message"),
    [
        (toys.fold_dates(0), np.zeros(3), "30 dates and 3 returns"),
        (toys.fold_dates(0)[::-1], np.zeros(30), "found them out of order"),
        (toys.fold_dates(0)[:2], np.array([0.1, np.nan]), "found NaN on 2020-01-02"),
    ],
)
def test_a_malformed_record_is_refused(dates, net, message):
    with pytest.raises(TuningError, match=message):
        DailyRecord(dates, net, 1)
