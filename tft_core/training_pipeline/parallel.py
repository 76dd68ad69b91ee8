"""Builds artifacts that do not wait for one another side by side, each in a process of its own.

Which process builds an artifact changes nothing in it: seeds and threads are pinned per
training. No Dagster here; Dagster's executors do the same for its runs.
"""

import logging
import multiprocessing as mp
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

from tft_core.errors import TrainingError
from tft_core.logs import begin_context, get_logger, known_context
from tft_core.training_pipeline.workspace import Workspace

Pair = tuple[str, str]
"""Asset and partition key."""

LOG_FORMAT = "%(asctime)s %(name)s: %(message)s"


class Watcher(Protocol):
    """Is told how a run gets on."""

    def started(self, pair: Pair) -> None: ...

    def built(self, pair: Pair, seconds: float) -> None: ...

    def is_fresh(self, pair: Pair) -> None:
        """The artifact need not be built (again)."""


def build_in_turn(workspace: Workspace, watcher: Watcher) -> None:
    """Build what is missing or stale, one after another in this process.

    Raises:
        TftError: The first failure of a build.
    """
    for pair in workspace.lifecycle():
        if workspace.is_fresh(*pair):
            watcher.is_fresh(pair)
            continue
        watcher.started(pair)
        watcher.built(pair, _build(workspace, *pair))


def build_side_by_side(workspace: Workspace, watcher: Watcher, workers: int) -> None:
    """Build what is missing or stale, up to ``workers`` artifacts at a time.

    Raises:
        TftError: The first failure of a build; builds that ran beside it are finished first.
        TrainingError: A build process was killed.
    """
    waiting = workspace.lifecycle()
    unsettled = set(waiting)
    running: dict[Future[float], Pair] = {}
    failure: BaseException | None = None
    level = logging.getLogger("tft_core").getEffectiveLevel()
    with ProcessPoolExecutor(
        workers, mp.get_context("spawn"), initializer=_prepare, initargs=(level, known_context())
    ) as pool:
        while (waiting and failure is None) or running:
            if failure is None:
                waiting = _submit_ready(
                    workspace, watcher, pool, workers, waiting, unsettled, running
                )
            if not running:
                continue
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                pair = running.pop(future)
                error = future.exception()
                if error is None:
                    unsettled.discard(pair)
                    watcher.built(pair, future.result())
                elif failure is None:
                    failure = _explained(error, pair)
    if failure is not None:
        raise failure


def _submit_ready(
    workspace: Workspace,
    watcher: Watcher,
    pool: ProcessPoolExecutor,
    workers: int,
    waiting: list[Pair],
    unsettled: set[Pair],
    running: dict[Future[float], Pair],
) -> list[Pair]:
    """Start what can start; returns what still waits."""
    left = []
    for pair in waiting:
        is_ready = not any(upstream in unsettled for upstream in workspace.upstream(*pair))
        if is_ready and workspace.is_fresh(*pair):
            unsettled.discard(pair)
            watcher.is_fresh(pair)
        elif is_ready and len(running) < workers:
            watcher.started(pair)
            running[pool.submit(_build, workspace, *pair)] = pair
        else:
            left.append(pair)
    return left


def _build(workspace: Workspace, asset: str, key: str) -> float:
    began = time.perf_counter()
    workspace.build(asset, key, progress=get_logger(__name__).info)
    return time.perf_counter() - began


def _prepare(level: int, known: Mapping[str, str]) -> None:
    """A started process knows nothing of its parent's logging."""
    logging.basicConfig(level=level, format=LOG_FORMAT)
    begin_context(known)


def _explained(error: BaseException, pair: Pair) -> BaseException:
    if not isinstance(error, BrokenProcessPool):
        return error
    killed = TrainingError(
        f"the process that builds {'/'.join(pair)} must end by itself, found it killed; see if "
        "memory is short and run again with fewer workers: what was finished is kept"
    )
    killed.__cause__ = error
    return killed
