"""Runs that hold what they no longer use: found by their dead process, ended, slots freed.

A process killed with -9 leaves its run STARTED and its slot of the ``gpu`` pool taken, and
the next run would wait for it for ever. A run's worker therefore writes its process into the
run's tags before it takes a slot, and each step its own while it works. Every run looks for
dead ones at its start, and so does the sensor ``dead_runs``.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg
from dagster import _check as check
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from tft_core.processes import has_ended, started_at

PARENT_TAG = "tft/parent_run"
PROCESS_TAG = "tft/process"
"""The run's worker; with an asset's name after a slash, the process of that step."""
IDLE = "idle"
GRACE_S = 10.0
START_GRACE_S = 2.0
"""A run that was re-executed has its predecessor's tags until its own worker begins."""
KILLED = "Its process ended without saying so (killed?)."
"""How a run ends that the sweep found dead; alerts know it by this."""


def process_name(pid: int | None = None) -> str:
    """``host:pid:start`` of a process: a pid alone is given away again, in containers at once."""
    pid = pid or os.getpid()
    start = started_at(pid)
    return f"{socket.gethostname()}:{pid}:{'' if start is None else start}"


def is_gone(name: str) -> bool:
    """Whether a process of this machine has ended. One of another machine cannot be told."""
    parts = name.rsplit(":", 2)
    if len(parts) != 3 or parts[0] != socket.gethostname() or not parts[1].isdigit():
        return False
    return has_ended(int(parts[1]), int(parts[2]) if parts[2].isdigit() else None)


class OwnedExecutor(dg.Executor):
    """An executor whose runs are known by their worker's process, and look for dead runs first."""

    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    @property
    def retries(self) -> RetryMode:
        return self._inner.retries

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[DagsterEvent]:
        instance = plan_context.instance
        instance.add_run_tags(plan_context.run_id, {PROCESS_TAG: process_name()})
        for line in sweep_dead_runs(instance):
            plan_context.log.warning(line)
        yield from self._inner.execute(plan_context, execution_plan)


def owned_executor(inner: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """The same executor, its runs owned by their worker's process."""

    def create(context: dg.InitExecutorContext) -> OwnedExecutor:
        return OwnedExecutor(check.not_none(inner.executor_creation_fn)(context))

    return dg.ExecutorDefinition(
        name=inner.name,
        config_schema=inner.config_schema,  # pyright: ignore[reportArgumentType]
        requirements=inner.get_requirements,
        executor_creation_fn=create,
        description=inner.description,
    )


def made_by_builder(run: dg.DagsterRun) -> bool:
    """Whether a builder started a run and tells of it.

    A person's re-execution of such a run has its tags, but no builder.
    """
    return PARENT_TAG in run.tags and run.parent_run_id is None


@contextmanager
def owned(context: dg.AssetExecutionContext, tags: Mapping[str, str]) -> Iterator[None]:
    """Say in the run's tags that this process works on a step, until the block ends.

    Args:
        tags: What else the run is to be found by.
    """
    if made_by_builder(context.run):  # which tagged it with its process
        context.instance.add_run_tags(context.run.run_id, tags)
        yield
        return
    tag = f"{PROCESS_TAG}/{context.asset_key.to_user_string()}"
    mine = {tag: process_name(), **tags}
    run = context.instance.get_run_by_id(context.run.run_id)
    worker = None if run is None else run.tags.get(PROCESS_TAG)
    if worker is None:  # no executor: this process is the run's
        mine[PROCESS_TAG] = process_name()
    else:
        end_with(worker)
    context.instance.add_run_tags(context.run.run_id, mine)
    try:
        yield
    finally:
        context.instance.add_run_tags(context.run.run_id, {tag: IDLE})


def end_with(worker: str) -> None:
    """Interrupt this step's process when the run's worker that started it has ended.

    Nobody would take what an orphan makes, and its slot would be taken as long as it works.
    """
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None or worker != process_name(parent.pid):
        return
    sentinel = parent.sentinel

    def interrupt() -> None:
        multiprocessing.connection.wait([sentinel])
        os.kill(os.getpid(), signal.SIGINT)  # drafts are removed, as at Ctrl-C
        time.sleep(GRACE_S)
        os._exit(1)

    threading.Thread(target=interrupt, name="end-with-worker", daemon=True).start()


def sweep_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """End the runs whose processes are gone and free the slots of all runs that have ended.

    A run whose worker is gone but one of whose steps still works is left alone until that step
    has ended: its slot is in use.

    Returns:
        One line for each run that was ended or gave back a slot.
    """
    ended, lines = set(), []
    # one that is only starting shows the tags of the run it repeats, if it repeats one
    at_work_statuses = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    for record in instance.get_run_records(dg.RunsFilter(statuses=at_work_statuses)):
        run = record.dagster_run
        names = [v for tag, v in run.tags.items() if tag.startswith(PROCESS_TAG)]
        at_work = [name for name in names if name != IDLE]
        has_begun = (record.start_time or 0.0) + START_GRACE_S < time.time()
        if has_begun and at_work and all(is_gone(name) for name in at_work):
            now = instance.get_run_by_id(run.run_id)
            if now is None or now.is_finished:  # it ended well since it was listed
                continue
            instance.report_run_failed(run, KILLED)
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
