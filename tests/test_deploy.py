"""What lies in ``deploy/``: an image that is not root, and chart values that fit the code."""

import fnmatch
import shlex
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg
import dockerfile
import pytest
import yaml
from dagster._config import process_config
from dagster_k8s import K8sRunLauncher
from dagster_k8s.job import UserDefinedDagsterK8sConfig, get_user_defined_k8s_config
from dagster_postgres.utils import get_conn_string
from kubernetes.client import models
from sqlalchemy.engine import make_url

from tft_assets.executors import NODE_SELECTOR_ENV, make_executor, training_tags
from tft_assets.schedules import NIGHTLY_ORDER_TAG
from tft_core.cli import build_parser
from tft_core.config import Settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
VALUES = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
STATE = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "state.yaml").read_text()))
(SERVER,) = VALUES["dagster-user-deployments"]["deployments"]


def settings(device: str) -> Settings:
    return Settings(
        path=None, profile="test", home=Path("/nowhere"), sections={"training": {"device": device}}
    )


# -- the image ---------------------------------------------------------------------------------


def commands() -> list[Any]:
    return list(dockerfile.parse_file(str(DEPLOY / "Dockerfile")))


def last(name: str) -> tuple[str, ...]:
    return next(c.value for c in reversed(commands()) if c.cmd.upper() == name)


def test_the_image_runs_as_nobody_special() -> None:
    user, group = last("USER")[0].split(":")
    assert user == group == "10001"
    # after the last command that needs root, before what the container runs
    order = [c.cmd.upper() for c in commands()]
    assert order.index("USER") > max(i for i, name in enumerate(order) if name == "RUN")
    assert SERVER["podSecurityContext"]["runAsUser"] == int(user)
    assert SERVER["podSecurityContext"]["runAsNonRoot"] is True


def test_the_final_image_holds_the_wheel_and_no_checkout() -> None:
    stages = [i for i, c in enumerate(commands()) if c.cmd.upper() == "FROM"]
    final = commands()[stages[-1] :]
    copied = {source for c in final if c.cmd.upper() == "COPY" for source in c.value[:-1]}
    assert copied == {"constraints.txt", "/dist", "dagster_home/dagster.yaml"}


def test_everything_the_image_copies_exists_and_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines  # all else is left out
    for command in commands():
        if command.cmd.upper() == "COPY" and not any("--from" in flag for flag in command.flags):
            for source in command.value[:-1]:
                assert (ROOT / source).exists(), source
                assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), source


def test_what_the_image_starts_is_what_its_health_check_and_the_chart_ask_for() -> None:
    from dagster._cli import cli as dagster_cli

    start, check = last("CMD"), last("HEALTHCHECK")
    assert check[0] == "CMD"
    exposed = last("EXPOSE")[0]
    for line in (start, check[1:], tuple(SERVER["readinessProbe"]["exec"]["command"])):
        assert line[0] == "dagster"
        # parsed by dagster's own command line: an unknown option or command is an error
        command, arguments = dagster_cli, list(line[1:])
        while hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        made = command.make_context(line[-1], arguments)
        assert str(made.params["port"]) == exposed == str(SERVER["port"])
    assert SERVER["dagsterApiGrpcArgs"] == list(start[3:5])


def test_the_tft_commands_of_the_image_parse() -> None:
    runs = [c.value[0] for c in commands() if c.cmd.upper() == "RUN"]
    parts = [shlex.split(part) for run in runs for part in run.split("&&")]
    tft = [part[1:] for part in parts if part and part[0] == "tft"]
    assert tft
    for arguments in tft:
        assert build_parser().parse_args(arguments).command


# -- the chart's values --------------------------------------------------------------------------


def test_the_server_picks_an_executor_that_exists_and_a_profile_of_the_default_file() -> None:
    environ = {item["name"]: item["value"] for item in SERVER["env"]}
    assert make_executor(environ).name == "k8s"
    default = (ROOT / "tft.toml").read_text()
    assert f"[profile.{environ['TFT_PROFILE']}." in default
    mounts = {m["mountPath"] for m in SERVER["volumeMounts"]}
    assert any(environ["TFT_HOME"].startswith(mount) for mount in mounts)
    assert any(environ["TFT_CONFIG"].startswith(mount) for mount in mounts)
    tags = training_tags(settings("cuda"), environ)
    assert tags["dagster-k8s/config"]["pod_spec_config"]["node_selector"] == {
        "accelerator": "nvidia"
    }
    assert NODE_SELECTOR_ENV in environ


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_dagster_k8s_takes_the_tags_of_a_training_step(device: str) -> None:
    tags = training_tags(settings(device), {NODE_SELECTOR_ENV: "accelerator=nvidia"})
    op_tags = dg.OpDefinition(compute_fn=lambda: None, name="step", tags=tags).tags
    parsed = get_user_defined_k8s_config(op_tags)
    resources = parsed.container_config["resources"]
    assert resources["requests"] == {"cpu": "2", "memory": "4Gi"}
    if device == "cuda":
        assert resources["limits"] == {"nvidia.com/gpu": "1"}
        assert parsed.pod_spec_config["tolerations"][0]["key"] == "nvidia.com/gpu"
    else:
        assert "limits" not in resources
        assert "tolerations" not in parsed.pod_spec_config


def test_a_misspelt_tag_would_be_noticed() -> None:
    tags = dict(training_tags(settings("cuda"), {}))
    tags["dagster-k8s/config"] = {"container_config": {"resource": {}}}
    op_tags = dg.OpDefinition(compute_fn=lambda: None, name="step", tags=tags).tags
    with pytest.raises(Exception, match="resource"):
        get_user_defined_k8s_config(op_tags)


def snake(camel: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in camel)


def test_the_run_launcher_takes_the_values_that_the_chart_hands_it() -> None:
    (name,) = VALUES["runLauncher"]["config"]
    assert VALUES["runLauncher"]["type"].lower() == name.lower() == "k8srunlauncher"
    raw = dict(VALUES["runLauncher"]["config"][name])
    run_config = {snake(k): v for k, v in raw.pop("runK8sConfig").items()}
    config = {snake(k): v for k, v in raw.items()} | {"run_k8s_config": run_config}
    required = {"instance_config_map": "x", "dagster_home": "/x", "service_account_name": "x"}
    checked = process_config(dg.Shape(K8sRunLauncher.config_type()), config | required)
    assert checked.success, checked.errors
    UserDefinedDagsterK8sConfig.from_dict(run_config)


def check_manifest(value: Any, kind: str) -> None:
    """Refuse a key that the official client's model of a Kubernetes object doesn't have."""
    model = getattr(models, kind)
    known = {
        camel: (attribute, model.openapi_types[attribute])
        for attribute, camel in (model.attribute_map.items())
    }
    unknown = set(value) - set(known)
    assert not unknown, f"{kind} has no {sorted(unknown)}"
    for camel, inner in value.items():
        declared = known[camel][1]
        if declared.startswith("list[V1"):
            for item in inner:
                check_manifest(item, declared[5:-1])
        elif declared.startswith("V1"):
            check_manifest(inner, declared)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("podSecurityContext", "V1PodSecurityContext"),
        ("securityContext", "V1SecurityContext"),
        ("resources", "V1ResourceRequirements"),
    ],
)
def test_the_servers_kubernetes_fields_are_kubernetes_own(key: str, kind: str) -> None:
    check_manifest(SERVER[key], kind)


def test_volumes_environment_and_manifests_are_kubernetes_own_and_name_each_other() -> None:
    for volume in SERVER["volumes"]:
        check_manifest(volume, "V1Volume")
    for mount in SERVER["volumeMounts"]:
        check_manifest(mount, "V1VolumeMount")
    for variable in SERVER["env"]:
        check_manifest(variable, "V1EnvVar")
    probe = {k: v for k, v in SERVER["readinessProbe"].items() if k != "enabled"}
    check_manifest(probe, "V1Probe")
    for document in STATE:
        check_manifest(document, f"V1{document['kind']}")
    named = {(d["kind"], d["metadata"]["name"]) for d in STATE}
    (claim,) = [
        v["persistentVolumeClaim"]["claimName"]
        for v in SERVER["volumes"]
        if "persistentVolumeClaim" in v
    ]
    (config,) = [v["configMap"]["name"] for v in SERVER["volumes"] if "configMap" in v]
    (secret,) = [s["name"] for s in SERVER["envSecrets"]]
    assert named == {
        ("PersistentVolumeClaim", claim),
        ("ConfigMap", config),
        ("Secret", secret),
    }
    volumes = {v["name"] for v in SERVER["volumes"]}
    assert {m["name"] for m in SERVER["volumeMounts"]} == volumes


def test_the_charts_postgres_is_spoken_to_by_the_driver_that_the_image_has() -> None:
    scheme = VALUES["postgresql"]["postgresqlScheme"]
    url = get_conn_string("tft", "secret", "host", "dagster", scheme=scheme)
    assert make_url(url).get_dialect().driver == "psycopg2"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    postgres = extras["optional-dependencies"]["postgres"]
    assert any(requirement.startswith("psycopg2") for requirement in postgres)


def test_the_instance_of_the_chart_is_that_of_one_machine_but_for_its_size() -> None:
    here = yaml.safe_load((ROOT / "dagster_home" / "dagster.yaml").read_text())
    monitoring = {snake(k): v for k, v in VALUES["dagsterDaemon"]["runMonitoring"].items()}
    assert monitoring == here["run_monitoring"]
    logs = {snake(k): v for k, v in VALUES["pythonLogs"].items()}
    assert logs == here["python_logs"]
    assert VALUES["telemetry"] == here["telemetry"]
    pools, runs = VALUES["concurrency"]["pools"], VALUES["concurrency"]["runs"]
    assert pools["granularity"] == here["concurrency"]["pools"]["granularity"]
    assert runs["tagConcurrencyLimits"] == here["concurrency"]["runs"]["tag_concurrency_limits"]
    assert [limit["key"] for limit in runs["tagConcurrencyLimits"]] == [NIGHTLY_ORDER_TAG]
    for kind in ("schedule", "sensor"):
        days = VALUES["retention"][kind]["purgeAfterDays"]
        shared = {k: days[k] for k in here["retention"][kind]["purge_after_days"]}
        assert shared == here["retention"][kind]["purge_after_days"]
