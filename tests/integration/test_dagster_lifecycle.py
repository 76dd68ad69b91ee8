"""The real phases through Dagster, in process: the same artifacts as without it."""

from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from tests.support.tiny import load_store, tiny_bars, tiny_settings
from tft_assets.arrivals import MARKET_STORE
from tft_assets.build import build_defs
from tft_assets.resources import WorkspaceFactory
from tft_core.training_pipeline import Workspace


class TinyWorkspace(WorkspaceFactory):
    """The tiny lifecycle in a state directory."""

    home: str

    def open(self) -> Workspace:
        return Workspace.open(tiny_settings(Path(self.home)))


def materialize(defs: dg.Definitions, instance: dg.DagsterInstance, assets, key=None):
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dg.AssetKey(name) for name in assets],
        partition_key=key,
        instance=instance,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(definitions, instance, workspace) after ``production_checkpoint`` built everything."""
    settings = tiny_settings(tmp_path_factory.mktemp("dagster"))
    load_store(settings, tiny_bars())
    defs = build_defs({"workspace": TinyWorkspace(home=str(settings.home))})
    with dg.DagsterInstance.ephemeral() as instance:
        assert materialize(defs, instance, ["production_checkpoint"]).success
        yield defs, instance, Workspace.open(settings)


def test_every_partition_was_built_by_a_run_of_its_own(built):
    _, instance, workspace = built
    for asset, key in workspace.lifecycle():
        if key == "all":
            continue
        assert key in instance.get_materialized_partitions(dg.AssetKey(asset))


def test_dagster_and_the_plain_runner_make_the_same_artifacts(built, lifecycle):
    _, _, workspace = built
    plain = lifecycle[0].workspace
    for asset, key in workspace.lifecycle():
        if asset != "production_checkpoint":  # its verdict names a version, which holds a time
            ours = workspace.artifacts.read(asset, key).content_hash
            assert ours == plain.artifacts.read(asset, key).content_hash, (asset, key)


def test_a_second_materialization_builds_nothing_and_keeps_the_version(built):
    defs, instance, workspace = built
    before = instance.get_runs_count()
    version = workspace.artifacts.read("production_checkpoint", "all").summary["checkpoint"]
    assert materialize(defs, instance, ["production_checkpoint"]).success
    assert instance.get_runs_count() == before + 1
    again = workspace.artifacts.read("production_checkpoint", "all").summary["checkpoint"]
    assert again == version


def test_the_newest_session_is_inferred_and_published_through_dagster(built):
    defs, instance, workspace = built
    with workspace.store() as store:
        session: date = store.last_session()
    result = materialize(defs, instance, ["inference", "strategy_signals"], session.isoformat())
    assert result.success
    signals = workspace.artifacts.read("strategy_signals", session.isoformat())
    assert signals.summary["published"] is True


def test_the_bars_that_dagster_observed_are_the_ones_a_refit_would_read(built):
    _, instance, workspace = built
    found = workspace.arrivals()
    records = instance.fetch_observations(dg.AssetKey(MARKET_STORE), limit=100).records
    observed = [record.event_log_entry.asset_observation for record in reversed(records)]
    assert {o.partition: o.tags[DATA_VERSION_TAG] for o in observed} == found.versions
    assert not found.is_stale
    assert (found.sessions, found.restated) == (0, 0)
