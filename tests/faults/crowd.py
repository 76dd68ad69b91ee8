"""Several processes save into one registry at once, beside a promoter, a collector, a reader."""

import os
import time
from pathlib import Path

from tests.faults.report import Row
from tests.support.checkpoints import metadata, weights
from tft_core.checkpoint_manager import CheckpointManager


def crowd(folder: Path, n_processes: int = 8, n_saves: int = 50) -> Row:
    """Concurrent savers; versions must be distinct and complete, readers never see half."""
    registry = CheckpointManager(folder / "registry", lock_timeout_s=300.0)
    registry.promote(registry.save(weights(10**6), metadata(fold="first")), "first")
    savers = [
        _fork(lambda p=process: _save(registry, p, n_saves)) for process in range(n_processes)
    ]
    done, loads = folder / "done", folder / "loads"
    reader = _fork(lambda: _read(registry, done, loads))
    promoter = _fork(lambda: _promote(registry, done))
    codes = [os.waitpid(pid, 0)[1] for pid in savers]
    done.touch()
    codes += [os.waitpid(pid, 0)[1] for pid in (reader, promoter)]
    problems = [f"a process ended with {code}" for code in codes if code]
    rows = registry.list_checkpoints()
    versions = [row["version"] for row in rows]
    wanted = list(range(1, n_processes * n_saves + 2))
    if versions != wanted:
        problems.append(f"versions are {versions[:10]}… ({len(set(versions))} distinct)")
    problems += [problem for row in rows for problem in registry.verify(row["path"])]
    in_production = sum(row["status"] == "production" for row in rows)
    if in_production != 1:
        problems.append(f"{in_production} versions in production")
    return Row(
        f"{n_processes} processes × {n_saves} saves at once, with promotions, gc and a reader",
        n_processes * n_saves,
        len(problems),
        400,
        f"{len(set(versions)) - 1} distinct versions, all whole; "
        f"{len(registry.production_history())} promotions, 1 version in production; "
        f"{loads.read_text() if loads.exists() else 'no'} reads, 0 errors",
        tuple(problems[:20]),
    )


def _fork(work) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def _save(registry: CheckpointManager, process: int, n_saves: int) -> None:
    for save in range(n_saves):
        registry.save(weights(process * 1000 + save), metadata(fold=f"fold {process}"))


def _read(registry: CheckpointManager, done: Path, loads: Path) -> None:
    n = 0
    while not done.exists() or n == 0:
        registry.load_latest()
        registry.load_production()
        n += 2
        loads.write_text(f"{n:,}")


def _promote(registry: CheckpointManager, done: Path) -> None:
    while not done.exists():
        registry.promote(registry.latest_path(), "newest")
        registry.gc(keep=10**6)
        time.sleep(0.02)
    registry.promote(registry.latest_path(), "last")
