"""Several workers and killed ones: the study ends with exactly its trials."""

import multiprocessing as mp
import os
import random
import signal
import sqlite3
import time
from functools import partial
from pathlib import Path

import pytest
import toy_objectives as toys

from tft_core.errors import ConfigError, TuningError
from tft_core.hp_tuner import HPTuner, TunerConfig


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


def test_a_trial_that_kills_every_worker_is_given_up(tmp_path):
    result = tuner(
        tmp_path, toys.build_lethal, n_jobs=2, n_trials=3, space={"d_hidden": [16, 32]}, seed=5
    ).tune()
    wide = result.trials[result.trials["params_d_hidden"] == 32]
    assert len(wide) and set(wide["state"]) == {"pruned"}
    assert wide["pruned_reason"].str.contains("its worker died 3 times in inner fold 0").all()
    assert result.n_finished == 3


def test_an_error_in_a_worker_is_raised_with_its_words(tmp_path):
    with pytest.raises(TuningError, match="no such column: px_ret_1d"):
        tuner(tmp_path, toys.build_broken, n_jobs=2).tune()
    assert "RUNNING" not in states(tmp_path)


def test_an_objective_that_cannot_travel_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must be importable .* when n_jobs > 1"):
        tuner(tmp_path, lambda: toys.hill, n_jobs=2).tune()


@pytest.mark.slow
def test_twenty_kills_leave_forty_finished_trials_and_none_running(tmp_path):
    slow = partial(toys.build_slow_hill, 0.4)
    context, luck = mp.get_context("spawn"), random.Random(7)
    parent = context.Process(target=run, args=(tmp_path, slow, {"n_jobs": 2, "n_trials": 40}))
    parent.start()
    wait_for_state(tmp_path, "RUNNING")
    kills = 0
    while parent.is_alive() and kills < 20:
        time.sleep(0.5 + luck.random())
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        workers = [c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
        if workers:
            os.kill(int(luck.choice(workers)), signal.SIGKILL)
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
