"""Backfills as the daemon does them: the whole graph in waves, sessions in order."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg
from dagster._core.definitions.assets.graph.remote_asset_graph import RemoteWorkspaceAssetGraph
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.backfill import execute_backfill_iteration
from fake_workspace import Home

from tft_assets.missing import UPSTREAM


def backfill(
    daemon: WorkspaceProcessContext, assets: Sequence[str], partitions: Sequence[str] | None
) -> list[dg.DagsterRun]:
    """Run a backfill to its end; returns its runs, oldest first."""
    instance = daemon.instance
    graph: RemoteWorkspaceAssetGraph = daemon.create_request_context().asset_graph
    request = PartitionBackfill.from_asset_partitions(
        backfill_id="whole",
        asset_graph=graph,
        partition_names=partitions,
        asset_selection=[dg.AssetKey(a) for a in assets],
        backfill_timestamp=1.8e9,
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=partitions is None,
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(request)
    for _ in range(40):
        with quiet():
            errors = [e for e in execute_backfill_iteration(daemon, logging.getLogger("t")) if e]
        assert errors == []
        if instance.get_backfill("whole").status != BulkActionStatus.REQUESTED:
            break
    assert instance.get_backfill("whole").status == BulkActionStatus.COMPLETED_SUCCESS
    return list(reversed(instance.get_runs()))


@contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def test_a_backfill_of_the_whole_graph_makes_the_checkpoint_in_one_request(
    home: Home, daemon: WorkspaceProcessContext
) -> None:
    runs = backfill(daemon, [*UPSTREAM, "production_checkpoint"], None)
    assert all(run.status == dg.DagsterRunStatus.SUCCESS for run in runs)
    workspace = home.workspace()
    assert workspace.artifacts.current("production_checkpoint", "all") is not None
    for asset in UPSTREAM:
        keys = workspace.plan.reported_keys if asset == "out_of_sample" else workspace.plan.keys
        assert all(workspace.is_fresh(asset, key) for key in keys)
    # nothing was left for the checkpoint to build
    assert not any("tft/parent_run" in run.tags for run in runs)


def test_sessions_are_backfilled_in_order_since_positions_carry_over(
    home: Home, daemon: WorkspaceProcessContext
) -> None:
    days = ["2026-11-12", "2026-11-13", "2026-11-16"]  # Thursday, Friday, Monday
    runs = backfill(daemon, ["inference", "strategy_signals"], days)
    for asset in ("inference", "strategy_signals"):
        made = [
            r.tags["dagster/partition"] for r in runs if dg.AssetKey(asset) in r.asset_selection
        ]
        assert made == days
