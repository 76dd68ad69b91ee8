"""Partitions, mappings, versions and tags: what Dagster is told about the graph."""

import json
from datetime import date, datetime
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from fake_workspace import Home

from tft_assets.build import build_defs
from tft_assets.partitions import LifecyclePartitions, mapping_for
from tft_core.errors import ConfigError, FoldError
from tft_core.training_pipeline.config import OperationsConfig
from tft_core.training_pipeline.graph import CHECKS, GRAPH, SPECS, keys_of, made_from

LIVE = "live"


def parents(defs: dg.Definitions, asset: str, key: str | None) -> set[tuple[str, str | None]]:
    """Upstream (asset, partition) pairs of the lifecycle as Dagster resolves them."""
    graph = defs.resolve_asset_graph()
    with partition_loading_context():
        found = graph.get_parents_partitions(dg.AssetKey(asset), key).parent_partitions
    pairs = {(pair.asset_key.to_user_string(), pair.partition_key) for pair in found}
    return {(name, upstream) for name, upstream in pairs if name in SPECS}


@pytest.mark.parametrize(
    "spec", [s for s in GRAPH if s.partitions != "session"], ids=lambda s: s.name
)
def test_dagster_resolves_the_same_upstream_partitions_as_the_core(home: Home, spec) -> None:
    defs, workspace = build_defs(home.resources()), home.workspace()
    for key in keys_of(spec, workspace.plan):
        dagster_key = None if spec.partitions == "none" else key
        expected = made_from(spec.name, key, workspace.plan, workspace.retune_every)
        assert parents(defs, spec.name, dagster_key) == set(expected)


def test_nothing_made_for_a_fold_has_its_test_window_upstream(home: Home) -> None:
    home.sections["folds"]["n_windows"] = 6
    defs, plan = build_defs(home.resources()), home.workspace().plan
    for key in plan.keys[:-1]:
        reached: set[tuple[str, str | None]] = set()
        todo = [("production_fold", key)]
        while todo:
            pair = todo.pop()
            for parent in parents(defs, *pair) - reached:
                reached.add(parent)
                todo.append(parent)
        held = {k for asset, k in reached if asset in ("mega_features", "market_data")}
        assert held == set(plan.upto(key))  # partition k ends the day before k's test window


def test_a_session_follows_from_the_checkpoint_and_from_the_session_before(home: Home) -> None:
    defs = build_defs(home.resources())
    assert parents(defs, "inference", "2026-11-16") == {
        ("production_checkpoint", None),
        ("inference", "2026-11-13"),  # from Monday back to Friday
    }
    assert parents(defs, "strategy_signals", "2026-11-16") == {
        ("inference", "2026-11-16"),
        ("strategy_signals", "2026-11-13"),  # a position that was on ends with `flat`
    }
    assert parents(defs, "inference", "2022-01-03") == {("production_checkpoint", None)}


def test_sessions_are_weekdays_and_todays_exists_before_the_day_has_ended(home: Home) -> None:
    operations = OperationsConfig(timezone="Asia/Kolkata", first_session=date(2026, 11, 2))
    sessions = LifecyclePartitions.from_plan(home.workspace().plan, operations).sessions
    evening = datetime(2026, 11, 16, 18, 0, tzinfo=ZoneInfo("Asia/Kolkata"))
    keys = sessions.get_partition_keys(current_time=evening)
    assert keys[0] == "2026-11-02"
    assert keys[-1] == "2026-11-16"
    assert len(keys) == 11  # three Mondays, two of each other weekday
    assert "2026-11-14" not in keys


def test_sessions_begin_with_the_first_test_window_where_nothing_is_said(home: Home) -> None:
    made = LifecyclePartitions.from_plan(home.workspace().plan, OperationsConfig())
    assert made.sessions.get_first_partition_key() == "2022-01-03"  # the 1st is a Saturday


def test_an_unknown_time_zone_is_refused(home: Home) -> None:
    home.sections["operations"]["timezone"] = "Mars/Olympus"
    with pytest.raises(ConfigError, match=r"IANA time zone .* found 'Mars/Olympus'"):
        build_defs(home.resources())


def test_a_relation_without_a_meaning_is_refused(home: Home) -> None:
    with pytest.raises(FoldError, match=r"production_checkpoint .* found 'upto'"):
        mapping_for(
            "upto", SPECS["mega_features"], SPECS["production_checkpoint"], home.workspace().plan, 2
        )


def test_code_versions_ignore_the_number_of_windows_and_follow_the_settings(home: Home) -> None:
    def versions() -> dict[str, str | None]:
        graph = build_defs(home.resources()).resolve_asset_graph()
        return {spec.name: graph.get(dg.AssetKey(spec.name)).code_version for spec in GRAPH}

    before = versions()
    home.sections["folds"]["n_windows"] = 5
    assert versions() == before
    home.sections["gate"] = {"min_oos_days": 10}
    changed = {name for name, version in versions().items() if version != before[name]}
    assert changed == {"production_checkpoint"}


def test_assets_that_train_hold_a_gpu_slot_and_the_checkpoint_does_not(home: Home) -> None:
    graph = build_defs(home.resources()).resolve_asset_graph()
    pooled = {s.name for s in GRAPH if graph.get(dg.AssetKey(s.name)).pools == {"gpu"}}
    assert pooled == {"exploration_fold", "optuna_study", "production_fold"}


def test_every_asset_has_a_group_an_owner_a_description_and_its_checks(home: Home) -> None:
    defs = build_defs(home.resources())
    graph = defs.resolve_asset_graph()
    groups = {}
    for spec in GRAPH:
        node = graph.get(dg.AssetKey(spec.name))
        groups[spec.name] = node.group_name
        assert node.owners == ["team:research"]
        assert len(node.description or "") > 60
        checks = {key.name for key in graph.asset_check_keys if key.asset_key == node.key}
        assert checks == {check.name for check in CHECKS.get(spec.name, ())}
    assert set(groups.values()) == {
        "market",
        "features",
        "exploration",
        "selection",
        "tuning",
        "production",
        "serving",
    }
    assert groups["exploration_fold"] != groups["production_fold"]


def test_a_cuda_device_asks_ray_and_kubernetes_for_a_gpu(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFT_NODE_SELECTOR", "accelerator=t4")
    home.sections["training"] = {"device": "cuda"}
    tags = build_defs(home.resources()).get_assets_def("production_fold").op.tags
    ray, k8s = json.loads(tags["dagster-ray/config"]), json.loads(tags["dagster-k8s/config"])
    assert ray["num_gpus"] == 1
    assert k8s["container_config"]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert k8s["pod_spec_config"]["node_selector"] == {"accelerator": "t4"}
    home.sections["training"] = {"device": "cpu"}
    tags = build_defs(home.resources()).get_assets_def("production_fold").op.tags
    assert json.loads(tags["dagster-ray/config"])["num_gpus"] == 0


def test_the_definitions_load_and_every_job_resolves(home: Home) -> None:
    defs = build_defs(home.resources())
    dg.Definitions.validate_loadable(defs)
    assert {job.name for job in defs.resolve_all_job_defs()} >= {
        "nightly_inference",
        "refit",
        "live_fold",
        "weekly_health",
    }
