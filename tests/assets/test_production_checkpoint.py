"""The asset graph in process: what is built, what is left alone, what is refused."""

import json
from collections import Counter
from typing import Any

import dagster as dg
import pytest
from fake_workspace import Home

from tft_assets.build import build_defs
from tft_assets.missing import UPSTREAM, needs, only_builder
from tft_core.training_pipeline.graph import SPECS, keys_of

FIRST, SECOND, RUNNING, LIVE = "2022-01-01", "2023-01-01", "2024-01-01", "live"


def materialize(
    home: Home,
    instance: dg.DagsterInstance,
    asset: str,
    key: str | None = None,
    config: dict[str, Any] | None = None,
) -> dg.ExecuteInProcessResult:
    """One run of one asset, as ``dagster asset materialize`` makes it."""
    job = build_defs(home.resources()).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        asset_selection=[dg.AssetKey(asset)],
        partition_key=key,
        instance=instance,
        raise_on_error=False,
        run_config={"ops": {asset: {"config": config}}} if config else None,
    )


def build(home: Home, instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    return materialize(home, instance, "production_checkpoint", config=config)


def built(instance: dg.DagsterInstance, parent: dg.ExecuteInProcessResult) -> list[str]:
    """``asset[key]`` of each run that a builder's run made, oldest first."""
    runs = instance.get_runs(dg.RunsFilter(tags={"tft/parent_run": parent.run_id}))
    return [
        f"{next(iter(run.asset_selection or ())).to_user_string()}[{run.tags['dagster/partition']}]"
        for run in reversed(runs)
    ]


def stale(home: Home, instance: dg.DagsterInstance) -> set[str]:
    """Every partition of the lifecycle, the checkpoint included, that is not as it should be."""
    defs, workspace = build_defs(home.resources()), home.workspace()
    return {
        need.name
        for asset in (*UPSTREAM, "production_checkpoint")
        for need in needs(instance, defs, workspace, asset, None if asset in UPSTREAM else ["all"])
    }


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    event = next(e for e in result.all_events if e.is_step_failure)
    data = event.step_failure_data
    assert data.user_failure_data is not None
    return data.user_failure_data.description or ""


def test_one_command_builds_everything_from_nothing_and_a_second_one_nothing(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    assert finished.success
    # 3 windows and live: 7 assets of 4 folds, 2 complete windows on record
    assert Counter(name.partition("[")[0] for name in built(instance, finished)) == {
        "market_data": 4,
        "mega_features": 4,
        "prefiltered_features": 4,
        "exploration_fold": 4,
        "vsn_stability_report": 4,
        "optuna_study": 4,
        "production_fold": 4,
        "out_of_sample": 2,
    }
    assert stale(home, instance) == set()
    before = home.workspace().artifacts.read("production_checkpoint", "all").content_hash

    second = build(home, instance)
    assert second.success
    assert built(instance, second) == []
    after = home.workspace().artifacts.read("production_checkpoint", "all").content_hash
    assert after == before


def test_a_fold_redone_to_the_same_result_leaves_everything_downstream_fresh(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    assert materialize(home, instance, "exploration_fold", FIRST).success
    assert stale(home, instance) == set()


def test_a_fold_redone_with_another_seed_makes_the_reports_from_it_stale(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    redone = materialize(home, instance, "exploration_fold", SECOND, {"seed": 7})
    assert redone.success
    assert stale(home, instance) == {
        f"vsn_stability_report[{key}]" for key in (SECOND, RUNNING, LIVE)
    }
    # Dagster's own words: what was found by its private resolver, not by our files
    defs = build_defs(home.resources())
    (need,) = needs(instance, defs, home.workspace(), "vsn_stability_report", [LIVE])
    assert need.reason == f"exploration_fold[{SECOND}] has a new data version"


def test_one_more_window_builds_that_window_and_live_and_nothing_else(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    home.sections["folds"]["n_windows"] = 4
    second = build(home, instance)
    assert second.success
    keys = {name.partition("[")[2].rstrip("]") for name in built(instance, second)}
    # the window that was running is complete now, so its record is made; 2025 has begun
    assert keys == {RUNNING, "2025-01-01", LIVE}
    assert [n for n in built(instance, second) if RUNNING in n] == [f"out_of_sample[{RUNNING}]"]
    assert stale(home, instance) == set()


def test_a_setting_makes_stale_what_reads_it_and_nothing_upstream(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    home.sections["gate"] = {"min_sharpe_net": 0.1}
    assert stale(home, instance) == {"production_checkpoint[all]"}
    home.sections["exploration"] = {"n_seeds": 5}
    stale_now = {name.partition("[")[0] for name in stale(home, instance)}
    assert stale_now == {"exploration_fold", "production_checkpoint"}


def test_new_bars_refit_live_and_leave_the_finished_folds_alone(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    home.set_market(
        "2021-06-01", "2022-06-01", "2023-06-01", "2024-06-01", "2025-02-03", "2025-02-04"
    )
    second = build(home, instance)
    assert second.success
    assert {name.partition("[")[2] for name in built(instance, second)} == {f"{LIVE}]"}


def test_a_deleted_artifact_is_built_again_although_dagster_knows_it(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    (home.path / "artifacts" / "prefiltered_features" / FIRST / "current").unlink()
    second = build(home, instance)
    assert second.success
    assert built(instance, second) == [f"prefiltered_features[{FIRST}]"]


def test_a_new_instance_builds_known_artifacts_again_to_the_same_content(
    finished: dg.ExecuteInProcessResult, home: Home
) -> None:
    before = home.workspace().artifacts.read("production_checkpoint", "all").content_hash
    with dg.DagsterInstance.ephemeral() as other:
        result = build(home, other)
        assert result.success
        assert len(built(other, result)) == 30
        assert stale(home, other) == set()
    after = home.workspace().artifacts.read("production_checkpoint", "all").content_hash
    assert after == before


def test_a_failed_blocking_check_stops_the_build_and_is_named(
    home: Home, instance: dg.DagsterInstance
) -> None:
    home.set_faults({f"exploration_fold/{SECOND}": {"finds": ["error training_converged"]}})
    result = build(home, instance)
    assert not result.success
    message = failure_of(result)
    assert f"exploration_fold[{SECOND}] must be built" in message
    assert "check training_converged: training_converged does not hold" in message
    assert built(instance, result)[-1] == f"exploration_fold[{SECOND}]"

    home.set_faults({})
    resumed = build(home, instance)
    assert resumed.success
    assert built(instance, resumed)[0] == f"exploration_fold[{SECOND}]"
    assert len(built(instance, resumed)) == 30 - 12 - 1


def test_a_warning_stops_nothing_and_shows_as_a_check_that_does_not_hold(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    home.set_faults({"production_checkpoint/all": {"finds": ["warn gate_passed"]}})
    result = build(home, instance)
    assert result.success
    verdicts = {
        e.check_name: (e.passed, e.severity.value) for e in result.get_asset_check_evaluations()
    }
    assert verdicts == {"checkpoint_verifies": (True, "WARN"), "gate_passed": (False, "WARN")}


def test_an_error_of_the_core_is_the_runs_one_line_message(
    home: Home, instance: dg.DagsterInstance
) -> None:
    home.set_faults({f"market_data/{FIRST}": {"refuses": "bars must exist, found none"}})
    result = materialize(home, instance, "market_data", FIRST)
    assert not result.success
    assert failure_of(result) == "bars must exist, found none"


def test_an_upstream_artifact_that_failed_its_check_is_refused_in_later_runs(
    home: Home, instance: dg.DagsterInstance
) -> None:
    home.set_faults({f"market_data/{FIRST}": {"finds": ["error bars_are_sane"]}})
    assert not materialize(home, instance, "market_data", FIRST).success
    later = materialize(home, instance, "mega_features", FIRST)
    assert failure_of(later).startswith(
        f"artifact market_data/{FIRST} must have passed its checks, found bars_are_sane"
    )


def test_on_missing_fail_names_what_is_missing_and_builds_nothing(
    home: Home, instance: dg.DagsterInstance
) -> None:
    result = build(home, instance, on_missing="fail")
    assert not result.success
    assert "found 30 partitions that are not (market_data 4, mega_features 4" in failure_of(result)
    assert built(instance, result) == []


def test_a_section_that_only_a_late_phase_reads_is_refused_before_anything_is_built(
    home: Home, instance: dg.DagsterInstance
) -> None:
    home.sections["serving"] = {"min_coverge": 0.5}
    result = build(home, instance)
    assert not result.success
    assert "min_coverge" in failure_of(result)
    assert built(instance, result) == []


def test_overrides_of_the_launchpad_reach_the_core(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    assert build(home, instance, force_reason="reviewed by hand", on_missing="build").success
    content = home.workspace().artifacts.read("production_checkpoint", "all").json("content.json")
    assert content["overrides"] == {"force_reason": "reviewed by hand"}


def test_a_second_builder_of_one_home_is_refused_and_told_who_builds(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    with only_builder(home.path, "run-of-somebody"):
        result = build(home, instance)
    assert not result.success
    assert "found run run-of-somebody (pid" in failure_of(result)
    assert build(home, instance).success


def test_a_backfill_run_by_run_gives_what_the_one_command_gives(
    finished: dg.ExecuteInProcessResult, home: Home, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Home(tmp_path_factory.mktemp("other"))
    (other.path / "market.json").write_text((home.path / "market.json").read_text())
    with dg.DagsterInstance.ephemeral() as second:
        for asset in UPSTREAM:
            for key in keys_of(SPECS[asset], other.workspace().plan):
                assert materialize(other, second, asset, key).success
        result = build(other, second)
        assert built(second, result) == []
    ours, theirs = (
        h.workspace().artifacts.read("production_checkpoint", "all").content_hash
        for h in (home, other)
    )
    assert ours == theirs


def test_a_partition_shows_its_figures_and_its_report(
    home: Home, instance: dg.DagsterInstance
) -> None:
    result = materialize(home, instance, "market_data", FIRST)
    metadata = result.asset_materializations_for_node("market_data")[0].metadata
    assert metadata["sharpe_ann"].value == 0.5
    assert metadata["undefined"] == dg.MetadataValue.null()
    assert str(metadata["report_page"].value).endswith("report.html")
    artifact = home.workspace().artifacts.read("market_data", FIRST)
    assert metadata["content_hash"].value == artifact.content_hash
    assert json.loads(artifact.file("content.json").read_text())["bars"] == ["2021-06-01"]
