"""The runs to come: exactly those that a build then makes, with the times of the last ones."""

import json
import math
from pathlib import Path

import dagster as dg
import pytest
from fake_workspace import Home

from tft_assets.build import build_defs
from tft_assets.plan import main, planned
from tft_core.upkeep.backup import back_up, restore


def plan(home: Home, instance: dg.DagsterInstance) -> list[tuple[str, str, bool]]:
    frame, _ = planned(instance, build_defs(home.resources()), home.workspace())
    return list(frame[["asset", "partition", "certain"]].itertuples(index=False, name=None))


def build(home: Home, instance: dg.DagsterInstance) -> set[tuple[str, str]]:
    """Build the checkpoint; returns (asset, partition) of the runs that were made."""
    before = {run.run_id for run in instance.get_runs()}
    job = build_defs(home.resources()).resolve_implicit_global_asset_job_def()
    key = dg.AssetKey("production_checkpoint")
    assert job.execute_in_process(asset_selection=[key], instance=instance).success
    return {built_by(run) for run in instance.get_runs() if run.run_id not in before}


def built_by(run: dg.DagsterRun) -> tuple[str, str]:
    asset = next(iter(run.asset_selection or ())).to_user_string()
    return asset, run.tags.get("dagster/partition", "all")


def test_an_empty_state_plans_every_run_that_is_then_made(
    home: Home, instance: dg.DagsterInstance, request: pytest.FixtureRequest
) -> None:
    rows = plan(home, instance)
    assert instance.get_runs() == []  # planning makes none
    assert all(certain for _, _, certain in rows)
    request.getfixturevalue("finished")  # what one command makes of just such an empty state
    made = {built_by(run) for run in instance.get_runs()}
    assert made == {(asset, key) for asset, key, _ in rows}


def test_a_fresh_state_plans_the_checkpoint_alone_with_its_time(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    frame, durations = planned(instance, build_defs(home.resources()), home.workspace())
    assert list(frame["asset"]) == ["production_checkpoint"]
    assert math.isfinite(frame["seconds"].iloc[0])
    assert durations.left(frame["asset"]).startswith("about")


def test_new_bars_plan_what_stands_on_them_as_possible(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    home.set_market("2021-06-01", "2022-06-01", "2023-06-01", "2024-06-01", "2025-02-04")
    rows = plan(home, instance)
    assert [row for row in rows if row[2]] == [
        ("market_data", "live", True),
        ("production_checkpoint", "all", True),
    ]
    possible = {(asset, key) for asset, key, certain in rows if not certain}
    assert ("production_fold", "live") in possible
    assert {key for _, key in possible} == {"live"}  # no older fold may follow
    assert build(home, instance) <= {(asset, key) for asset, key, _ in rows}


def test_state_and_instance_restored_together_have_nothing_to_build(
    home: Home, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("backup")
    storage = place / "dagster"
    storage.mkdir()
    with dg.instance_for_test(temp_dir=str(storage)) as instance:
        build(home, instance)
        back_up(home.path, place / "b.tar", storage)  # while the instance is open
    (place / "dagster_there").mkdir()
    restore(place / "b.tar", place / "there", place / "dagster_there")
    restored = Home(place / "there", home.sections)
    with dg.instance_for_test(temp_dir=str(place / "dagster_there")) as instance:
        assert plan(restored, instance) == [("production_checkpoint", "all", True)]
    with dg.DagsterInstance.ephemeral() as unknowing:  # without Dagster's storage all is built
        assert len(plan(restored, unknowing)) > 20


def test_the_command_needs_an_instance_and_answers_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert main([]) == 2
    (tmp_path / "dagster").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("TFT_HOME", str(tmp_path / "state"))
    for name in ("TFT_CONFIG", "TFT_PROFILE", "TFT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    assert main(["--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert (rows[0]["asset"], rows[0]["why"]) == ("market_data", "missing")
    assert (rows[-1]["asset"], rows[-1]["seconds"]) == ("production_checkpoint", None)
    assert main([]) == 0
    assert "never timed here: exploration_fold" in capsys.readouterr().out
