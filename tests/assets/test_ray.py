"""Folds as Ray tasks on two nodes of one machine: GPU counts honoured, the same results.

``make test-ray`` installs what it needs and runs it; without Ray it is skipped.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from fake_workspace import SECTIONS, Home

from tests.support.executors import run_folds
from tft_assets.executors import PASSED_ON
from tft_core.training_pipeline.graph import SPECS

pytest.importorskip("dagster_ray", reason="needs Ray: make test-ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
HEAD_IP, GPU_IP = "127.0.0.2", "127.0.0.3"
"""Loopback addresses. Not 127.0.0.1, which Ray takes for this machine's outward address."""
N_GPU_SLOTS = 4
"""More than the cluster has GPUs, so that it is Ray that makes a step wait and not Dagster."""
FOLD_ASSETS = [spec.name for spec in SPECS.values() if spec.partitions == "fold"]
TRAINING = {spec.name for spec in SPECS.values() if spec.trains}


@dataclass(frozen=True)
class RayCluster:
    """Two nodes: the head has no GPU, the other declares one."""

    home: Home
    environ: dict[str, str]

    def run(self, keys: list[str], *arguments: str) -> subprocess.Popen[str]:
        return run_folds(keys, *arguments, environ=self.environ)

    def steps(self) -> list[dict[str, Any]]:
        lines = (self.home.path / "steps.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    from ray.cluster_utils import Cluster

    home = Home(tmp_path_factory.mktemp("state"), sections())
    home.set_market("2021-06-01", "2022-06-01", "2023-06-01")
    port = free_port()
    environ = environment(home, tmp_path_factory.mktemp("dagster"), "ray") | {
        "TFT_RAY_ADDRESS": f"http://{HEAD_IP}:{port}",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    before = dict(os.environ)
    # the nodes' processes have it of this one; what a step must see of its run is passed on
    os.environ.update({k: v for k, v in environ.items() if k not in PASSED_ON})
    cluster = Cluster()
    try:
        cluster.add_node(
            node_ip_address=HEAD_IP,
            num_cpus=2,
            num_gpus=0,
            include_dashboard=True,
            dashboard_host=HEAD_IP,
            dashboard_port=port,
            env_vars={"FAKE_NODE": "head"},
        )
        cluster.add_node(
            node_ip_address=GPU_IP, num_cpus=4, num_gpus=1, env_vars={"FAKE_NODE": "gpu"}
        )
        cluster.wait_for_nodes(timeout=60)
        yield RayCluster(home, environ)
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


def sections() -> dict[str, dict[str, Any]]:
    made = {name: dict(values) for name, values in SECTIONS.items()}
    made["folds"]["n_windows"] = 2
    made["training"] = {"device": "cuda"}  # what tags the training steps for a GPU
    return made


def environment(home: Home, storage: Path, executor: str) -> dict[str, str]:
    instance = yaml.safe_load((ROOT / "dagster_home" / "dagster.yaml").read_text())
    instance["concurrency"]["pools"]["default_limit"] = N_GPU_SLOTS
    (storage / "dagster.yaml").write_text(yaml.safe_dump(instance))
    return {
        "FAKE_HOME": str(home.path),
        "FAKE_SECTIONS": json.dumps(home.sections),
        "FOLDS_LOCATION": "recorded_location",
        "DAGSTER_HOME": str(storage),
        "TFT_EXECUTOR": executor,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(__file__).parent))),
        "OMP_NUM_THREADS": "1",
        # a node starts a step by the name `dagster`
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HEAD_IP, 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def folds_on_ray(ray_cluster: RayCluster) -> RayCluster:
    """Two folds made on the cluster, every step a Ray job."""
    keys = list(ray_cluster.home.workspace().plan.keys[:2])
    assert finished(ray_cluster.run(keys)) == 0
    return ray_cluster


def finished(process: subprocess.Popen[str], within_s: float = 900.0) -> int:
    try:
        _, errors = process.communicate(timeout=within_s)
    finally:  # out of time or interrupted: nothing is left running
        process.kill()
        process.wait()
    if process.returncode:
        print(errors[-6000:])
    return process.returncode


def test_folds_made_on_ray_are_those_made_in_one_process(
    folds_on_ray: RayCluster, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "dagster").mkdir()
    alone = Home(tmp_path / "state", sections())
    alone.set_market("2021-06-01", "2022-06-01", "2023-06-01")
    keys = list(alone.workspace().plan.keys[:2])
    environ = environment(alone, tmp_path / "dagster", "in_process")
    assert finished(run_folds(keys, environ=environ)) == 0
    for asset in FOLD_ASSETS:
        for key in keys:
            here = alone.workspace().artifacts.read(asset, key)
            there = folds_on_ray.home.workspace().artifacts.read(asset, key)
            assert there.content_hash == here.content_hash, (asset, key)
            assert folds_on_ray.home.workspace().is_fresh(asset, key)


def test_every_step_was_a_ray_job(folds_on_ray: RayCluster) -> None:
    assert sorted({step["node"] for step in folds_on_ray.steps()}) == ["gpu", "head"]
    assert {step["executor"] for step in folds_on_ray.steps()} == {"ray"}
    with dg.DagsterInstance.from_config(folds_on_ray.environ["DAGSTER_HOME"]) as instance:
        (run, *_) = instance.get_runs()
        events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTING)
        submitted = [e.get_dagster_event().event_specific_data.metadata for e in events]
        assert len(submitted) == len(FOLD_ASSETS)
        assert all("Ray Submission ID" in metadata for metadata in submitted)


def test_only_training_steps_hold_the_gpu_and_only_where_there_is_one(
    folds_on_ray: RayCluster,
) -> None:
    trained = [s for s in folds_on_ray.steps() if s["asset"] in TRAINING]
    assert len(trained) >= 2 * len(TRAINING)
    assert {(step["node"], step["gpus"]) for step in trained} == {("gpu", "0")}
    other = [s for s in folds_on_ray.steps() if s["asset"] not in TRAINING]
    assert {step["gpus"] for step in other} == {""}


def test_two_folds_at_a_time_take_turns_on_one_gpu(folds_on_ray: RayCluster) -> None:
    keys = list(folds_on_ray.home.workspace().plan.keys[:2])
    asked = time.time()
    runs = [folds_on_ray.run([key], "--assets", "exploration_fold") for key in keys]
    assert [finished(run) for run in runs] == [0, 0]
    steps = sorted(
        (s for s in folds_on_ray.steps() if s["began"] > asked), key=lambda step: step["began"]
    )
    assert sorted(step["key"] for step in steps) == sorted(keys)
    assert all(before["ended"] <= after["began"] for before, after in pairwise(steps))
    assert submissions(folds_on_ray, after=asked)[-1] < steps[0]["ended"], "the second never waited"


def submissions(cluster: RayCluster, *, after: float) -> list[float]:
    """When the steps of the newest runs were handed to Ray, in order."""
    with dg.DagsterInstance.from_config(cluster.environ["DAGSTER_HOME"]) as instance:
        starting = dg.DagsterEventType.STEP_WORKER_STARTING
        times = [
            event.timestamp
            for run in instance.get_runs()
            for event in instance.all_logs(run.run_id, of_type=starting)
        ]
    return sorted(moment for moment in times if moment > after)
