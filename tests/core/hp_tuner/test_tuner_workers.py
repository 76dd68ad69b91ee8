"""Several workers and killed ones: the study ends with exactly its trials."""

import json
import multiprocessing as mp
import os
import random
import signal
import sqlite3
import time
from functools import partial
from pathlib import Path

import optuna
import pytest
import toy_objectives as toys
from optuna.trial import TrialState

from tft_core.errors import ConfigError, TuningError
from tft_core.hp_tuner import HPTuner, TunerConfig
from tft_core.hp_tuner.objective import fold_key
from tft_core.hp_tuner.queue import take_up_again
from tft_core.hp_tuner.storage import is_known_dead


def tuner(folder: Path, builder, **changes) -> HPTuner:
    config = TunerConfig(**{"n_trials": 6, "space": toys.SPACE, "heartbeat_seconds": 1, **changes})
    url = f"sqlite:///{folder / 'studies.db'}"
    return HPTuner(config, builder, url, "toy", defaults=toys.DEFAULTS)


def run(folder: Path, builder, changes: dict) -> None:
    """Target of a process that is killed from outside."""
    tuner(folder, builder, **changes).tune()


def states(folder: Path) -> dict[str, int]:
    with sqlite3.connect(folder / "studies.db") as db:
        return dict(db.execute("SELECT state, COUNT(*) FROM trials GROUP BY state"))


def running_workers(folder: Path) -> list[int]:
    """Process ids of living workers that hold a trial."""
    with sqlite3.connect(folder / "studies.db") as db:
        rows = db.execute(
            "SELECT value_json FROM trial_user_attributes JOIN trials USING (trial_id) "
            "WHERE state = 'RUNNING' AND key = 'worker'"
        ).fetchall()
    workers = [json.loads(text) for (text,) in rows]
    return [worker["pid"] for worker in workers if not is_known_dead(worker)]


def wait_for_state(folder: Path, state: str, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            if states(folder).get(state):
                return
        except sqlite3.OperationalError:  # not created yet
            pass
        time.sleep(0.02)
    raise AssertionError(f"no trial became {state}")


def test_a_study_survives_the_kill_of_its_process_as_if_nothing_had_been(tmp_path):
    (tmp_path / "undisturbed").mkdir()
    expected = tuner(tmp_path / "undisturbed", toys.build_hill).tune()
    slow = partial(toys.build_slow_hill, 0.25)
    victim = mp.get_context("spawn").Process(target=run, args=(tmp_path, slow, {}))
    victim.start()
    wait_for_state(tmp_path, "COMPLETE")
    wait_for_state(tmp_path, "RUNNING")
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    assert states(tmp_path).get("RUNNING") == 1
    result = tuner(tmp_path, toys.build_hill).tune()
    kept = ["number", "state", "value", "params_lr", "params_d_hidden", "pruned_reason"]
    assert result.trials[kept].equals(expected.trials[kept])
    assert result.trials["attempts"].sum() == 7
    assert set(states(tmp_path)) <= {"COMPLETE", "PRUNED", "FAIL"}


def test_two_workers_share_a_study_though_one_is_killed(tmp_path):
    marker = tmp_path / "kill_once"
    marker.touch()
    calls: list[int] = []
    result = tuner(tmp_path, partial(toys.build_deadly_hill, marker), n_jobs=2, n_trials=8).tune(
        lambda number, *_: calls.append(number)
    )
    assert not marker.exists()
    assert result.n_finished == 8 and list(result.trials["number"]) == list(range(8))
    assert result.trials["attempts"].sum() == 9
    assert sorted(calls) == list(range(8))
    found = states(tmp_path)
    assert found.pop("FAIL") == 1
    assert set(found) <= {"COMPLETE", "PRUNED"} and sum(found.values()) == 8


@pytest.mark.parametrize(
    ("folds_at_death", "state"),
    [((0, 1, 1, 2), TrialState.WAITING), ((1, 2, 2, 2), TrialState.PRUNED)],
)
def test_a_trial_is_given_up_after_three_deaths_in_one_fold(folds_at_death, state):
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({}, user_attrs={"slot": 4, "params": {}})
    for n_folds in folds_at_death:
        trial = study.ask()
        for fold in range(n_folds):
            trial.set_user_attr(fold_key(fold), {"net": [[0.1]]})
        study.tell(trial, state=TrialState.FAIL)
        take_up_again(study, study.trials[trial.number], died=True)
    last = study.trials[-1]
    assert last.state == state and last.user_attrs["slot"] == 4
    assert fold_key(1) in last.user_attrs  # it goes on where it stopped
    given_up = "given up: its worker died 3 times in inner fold 2"
    expected = given_up if state == TrialState.PRUNED else None
    assert last.user_attrs.get("pruned_reason") == expected


def test_an_error_in_a_worker_is_raised_with_its_words(tmp_path):
    with pytest.raises(TuningError, match="no such column: px_ret_1d"):
        tuner(tmp_path, toys.build_broken, n_jobs=2).tune()
    assert "RUNNING" not in states(tmp_path)


def test_an_objective_that_cannot_travel_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must be importable .* when n_jobs > 1"):
        tuner(tmp_path, lambda: toys.hill, n_jobs=2).tune()


@pytest.mark.slow
def test_a_trial_that_kills_every_worker_is_given_up(tmp_path):
    result = tuner(
        tmp_path, toys.build_lethal, n_jobs=2, n_trials=3, space={"d_hidden": [16, 32]}, seed=5
    ).tune()
    wide = result.trials[result.trials["params_d_hidden"] == 32]
    assert len(wide) and set(wide["state"]) == {"pruned"}
    assert wide["pruned_reason"].str.contains("its worker died 3 times in inner fold 0").all()
    assert result.n_finished == 3


@pytest.mark.slow
def test_twenty_kills_leave_forty_finished_trials_and_none_running(tmp_path):
    slow = partial(toys.build_slow_hill, 0.4)
    context, luck = mp.get_context("spawn"), random.Random(7)
    parent = context.Process(target=run, args=(tmp_path, slow, {"n_jobs": 2, "n_trials": 40}))
    parent.start()
    kills = 0
    while parent.is_alive() and kills < 20:
        time.sleep(1.5 * luck.random())
        wait_for_state(tmp_path, "RUNNING")
        for pid in running_workers(tmp_path)[:1]:
            os.kill(pid, signal.SIGKILL)
            kills += 1
    parent.join()
    assert kills == 20 and parent.exitcode == 0
    result = tuner(tmp_path, slow, n_trials=40).result()
    assert result.n_finished == 40
    found = states(tmp_path)
    assert found["COMPLETE"] + found["PRUNED"] == 40 and "RUNNING" not in found
    assert result.best_value == result.trials["value"].max()


@pytest.mark.slow
def test_eight_workers_share_a_study_without_an_error(tmp_path):
    result = tuner(tmp_path, toys.build_hill, n_jobs=8, n_trials=40).tune()
    assert result.n_finished == 40
    assert states(tmp_path).get("FAIL", 0) == 0
