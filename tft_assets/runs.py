"""Runs that hold what they no longer use: found by their dead process, ended, slots freed.

A process killed with -9 leaves its run STARTED and its slot of the ``gpu`` pool taken, and
the next run would wait for it for ever. A training step therefore writes its process into
its run's tags while it works.
"""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES, IN_PROGRESS_RUN_STATUSES

PARENT_TAG = "tft/parent_run"
PROCESS_TAG = "tft/process"
IDLE = "idle"
GRACE_S = 10.0


def process_name(pid: int | None = None) -> str:
    """``host:pid:start`` of a process: a pid alone is given away again, in containers at once."""
    pid = pid or os.getpid()
    return f"{socket.gethostname()}:{pid}:{_start_of(pid)}"


def is_gone(name: str) -> bool:
    """Whether a process of this machine has ended. One of another machine cannot be told."""
    parts = name.rsplit(":", 2)
    if len(parts) != 3 or parts[0] != socket.gethostname() or not parts[1].isdigit():
        return False
    pid, start = int(parts[1]), parts[2]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return start != _start_of(pid)


@contextmanager
def owned(context: dg.AssetExecutionContext, tags: Mapping[str, str]) -> Iterator[None]:
    """Say in the run's tags that this process works on a step, until the block ends.

    Args:
        tags: What else the run is to be found by.
    """
    if PARENT_TAG in context.run.tags:  # made by a builder, which tagged it with its process
        context.instance.add_run_tags(context.run.run_id, tags)
        yield
        return
    tag = f"{PROCESS_TAG}/{context.asset_key.to_user_string()}"
    context.instance.add_run_tags(context.run.run_id, {tag: process_name(), **tags})
    try:
        yield
    finally:
        context.instance.add_run_tags(context.run.run_id, {tag: IDLE})


def sweep_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """End the runs whose process is gone and free the slots of all runs that have ended.

    Returns:
        One line for each run that was ended or gave back a slot.
    """
    ended, lines = set(), []
    in_progress = dg.RunsFilter(statuses=list(IN_PROGRESS_RUN_STATUSES))
    for record in instance.get_run_records(in_progress):
        run = record.dagster_run
        names = [v for tag, v in run.tags.items() if tag.startswith(PROCESS_TAG)]
        if any(is_gone(name) for name in names if name != IDLE):
            instance.report_run_failed(run, "Its process ended without saying so (killed?).")
            ended.add(run.run_id)
            lines.append(f"ended run {run.run_id}: its process is gone")
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return lines
    holders = sorted(storage.get_concurrency_run_ids())
    if not holders:
        return lines
    finished = dg.RunsFilter(run_ids=holders, statuses=list(FINISHED_STATUSES))
    for record in instance.get_run_records(finished):
        run_id = record.dagster_run.run_id
        # a run that ended just now may still be giving its slot back by itself
        if run_id in ended or (record.end_time or 0.0) + GRACE_S < time.time():
            storage.free_concurrency_slots_for_run(run_id)
            lines.append(f"freed the slot of ended run {run_id}")
    return lines


def _start_of(pid: int) -> str:
    """Start time in clock ticks since boot where the system tells it (Linux), else nothing."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
