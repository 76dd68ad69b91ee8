"""A home with a small market, and a Dagster instance that lives as long as one test."""

import json
import sys
from collections.abc import Iterator
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

HERE = Path(__file__).parent


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("TFT_EXECUTOR", raising=False)
    made = Home(tmp_path)
    made.set_market("2021-06-01", "2022-06-01", "2023-06-01", "2024-06-01", "2025-02-03")
    return made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


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
