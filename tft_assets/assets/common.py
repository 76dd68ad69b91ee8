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
from tft_assets.runs import owned
from tft_core.errors import TftError
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
        self, name: str, *, group: str, kinds: set[str], carries_over: bool = False
    ) -> dict[str, Any]:
        """Arguments of ``dg.asset`` that follow from the graph.

        Args:
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
    """
    with owned(context, code_tags(workspace)):
        return made(context, workspace, config)


def made(
    context: dg.AssetExecutionContext,
    workspace: LifecycleWorkspace,
    config: Overrides | None = None,
) -> dg.MaterializeResult:
    """``materialize`` for a body that owns its run already."""
    name = context.asset_key.to_user_string()
    key = context.partition_key if context.has_partition_key else UNPARTITIONED_KEY
    started = time.monotonic()
    try:
        progress = throttled(with_time_left(context.log.info))
        artifact = workspace.build(name, key, config.to_core() if config else {}, progress)
        results = check_results(artifact)
        tags = data_tags(workspace, name, key)
    except TftError as error:
        raise failure(error) from None
    context.instance.add_run_tags(context.run.run_id, tags)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(artifact.content_hash),
        metadata=metadata_of(artifact, seconds=time.monotonic() - started),
        check_results=results,
    )


def failure(error: TftError) -> dg.Failure:
    """A deliberate error of the core as Dagster shows it: its message, and no retry."""
    return dg.Failure(
        description=str(error),
        metadata={"error": type(error).__name__},
        allow_retries=False,
    )
