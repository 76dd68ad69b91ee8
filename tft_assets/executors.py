"""Which executor runs the steps (``TFT_EXECUTOR``), and what a training step asks it for.

A run has one executor, so "on the GPU" is not an executor but tags and a pool on the assets
that train: Ray and Kubernetes read the tags, the pool counts slots on one machine.
"""

import os
from collections.abc import Mapping
from typing import Any

import dagster as dg

from tft_core.config import ARTIFACTS_ENV, CONFIG_ENV, HOME_ENV, PROFILE_ENV, Settings
from tft_core.errors import ConfigError
from tft_core.training_pipeline.commit import COMMIT_ENV
from tft_core.upkeep.pages import PAGES_URL_ENV

EXECUTOR_ENV = "TFT_EXECUTOR"
PROCESSES_ENV = "TFT_MAX_PROCESSES"
RAY_ADDRESS_ENV = "TFT_RAY_ADDRESS"
NODE_SELECTOR_ENV = "TFT_NODE_SELECTOR"
EXECUTORS = ("multiprocess", "in_process", "ray", "k8s")

GPU_POOL = "gpu"
PRELOADED = ["dagster", "pandas", "torch", "tft_core.training_pipeline"]
"""Imported once by the fork server, so that a step does not pay seconds for them."""

PASSED_ON = (
    EXECUTOR_ENV,
    RAY_ADDRESS_ENV,
    "DAGSTER_HOME",
    CONFIG_ENV,
    PROFILE_ENV,
    HOME_ENV,
    ARTIFACTS_ENV,
    PAGES_URL_ENV,
    COMMIT_ENV,
    "OMP_NUM_THREADS",
)
"""What a step on another node of a Ray cluster must see as its run does.

No passwords (`TFT_STUDIES_URL`, the URL of Dagster's Postgres, credentials of a bucket): Ray shows
a job's environment on its dashboard, so those belong into the environment of the nodes.
"""


def executor_name(environ: Mapping[str, str] = os.environ) -> str:
    """The chosen executor.

    Raises:
        ConfigError: ``$TFT_EXECUTOR`` names none of the four.
    """
    name = environ.get(EXECUTOR_ENV, "multiprocess")
    if name not in EXECUTORS:
        raise ConfigError(
            f"${EXECUTOR_ENV} must be one of {', '.join(EXECUTORS)}, found {name!r}; "
            "unset it for multiprocess"
        )
    return name


def is_remote(name: str) -> bool:
    """Whether steps leave this machine, so that nested runs in one process make no sense."""
    return name in ("ray", "k8s")


def make_executor(environ: Mapping[str, str] = os.environ) -> dg.ExecutorDefinition:
    """The executor of every job of this code location.

    Raises:
        ConfigError: The choice is unknown, or its extra is not installed.
    """
    name = executor_name(environ)
    if name == "in_process":
        return dg.in_process_executor
    if name == "multiprocess":
        return dg.multiprocess_executor.configured(
            {
                "max_concurrent": _processes(environ),
                "start_method": {"forkserver": {"preload_modules": PRELOADED}},
            }
        )
    if name == "ray":
        try:
            from dagster_ray import ray_executor  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise _no_extra(name, "ray") from error
        address = environ.get(RAY_ADDRESS_ENV)
        if not address:
            raise ConfigError(
                f"${RAY_ADDRESS_ENV} must be the address of the Ray job server where "
                f"{EXECUTOR_ENV}=ray, found nothing; e.g. http://127.0.0.1:8265"
            )
        seen = [name for name in PASSED_ON if environ.get(name)]
        return ray_executor.configured({"ray": {"address": address, "env_vars": seen}})
    try:
        from dagster_k8s import k8s_job_executor
    except ImportError as error:
        raise _no_extra(name, "k8s") from error
    return k8s_job_executor


def training_tags(
    settings: Settings, environ: Mapping[str, str] = os.environ
) -> dict[str, Mapping[str, Any]]:
    """What a training step asks Ray or Kubernetes for: a GPU where ``training.device`` is one."""
    device = str(settings.sections.get("training", {}).get("device", "cpu"))
    n_gpus = 1 if device.startswith("cuda") else 0
    container: dict[str, Any] = {"resources": {"requests": {"cpu": "2", "memory": "4Gi"}}}
    pod: dict[str, Any] = {}
    if n_gpus:
        container["resources"]["limits"] = {"nvidia.com/gpu": str(n_gpus)}
        pod["tolerations"] = [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        ]
    selector = _node_selector(environ)
    if selector:
        pod["node_selector"] = selector
    return {
        "dagster-ray/config": {"num_gpus": n_gpus, "num_cpus": 2},
        "dagster-k8s/config": {
            "container_config": container,
            **({"pod_spec_config": pod} if pod else {}),
        },
    }


def _processes(environ: Mapping[str, str]) -> int:
    text = environ.get(PROCESSES_ENV, "2")
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"${PROCESSES_ENV} must be a number of at least 1, found {text!r}")
    return int(text)


def _node_selector(environ: Mapping[str, str]) -> dict[str, str]:
    labels = [part for part in environ.get(NODE_SELECTOR_ENV, "").split(",") if part]
    if any(label.count("=") != 1 for label in labels):
        raise ConfigError(
            f"${NODE_SELECTOR_ENV} must read label=value,label=value, found "
            f"{environ[NODE_SELECTOR_ENV]!r}"
        )
    return dict(label.split("=") for label in labels)


def _no_extra(name: str, extra: str) -> ConfigError:
    return ConfigError(
        f"{EXECUTOR_ENV}={name} must have the extra [{extra}], found it not installed; "
        f"run pip install 'tft-lifecycle[{extra}]' or choose another executor"
    )
