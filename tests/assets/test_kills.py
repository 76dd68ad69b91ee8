"""Killed with -9: the run is marked failed, its slot is freed, and the partition is made clean.

Real processes over the fake workspace: the command line, a step's worker inside a living run,
and the development server with all of its workers.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster_graphql import DagsterGraphQLClient
from fake_workspace import Home

from tests.support.ports import answers, free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
pytestmark = pytest.mark.slow  # processes that import everything: half a minute and more
ASSET, KEY = "exploration_fold", "2022-01-01"
LOCATION = ["-f", str(HERE / "fake_location.py"), "-d", str(HERE)]


@dataclass
class Deployment:
    """A Dagster instance of its own in which one step of the ``gpu`` pool waits at a gate."""

    home: Home
    environ: dict[str, str]
    gate: Path

    def dagster(self, *arguments: str) -> subprocess.Popen:
        with (self.home.path / "log.txt").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dagster", *arguments],
                env=self.environ,
                cwd=self.home.path,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def materialize(self) -> subprocess.Popen:
        return self.dagster(
            "asset", "materialize", *LOCATION, "--select", ASSET, "--partition", KEY
        )

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(self.environ["DAGSTER_HOME"])

    def worker(self) -> int:
        """Waits until the step is at the gate; the number of its process."""
        self.wait_until(lambda: self.gate.exists() and self.gate.read_text() != "", "the step")
        return int(self.gate.read_text())

    def open_gate(self) -> None:
        self.home.set_faults({})
        self.gate.unlink(missing_ok=True)

    def wait_until(self, holds: Callable[[], bool], what: str, timeout_s: float = 150.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                log = (self.home.path / "log.txt").read_text()
                raise AssertionError(f"{what} must come within {timeout_s:.0f} s, found:\n{log}")
            time.sleep(0.2)

    def kill_all(self) -> None:
        """SIGKILL to every process of this deployment, told by its environment."""
        mine = f"DAGSTER_HOME={self.environ['DAGSTER_HOME']}".encode()
        for folder in Path("/proc").iterdir():
            try:
                if mine in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)
            except (OSError, ValueError):  # ended meanwhile, or not a process
                continue


@pytest.fixture
def deployment(home: Home, tmp_path: Path) -> Iterator[Deployment]:
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are known by their start, which Linux tells")
    workspace = home.workspace()
    for asset in ("market_data", "mega_features", "prefiltered_features"):
        workspace.build(asset, KEY)
    dagster_home = tmp_path / "dagster_home"
    dagster_home.mkdir()
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", dagster_home)
    gate = tmp_path / "gate"
    home.set_faults({f"{ASSET}/{KEY}": {"waits_while": str(gate)}})
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TFT_", "DAGSTER_"))}
    environ |= {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
        "FAKE_HOME": str(home.path),
        "FAKE_SECTIONS": json.dumps(home.sections),
        "DAGSTER_HOME": str(dagster_home),
        "TFT_EXECUTOR": "in_process",
    }
    made = Deployment(home, environ, gate)
    yield made
    made.kill_all()


def slots_taken(instance: dg.DagsterInstance) -> int:
    return instance.event_log_storage.get_concurrency_info("gpu").active_slot_count


def state_of(pid: int) -> str:
    """``Z`` is a process that has ended and that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def statuses(instance: dg.DagsterInstance) -> list[str]:
    """Of all runs, oldest first."""
    return [run.status.value for run in reversed(instance.get_runs())]


EXECUTORS = ["in_process", "multiprocess"]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_killed_command_line_run_is_failed_by_the_next_one_which_gets_its_slot(
    deployment: Deployment, executor: str
) -> None:
    deployment.environ["TFT_EXECUTOR"] = executor
    killed = deployment.materialize()
    deployment.worker()
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait(timeout=30)
    deployment.kill_all()  # the fork server has a process group of its own
    with deployment.instance() as instance:
        assert statuses(instance) == ["STARTED"]
        assert slots_taken(instance) == 1

        deployment.open_gate()
        assert deployment.materialize().wait(timeout=150) == 0

        assert statuses(instance) == ["FAILURE", "SUCCESS"]
        assert slots_taken(instance) == 0
    assert deployment.home.workspace().is_fresh(ASSET, KEY)


def test_a_killed_step_fails_its_living_run_and_gives_its_slot_back(
    deployment: Deployment,
) -> None:
    deployment.environ["TFT_EXECUTOR"] = "multiprocess"
    run = deployment.materialize()
    worker = deployment.worker()
    assert worker != run.pid
    os.kill(worker, signal.SIGKILL)
    assert run.wait(timeout=60) == 1
    with deployment.instance() as instance:
        assert statuses(instance) == ["FAILURE"]
        assert slots_taken(instance) == 0
        deployment.open_gate()
        assert deployment.materialize().wait(timeout=150) == 0
        assert statuses(instance) == ["FAILURE", "SUCCESS"]
    assert deployment.home.workspace().is_fresh(ASSET, KEY)


def test_a_step_whose_runs_worker_was_killed_ends_with_it(deployment: Deployment) -> None:
    deployment.environ["TFT_EXECUTOR"] = "multiprocess"
    run = deployment.materialize()
    step = deployment.worker()
    run.kill()
    run.wait(timeout=30)
    deployment.wait_until(lambda: state_of(step) in ("", "Z"), "the end of the step", 30.0)
    assert list(deployment.home.workspace().artifacts.root.glob("*/*/.stage-*")) == []
    deployment.open_gate()
    assert deployment.materialize().wait(timeout=150) == 0
    with deployment.instance() as instance:
        assert statuses(instance) == ["FAILURE", "SUCCESS"]
        assert slots_taken(instance) == 0


def test_a_killed_server_that_is_started_again_fails_its_run_and_makes_the_partition(
    deployment: Deployment,
) -> None:
    port = free_port()
    client = DagsterGraphQLClient("127.0.0.1", port_number=port)

    def serve() -> subprocess.Popen:
        server = deployment.dagster("dev", *LOCATION, "-h", "127.0.0.1", "-p", str(port))
        deployment.wait_until(lambda: answers(f"http://127.0.0.1:{port}/server_info"), "the server")
        return server

    def submit() -> str:
        return client.submit_job_execution(
            "__ASSET_JOB",
            asset_selection=[dg.AssetKey(ASSET)],
            tags={"dagster/partition": KEY},
        )

    server = serve()
    killed = submit()
    worker = deployment.worker()
    deployment.kill_all()
    server.wait(timeout=30)
    assert state_of(worker) in ("", "Z")
    with deployment.instance() as instance:
        assert slots_taken(instance) == 1
        deployment.open_gate()
        serve()
        deployment.wait_until(
            lambda: instance.get_run_by_id(killed).status == dg.DagsterRunStatus.FAILURE,
            "the end of the killed run",
        )
        assert slots_taken(instance) == 0
        again = submit()
        deployment.wait_until(
            lambda: instance.get_run_by_id(again).status == dg.DagsterRunStatus.SUCCESS,
            "the partition",
        )
    assert deployment.home.workspace().is_fresh(ASSET, KEY)
