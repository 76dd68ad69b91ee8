"""The whole graph with its artifacts in an object store: the same content, nothing built twice."""

import dagster as dg
import pytest
from fake_workspace import Home

from tft_assets.build import build_defs
from tft_core.training_pipeline.graph import LIFECYCLE, SPECS, keys_of


def make_checkpoint(home: Home, instance: dg.DagsterInstance) -> int:
    """Materialize it with all that is missing; returns how many runs that took."""
    before = instance.get_runs_count()
    job = build_defs(home.resources()).resolve_implicit_global_asset_job_def()
    key = dg.AssetKey("production_checkpoint")
    assert job.execute_in_process(asset_selection=[key], instance=instance).success
    return instance.get_runs_count() - before


def every_partition(home: Home) -> list[tuple[str, str]]:
    plan = home.workspace().plan
    return [(asset, key) for asset in LIFECYCLE for key in keys_of(SPECS[asset], plan)]


def hashes(home: Home) -> dict[str, str]:
    artifacts = home.workspace().artifacts
    found = [artifacts.read(asset, key) for asset, key in every_partition(home)]
    return {artifact.name: artifact.content_hash for artifact in found}


def test_a_checkpoint_built_in_a_bucket_is_that_built_on_a_disk(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.sections["folds"]["n_windows"] = 2
    for asset, key in every_partition(home):
        home.workspace().build(asset, key)
    on_disk = hashes(home)
    monkeypatch.setenv("TFT_ARTIFACTS_URL", f"memory://{home.path.name}/graph")
    assert make_checkpoint(home, instance) == len(on_disk)
    assert hashes(home) == on_disk
    assert str(home.workspace().artifacts.root).startswith("memory://")
    assert make_checkpoint(home, instance) == 1
    event = instance.get_latest_materialization_event(dg.AssetKey("production_checkpoint"))
    assert event.asset_materialization.metadata["artifact"].path.startswith("memory://")
