"""Dagster's storage in a real Postgres: runs, events and slots of a pool lie there alone.

The URL names psycopg2: SQLAlchemy 2.1 takes plain ``postgresql://`` for psycopg 3, which
dagster-postgres does not bring.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from fake_workspace import Home
from sqlalchemy import create_engine, text

from tests.support.postgres import postgres_server
from tft_assets.build import build_defs
from tft_assets.executors import GPU_POOL
from tft_assets.missing import needs
from tft_assets.runs import PROCESS_TAG, process_name, sweep_dead_runs

pytest.importorskip("dagster_postgres", reason="needs dagster-postgres: pip install '.[postgres]'")

ROOT = Path(__file__).parents[2]
FIRST = "2022-01-01"
URL_ENV = "DAGSTER_POSTGRES_URL"
STORAGE = {"storage": {"postgres": {"postgres_url": {"env": URL_ENV}}}}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres_server("dagster") as server:
        yield f"postgresql+psycopg2://{server.address('dagster')}"


@pytest.fixture
def instance(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """The project's own instance file with the line that its comment gives."""
    monkeypatch.setenv(URL_ENV, url)
    shipped = (ROOT / "dagster_home" / "dagster.yaml").read_text()
    storage = tmp_path / "dagster_home"
    storage.mkdir()
    (storage / "dagster.yaml").write_text(shipped + yaml.safe_dump(STORAGE))
    with dg.DagsterInstance.from_config(str(storage)) as made:
        yield made


def materialize(home: Home, instance: dg.DagsterInstance, *assets: str) -> dg.DagsterRun:
    job = build_defs(home.resources()).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey(name) for name in assets],
        partition_key=FIRST,
        instance=instance,
    )
    assert result.success
    return instance.get_run_by_id(result.run_id)


def test_the_instance_files_own_comment_names_that_storage() -> None:
    lines = (ROOT / "dagster_home" / "dagster.yaml").read_text().splitlines()
    (line,) = [line for line in lines if "postgres_url" in line]
    assert yaml.safe_load(line.lstrip("# ")) == STORAGE


def test_a_materialization_is_in_postgres_and_nowhere_else(
    home: Home, instance: dg.DagsterInstance, url: str, tmp_path: Path
) -> None:
    run = materialize(home, instance, "market_data", "mega_features")
    engine = create_engine(url)
    with engine.connect() as db:
        status = db.execute(
            text("SELECT status FROM runs WHERE run_id = :run"), {"run": run.run_id}
        ).scalar_one()
        events = db.execute(
            text(
                "SELECT partition FROM event_logs WHERE run_id = :run AND dagster_event_type = "
                "'ASSET_MATERIALIZATION'"
            ),
            {"run": run.run_id},
        ).scalars()
        assert (status, list(events)) == ("SUCCESS", [FIRST, FIRST])
    engine.dispose()
    assert list((tmp_path / "dagster_home").rglob("*.db")) == []  # no SQLite beside it
    defs = build_defs(home.resources())
    stale = needs(instance, defs, home.workspace(), "mega_features", [FIRST])
    assert stale == []  # what Dagster knows of freshness, it knows from there


def test_a_training_step_waits_for_its_slot_and_a_dead_runs_slot_is_given_back(
    home: Home, instance: dg.DagsterInstance
) -> None:
    made = materialize(home, instance, "market_data", "mega_features", "prefiltered_features")
    storage = instance.event_log_storage
    assert storage.supports_global_concurrency_limits
    storage.initialize_concurrency_limit_to_default(GPU_POOL)
    killed = instance.create_run_for_job(
        build_defs(home.resources()).resolve_job_def("live_fold"),
        status=dg.DagsterRunStatus.STARTED,
        tags={f"{PROCESS_TAG}/exploration_fold": dead_process()},
    )
    assert storage.claim_concurrency_slot(GPU_POOL, killed.run_id, "step").is_claimed
    assert not storage.claim_concurrency_slot(GPU_POOL, made.run_id, "step").is_claimed
    assert len(sweep_dead_runs(instance)) == 2  # the run ended, its slot freed
    assert storage.claim_concurrency_slot(GPU_POOL, made.run_id, "step").is_claimed
    storage.free_concurrency_slots_for_run(made.run_id)
    materialize(home, instance, "exploration_fold")  # takes the slot and gives it back
    info = storage.get_concurrency_info(GPU_POOL)
    assert (info.slot_count, info.active_slot_count, info.pending_step_count) == (1, 0, 0)


def dead_process() -> str:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        return process_name(child.pid)
