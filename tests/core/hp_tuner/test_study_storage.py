"""The study database: how SQLite is opened, a real Postgres, dead hosts, and what was tried."""

import json
import sqlite3
from collections.abc import Iterator

import pytest
import toy_objectives as toys
from sqlalchemy import text
from test_tuner_workers import run, states, tuner, wait_for_state

from tests.support.postgres import postgres_server
from tft_core.hp_tuner import HPTuner, TunerConfig, finished_trials
from tft_core.hp_tuner.storage import SQLITE_TIMEOUT_SECONDS, open_storage


def test_sqlite_is_in_wal_mode_and_waits_a_minute_for_a_lock(tmp_path):
    url = f"sqlite:///{tmp_path / 'deep' / 'studies.db'}"
    storage = open_storage(url, heartbeat_seconds=5)
    with storage.engine.connect() as db:
        assert db.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert db.execute(text("PRAGMA busy_timeout")).scalar() == 60_000
    assert SQLITE_TIMEOUT_SECONDS == 60
    assert (storage.get_heartbeat_interval(), storage.grace_period) == (5, 10)


@pytest.mark.parametrize("ever_beat", [True, False])
def test_the_trial_of_a_host_that_died_is_taken_up_when_its_heartbeat_stops(tmp_path, ever_beat):
    """Nobody here can see its process, so only its silence tells: since a beat, or from birth."""
    import multiprocessing as mp
    from functools import partial

    slow = partial(toys.build_slow_hill, 0.25)
    victim = mp.get_context("spawn").Process(target=run, args=(tmp_path, slow, {}))
    victim.start()
    wait_for_state(tmp_path, "COMPLETE")
    wait_for_state(tmp_path, "RUNNING")
    victim.kill()
    victim.join()
    with sqlite3.connect(tmp_path / "studies.db") as db:
        rows = db.execute(
            "SELECT trial_user_attribute_id, value_json FROM trial_user_attributes "
            "JOIN trials USING (trial_id) WHERE state = 'RUNNING' AND key = 'worker'"
        ).fetchall()
        assert len(rows) == 1
        elsewhere = json.loads(rows[0][1]) | {"host": "another-machine"}
        db.execute(
            "UPDATE trial_user_attributes SET value_json = ? WHERE trial_user_attribute_id = ?",
            (json.dumps(elsewhere), rows[0][0]),
        )
        beats = db.execute("SELECT COUNT(*) FROM trial_heartbeats").fetchone()[0]
        assert beats >= 1  # recorded with the claim itself
        if not ever_beat:
            db.execute("DELETE FROM trial_heartbeats")
    result = tuner(tmp_path, toys.build_hill).tune()
    assert result.n_finished == 6
    assert result.trials["attempts"].sum() == 7
    assert set(states(tmp_path)) <= {"COMPLETE", "PRUNED", "FAIL"}


def test_the_census_counts_studies_that_were_left_behind_and_no_trial_twice(tmp_path):
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    assert finished_trials(url) == {}
    first = tuner(tmp_path, toys.build_hill, n_trials=5).tune()
    second = tuner(tmp_path, toys.build_hill, n_trials=3, seed=7).tune()  # another meaning
    tuner(tmp_path, toys.build_hill, n_trials=6).tune()  # the first one goes on
    found = finished_trials(url)
    assert {name: len(frame) for name, frame in found.items()} == {
        first.study_name: 6,
        second.study_name: 3,
    }
    counted = found[second.study_name]
    assert list(counted["value"]) == pytest.approx(list(second.trials["value"]), nan_ok=True)
    assert list(counted["params_lr"]) == list(second.trials["params_lr"])
    assert finished_trials(url, "other-") == {}


def test_trials_of_a_study_that_was_killed_are_in_the_census(tmp_path):
    import multiprocessing as mp
    from functools import partial

    slow = partial(toys.build_slow_hill, 0.25)
    victim = mp.get_context("spawn").Process(target=run, args=(tmp_path, slow, {"n_trials": 40}))
    victim.start()
    wait_for_state(tmp_path, "COMPLETE")
    victim.kill()
    victim.join()
    (frame,) = finished_trials(f"sqlite:///{tmp_path / 'studies.db'}").values()
    done = states(tmp_path)
    assert len(frame) == done.get("COMPLETE", 0) + done.get("PRUNED", 0) >= 1


# -- Postgres ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of an empty database."""
    with postgres_server("studies") as server:
        yield f"postgresql+psycopg2://{server.address('studies')}"


def on_postgres(url: str, builder, **changes) -> HPTuner:
    config = TunerConfig(**{"n_trials": 8, "space": toys.SPACE, "heartbeat_seconds": 1, **changes})
    return HPTuner(config, builder, url, "toy", defaults=toys.DEFAULTS)


def test_postgres_gives_the_trials_that_sqlite_gives(postgres, tmp_path):
    on_server = on_postgres(postgres, toys.build_hill, seed=1).tune()
    on_disk = tuner(tmp_path, toys.build_hill, n_trials=8, seed=1).tune()
    kept = ["number", "state", "value", "params_lr", "params_d_hidden", "pruned_reason"]
    assert on_server.trials[kept].equals(on_disk.trials[kept])
    assert on_server.daily.equals(on_disk.daily)  # to the bit, through the server
    assert len(finished_trials(postgres)[on_server.study_name]) == 8


def test_workers_share_a_study_on_postgres_though_one_is_killed(postgres, tmp_path):
    from functools import partial

    marker = tmp_path / "kill_once"
    marker.touch()
    builder = partial(toys.build_deadly_hill, marker)
    result = on_postgres(postgres, builder, seed=2, n_jobs=2).tune()
    assert not marker.exists()
    assert result.n_finished == 8 and list(result.trials["number"]) == list(range(8))
    import sqlalchemy

    engine = sqlalchemy.create_engine(postgres)
    with engine.connect() as db:
        running = db.execute(text("SELECT COUNT(*) FROM trials WHERE state = 'RUNNING'")).scalar()
    engine.dispose()
    assert running == 0


@pytest.mark.slow
def test_eight_workers_share_a_study_on_postgres(postgres):
    result = on_postgres(postgres, toys.build_hill, seed=3, n_jobs=8, n_trials=40).tune()
    assert result.n_finished == 40
