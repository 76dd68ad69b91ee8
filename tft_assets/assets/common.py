"""What all assets share: their place in the graph, and how one partition is materialized."""

import time
from dataclasses import dataclass
from typing import Any, TypeAlias

import dagster as dg

from tft_assets.checks import check_results, check_specs
from tft_assets.config import Overrides
from tft_assets.executors import GPU_POOL, training_tags
from tft_assets.metadata import docs_link, metadata_of
from tft_assets.partitions import PREVIOUS_SESSION, LifecyclePartitions, mapping_for
from tft_assets.progress import throttled, with_time_left
from tft_assets.provenance import code_tags, data_tags
from tft_assets.resources import LifecycleWorkspace
from tft_assets.retries import explained
from tft_assets.runs import owned
from tft_core.logs import log_context
from tft_core.training_pipeline.config import OperationsConfig
from tft_core.training_pipeline.graph import SPECS, UNPARTITIONED_KEY, code_version

OWNERS = ["team:research"]
WorkspaceParam = dg.ResourceParam[LifecycleWorkspace]
AssetNode: TypeAlias = Any
"""An ``AssetsDefinition``; type checkers see the decorated function instead."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The graph of one configuration, as arguments for ``dg.asset``."""

    workspace: LifecycleWorkspace
    partitions: LifecyclePartitions

    @classmethod
    def of(cls, workspace: LifecycleWorkspace) -> "Lifecycle":
        operations = workspace.settings.build(OperationsConfig, "operations")
        return cls(workspace, LifecyclePartitions.from_plan(workspace.plan, operations))

    def asset(
        self,
        name: str,
        *,
        group: str,
        kinds: set[str],
        source: str | None = None,
        carries_over: bool = False,
    ) -> dict[str, Any]:
        """Arguments of ``dg.asset`` that follow from the graph.

        Args:
            source: What it is read from and Dagster only observes, partitioned alike.
            carries_over: True where a session's partition continues the previous session's.
        """
        spec, workspace = SPECS[name], self.workspace
        deps = [
            dg.AssetDep(
                upstream,
                partition_mapping=mapping_for(
                    relation, SPECS[upstream], spec, workspace.plan, workspace.retune_every
                ),
            )
            for upstream, relation in spec.upstream
        ]
        if source is not None:
            deps.append(dg.AssetDep(source, partition_mapping=dg.IdentityPartitionMapping()))
        if carries_over:
            deps.append(dg.AssetDep(name, partition_mapping=PREVIOUS_SESSION))
        return {
            "name": name,
            "deps": deps,
            "partitions_def": self.partitions.of(spec),
            "group_name": group,
            "kinds": kinds,
            "owners": OWNERS,
            "metadata": docs_link(name),
            "code_version": code_version(name, workspace.settings),
            "check_specs": check_specs(name),
            "pool": GPU_POOL if spec.trains else None,
            "op_tags": training_tags(workspace.settings) if spec.trains else None,
        }


def materialize(
    context: dg.AssetExecutionContext,
    workspace: LifecycleWorkspace,
    config: Overrides | None = None,
) -> dg.MaterializeResult:
    """Make the run's partition through the core and show what came out.

    Raises:
        dg.Failure: The core refused, with its one-line message; never retried.
        dg.RetryRequested: A fault that passes by itself was in the way.
    """
    with explained(context), owned(context, code_tags(workspace)):
        return made(context, workspace, config)


def made(
    context: dg.AssetExecutionContext,
    workspace: LifecycleWorkspace,
    config: Overrides | None = None,
) -> dg.MaterializeResult:
    """``materialize`` for a body that owns its run already.

    Raises:
        TftError: The core refused.
    """
    name = context.asset_key.to_user_string()
    key = context.partition_key if context.has_partition_key else UNPARTITIONED_KEY
    started = time.monotonic()
    progress = throttled(with_time_left(context.log.info))
    with log_context(run=context.run.run_id):
        artifact = workspace.build(name, key, config.to_core() if config else {}, progress)
    results = check_results(artifact)
    context.instance.add_run_tags(context.run.run_id, data_tags(workspace, name, key))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(artifact.content_hash),
        metadata=metadata_of(artifact, seconds=time.monotonic() - started),
        check_results=results,
    )
