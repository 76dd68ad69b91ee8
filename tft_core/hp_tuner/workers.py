"""Runs the slots of a study: in this process, or in several that are started and watched.

A worker is one loop of claim → evaluate → tell. Everything it needs travels in ``Job``, which
is plain data and an importable builder, so that it can be spawned.
"""

import multiprocessing as mp
import os
import pickle
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from tft_core.errors import ConfigError, TuningError
from tft_core.hp_tuner.config import TunerConfig
from tft_core.hp_tuner.objective import Evaluate, Interrupted, run_trial, uses_wilcoxon
from tft_core.hp_tuner.queue import TrialQueue, on_stale, wait_a_little
from tft_core.hp_tuner.sampler import SlotSampler
from tft_core.hp_tuner.space import SearchSpace
from tft_core.hp_tuner.storage import Heartbeat, open_storage, storage_lock

MAX_IDLE_DEATHS = 10
"""Workers killed in a row without one inner fold getting done: then the machine is at fault."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to take part in a study."""

    config: TunerConfig
    space: SearchSpace
    builder: Callable[[], Evaluate]
    """Makes the objective; called once in each worker."""
    url: str
    study_name: str
    deadline: float
    """On the monotonic clock, which all processes of one machine share."""


class Opened(NamedTuple):
    """A study as one process sees it."""

    study: optuna.Study
    storage: RDBStorage
    queue: TrialQueue


def open_study(job: Job, *, create: bool = False) -> Opened:
    """Open a study and its slots; with ``create``, make it where it is missing.

    Raises:
        KeyError: It is missing and must not be made.
    """
    beat = job.config.heartbeat_seconds
    storage = open_storage(job.url, heartbeat_seconds=beat, on_stale=on_stale)
    machinery: dict[str, Any] = {
        "study_name": job.study_name,
        "storage": storage,
        "sampler": SlotSampler(job.config.seed),
        "pruner": _pruner(job.config),
    }
    if create:
        with storage_lock(job.url):
            study = optuna.create_study(direction="maximize", load_if_exists=True, **machinery)
    else:
        study = optuna.load_study(**machinery)
    queue = TrialQueue(
        study,
        storage,
        job.url,
        n_trials=job.config.n_trials,
        default_fixed=job.space.fixed(job.space.default_params()),
        grace_seconds=2.0 * beat,
    )
    return Opened(study, storage, queue)


def work(
    job: Job,
    opened: Opened,
    *,
    on_trial: Callable[[], None] | None = None,
    parent: int | None = None,
) -> None:
    """Run trials until the budget is spent.

    Args:
        on_trial: Called after each trial that this worker finished.
        parent: Process id of whoever started it; the worker stops when that is gone.
    """
    study, storage, queue = opened
    evaluate = job.builder()

    def should_stop() -> bool:
        orphaned = parent is not None and os.getppid() != parent
        return orphaned or time.monotonic() >= job.deadline

    queue.sweep()
    while not (should_stop() and queue.default_is_taken()):
        trial = queue.claim()
        if trial is None:
            if queue.is_finished():
                return
            # others still run: stay, one of them may die and leave its slot
            wait_a_little()
            queue.sweep()
            continue
        with Heartbeat(storage, queue.trial_id(trial.number)):
            finished = _run(study, queue, trial, evaluate, job, should_stop)
        if finished and on_trial is not None:
            on_trial()


def _run(
    study: optuna.Study,
    queue: TrialQueue,
    trial: optuna.trial.Trial,
    evaluate: Evaluate,
    job: Job,
    should_stop: Callable[[], bool],
) -> bool:
    """Run one trial; False if it was not finished here."""
    try:
        value = run_trial(trial, evaluate, job.config, job.space, should_stop)
        study.tell(trial, value)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except Interrupted:
        queue.requeue(trial.number, died=False)
        return False
    except UpdateFinishedTrialError:  # taken for dead and taken up by another worker
        return False
    except BaseException:
        queue.requeue(trial.number, died=False)
        raise
    return True


def supervise(job: Job, queue: TrialQueue, *, on_poll: Callable[[], None]) -> None:
    """Start ``n_jobs`` workers, replace those that are killed, and wait for the budget.

    Raises:
        ConfigError: The builder cannot be sent to another process.
        TuningError: A worker raised, or workers keep dying without getting on.
    """
    try:
        pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            "an objective builder must be importable (a module-level function or a partial of "
            f"one) when n_jobs > 1, found {job.builder!r}: {error}"
        ) from error
    context = mp.get_context("spawn")
    failures: Any = context.SimpleQueue()

    def start() -> SpawnProcess:
        process = context.Process(target=_worker_main, args=(job, os.getpid(), failures))
        process.start()
        return process

    workers = [start() for _ in range(job.config.n_jobs)]
    idle_deaths, seen = 0, queue.progress()
    try:
        while workers:
            wait_a_little()
            on_poll()
            ended = [w for w in workers if not w.is_alive()]
            workers = [w for w in workers if w.is_alive()]
            for worker in ended:
                if worker.exitcode == 0:
                    continue
                if not failures.empty():
                    raise TuningError(f"a tuning worker must not fail, found: {failures.get()}")
                queue.sweep()
                progress = queue.progress()
                idle_deaths = idle_deaths + 1 if progress == seen else 1
                seen = progress
                if idle_deaths > MAX_IDLE_DEATHS:
                    raise TuningError(
                        f"tuning workers must survive an inner fold, found {idle_deaths} of them "
                        f"dead in a row (exit code {worker.exitcode}); see if memory is short"
                    )
                workers.append(start())
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        if workers:
            queue.sweep()


def _worker_main(job: Job, parent: int, failures: Any) -> None:
    try:
        work(job, open_study(job), parent=parent)
    except Exception:  # noqa: BLE001 - carried to the parent, which raises it
        failures.put(traceback.format_exc())
        raise SystemExit(1) from None


def _pruner(config: TunerConfig) -> optuna.pruners.BasePruner:
    if uses_wilcoxon(config):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return optuna.pruners.WilcoxonPruner(p_threshold=0.1)
    return optuna.pruners.MedianPruner(
        n_startup_trials=config.prune_startup_trials, n_warmup_steps=config.prune_warmup_folds
    )
