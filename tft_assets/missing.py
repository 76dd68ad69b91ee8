"""What is missing or stale upstream of the production checkpoint, and building it.

Each build is an ordinary Dagster run of one partition of one asset: visible, with its own
logs, pool slot and place in the history, and kept when a later one fails.

Staleness is Dagster's (code and data versions), read through its private resolver, joined
with the core's own view of the files. So a deleted file, another state directory and bars
that arrived in the store are seen, though Dagster's records are untouched.
"""

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.definitions.data_version import (
    CachingStaleStatusResolver,
    StaleCause,
    StaleStatus,
)
from dagster._core.definitions.temporal_context import TemporalContext
from dagster._time import get_current_datetime
from filelock import FileLock, Timeout

from tft_assets.failures import failure_of
from tft_assets.metadata import BUILD_SECONDS
from tft_assets.progress import Durations, spoken
from tft_assets.resources import LifecycleWorkspace
from tft_assets.runs import PARENT_TAG, PROCESS_TAG, process_name
from tft_core.errors import ArtifactError, TftError
from tft_core.training_pipeline.graph import LIFECYCLE, SPECS, keys_of, made_from

UPSTREAM = LIFECYCLE[:-1]
"""All that the production checkpoint stands on, in the order it is made."""


class BuildError(TftError):
    """Something upstream could not be built, or must not be."""


@dataclass(frozen=True, slots=True)
class Need:
    """A partition that must be made, and why."""

    asset: str
    key: str
    reason: str

    @property
    def name(self) -> str:
        return f"{self.asset}[{self.key}]"


def needs(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    workspace: LifecycleWorkspace,
    asset: str,
    keys: Sequence[str] | None = None,
) -> list[Need]:
    """Partitions of one asset that are missing, stale or failed, as things stand now."""
    graph = defs.resolve_asset_graph()
    view = AssetGraphView(
        temporal_context=TemporalContext(effective_dt=get_current_datetime(), last_event_id=None),
        instance=instance,
        asset_graph=graph,
    )
    resolver = CachingStaleStatusResolver(instance, graph, loading_context=view)
    found = []
    for key in keys_of(SPECS[asset], workspace.plan) if keys is None else keys:
        reason = _reason(resolver, workspace, asset, key)
        if reason:
            found.append(Need(asset, key, reason))
    return found


def _reason(
    resolver: CachingStaleStatusResolver, workspace: LifecycleWorkspace, asset: str, key: str
) -> str | None:
    """Why a partition must be made, or ``None`` if it is as it should be."""
    try:
        artifact = workspace.artifacts.current(asset, key)
        is_fresh = artifact is not None and workspace.is_fresh(asset, key)
    except ArtifactError as error:  # damaged, or made from something that is
        return str(error)
    if artifact is None:
        return "missing"
    partition = None if SPECS[asset].partitions == "none" else key
    status = resolver.get_status(dg.AssetKey(asset), partition)
    if status == StaleStatus.MISSING:
        return "unknown to this Dagster instance"
    if status == StaleStatus.STALE:
        causes = resolver.get_stale_root_causes(dg.AssetKey(asset), partition)
        return "; ".join(dict.fromkeys(_spoken(cause) for cause in causes[:3]))
    if not artifact.passed:
        return "failed its check"
    return None if is_fresh else "made from other files, bars or settings than there are now"


def _spoken(cause: StaleCause) -> str:
    key = f"[{cause.partition_key}]" if cause.partition_key else ""
    return f"{cause.asset_key.to_user_string()}{key} {cause.reason}"


def needs_at_most(
    instance: dg.DagsterInstance, defs: dg.Definitions, workspace: LifecycleWorkspace
) -> tuple[list[Need], int]:
    """What must be made now, and how many builds that can come to with all that lies below."""
    direct, below = needs_and_below(instance, defs, workspace)
    return direct, len(direct) + len(below)


def needs_and_below(
    instance: dg.DagsterInstance, defs: dg.Definitions, workspace: LifecycleWorkspace
) -> tuple[list[Need], list[Need]]:
    """What must be made now, and what lies downstream of it and may have to follow.

    The second list is an upper bound: a partition made again to the same content leaves
    what lies downstream of it as it is.
    """
    direct = [n for a in UPSTREAM for n in needs(instance, defs, workspace, a)]
    touched, below = {(need.asset, need.key) for need in direct}, []
    for asset in UPSTREAM:
        for key in keys_of(SPECS[asset], workspace.plan):
            above = made_from(asset, key, workspace.plan, workspace.retune_every)
            if (asset, key) not in touched and any(pair in touched for pair in above):
                touched.add((asset, key))
                below.append(Need(asset, key, "if what it is made from changes"))
    return direct, below


def refuse_missing(
    instance: dg.DagsterInstance, defs: dg.Definitions, workspace: LifecycleWorkspace
) -> None:
    """``on_missing: fail``.

    Raises:
        BuildError: Anything upstream is missing or stale; the message counts and names it.
    """
    direct, _ = needs_at_most(instance, defs, workspace)
    if direct:
        first = direct[0]
        raise BuildError(
            f"everything upstream of production_checkpoint must be fresh, found {len(direct)} "
            f"partitions that are not ({_counted(direct)}; first {first.name}: {first.reason}); "
            "backfill them from the asset graph or run with on_missing: build"
        )


def build_missing(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    workspace: LifecycleWorkspace,
    *,
    parent_run_id: str,
    log: Callable[[str], None],
) -> list[Need]:
    """Make whatever is missing or stale upstream of the production checkpoint.

    Args:
        parent_run_id: The run that asks; every run made here is tagged with it.
        log: Takes a line before each build.

    Returns:
        What was built, in order.

    Raises:
        BuildError: A build failed. What was built before it stays; the next call resumes.
        ConfigError: A section of the settings cannot be used, whichever phase reads it.
    """
    # reads PyTorch's configurations: not to be paid for when definitions are loaded
    from tft_core.training_pipeline.configured import require_usable

    direct, at_most = needs_at_most(instance, defs, workspace)
    if not direct:
        log("Nothing upstream is missing or stale.")
        return []
    require_usable(workspace.settings)
    log(
        f"{len(direct)} partitions are missing or stale ({_counted(direct)}); with what lies "
        f"downstream of them at most {at_most} builds."
    )
    job = defs.resolve_implicit_global_asset_job_def()
    tags = {PARENT_TAG: parent_run_id, PROCESS_TAG: process_name()}
    durations, built, begun = durations_so_far(instance), [], time.monotonic()
    for position, asset in enumerate(UPSTREAM):
        todo = needs(instance, defs, workspace, asset)
        for number, need in enumerate(todo):
            rest = [asset] * (len(todo) - number) + [
                n.asset for n in direct if UPSTREAM.index(n.asset) > position
            ]
            log(
                f"Build {len(built) + 1} of at most {max(at_most, len(built) + len(rest))}: "
                f"{need.name} ({need.reason}); {durations.left(rest)}."
            )
            started = time.monotonic()
            result = job.execute_in_process(
                asset_selection=[dg.AssetKey(asset)],
                partition_key=need.key,
                instance=instance,
                tags=tags,
                raise_on_error=False,
            )
            if not result.success:
                raise BuildError(
                    f"{need.name} must be built before production_checkpoint, found its run "
                    f"{result.run_id} failed: "
                    f"{failure_of(result.all_events).message or 'see its page'}"
                )
            durations.add(asset, time.monotonic() - started)
            built.append(need)
    log(f"Built {len(built)} partitions in {spoken(time.monotonic() - begun)}.")
    return built


@contextmanager
def only_builder(home: Path, run_id: str) -> Iterator[None]:
    """Hold the builder's lock of a state directory; it dies with the process.

    Raises:
        BuildError: Another run is building there.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    holder = home / "builder.json"
    lock = FileLock(home / "builder.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        try:
            held = json.loads(holder.read_text(encoding="utf-8"))
            who = f"run {held['run_id']} (pid {held['pid']} on {held['host']})"
        except (OSError, ValueError, KeyError):
            who = "another run"
        raise BuildError(
            f"production_checkpoint must have one builder at a time, found {who} building in "
            f"{home}; wait for it or terminate it"
        ) from error
    try:
        mine = {"run_id": run_id, "pid": os.getpid(), "host": socket.gethostname()}
        holder.write_text(json.dumps(mine), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def durations_so_far(instance: dg.DagsterInstance, more: Sequence[str] = ()) -> Durations:
    """What each asset's newest materialization took, so that a first line can say how long.

    Args:
        more: Assets beside the upstream ones.
    """
    durations = Durations()
    for asset in (*UPSTREAM, *more):
        event = instance.get_latest_materialization_event(dg.AssetKey(asset))
        made = event.asset_materialization if event else None
        entry = made.metadata.get(BUILD_SECONDS) if made else None
        if isinstance(entry, dg.FloatMetadataValue) and entry.value is not None:
            durations.add(asset, float(entry.value))
    return durations


def _counted(found: Sequence[Need]) -> str:
    counts = Counter(need.asset for need in found)
    return ", ".join(f"{asset} {counts[asset]}" for asset in UPSTREAM if counts[asset])
