"""A home with a small market, and a Dagster instance that lives as long as one test.

Both are empty, unless a test asks for ``finished``: then they hold everything that one command
builds, with Dagster's record of it. That is built once; each test goes on from a copy of its own.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import (
    InProcessTestWorkspaceLoadTarget,
    create_test_daemon_workspace_context,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from fake_workspace import Home

from tft_assets.build import build_defs

HERE = Path(__file__).parent
DAYS = ("2021-06-01", "2022-06-01", "2023-06-01", "2024-06-01", "2025-02-03")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("TFT_EXECUTOR", raising=False)
    made = Home(tmp_path)
    made.set_market(*DAYS)
    return made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@dataclass(frozen=True)
class OneCommand:
    """A home and an instance after ``production_checkpoint`` was materialized from nothing."""

    home: Path
    instance: dg.DagsterInstance
    result: dg.ExecuteInProcessResult


@pytest.fixture(scope="session")
def one_command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneCommand]:
    """Built once; nobody may change it."""
    home = Home(tmp_path_factory.mktemp("one_command"))
    home.set_market(*DAYS)
    with pytest.MonkeyPatch.context() as environ, dg.DagsterInstance.ephemeral() as instance:
        environ.delenv("TFT_EXECUTOR", raising=False)
        job = build_defs(home.resources()).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            asset_selection=[dg.AssetKey("production_checkpoint")], instance=instance
        )
        yield OneCommand(home.path, instance, result)


@pytest.fixture
def finished(
    one_command: OneCommand, home: Home, instance: dg.DagsterInstance
) -> dg.ExecuteInProcessResult:
    """``home`` and ``instance`` hold a copy of all that one command built; its run."""
    shutil.copytree(one_command.home, home.path, dirs_exist_ok=True)
    for storage in ("run_storage", "event_log_storage"):
        theirs, ours = (  # each an SQLite in memory
            getattr(i, storage)._held_conn.connection.driver_connection
            for i in (one_command.instance, instance)
        )
        theirs.backup(ours)
    return one_command.result


@pytest.fixture
def daemon(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkspaceProcessContext]:
    """A daemon's view of the fake location; runs are executed at once, in this process."""
    home.sections["folds"]["n_windows"] = 2  # two windows and live: as short as a plan can be
    monkeypatch.setenv("TFT_EXECUTOR", "in_process")
    monkeypatch.setenv("FAKE_HOME", str(home.path))
    monkeypatch.setenv("FAKE_SECTIONS", json.dumps(home.sections))
    monkeypatch.delitem(sys.modules, "fake_location", raising=False)  # another test's home
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(
            executable_path=sys.executable,
            python_file=str(HERE / "fake_location.py"),
            working_directory=str(HERE),
            attribute="defs",
        ),
        location_name="tft",
    )
    with (
        dg.instance_for_test(
            synchronous_run_launcher=True, synchronous_run_coordinator=True
        ) as instance,
        create_test_daemon_workspace_context(
            InProcessTestWorkspaceLoadTarget(origin), instance
        ) as made,
    ):
        yield made
