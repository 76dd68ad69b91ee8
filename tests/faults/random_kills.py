"""Fork a writer again and again, kill it at a random instant, and look at what is left."""

import os
import random
import signal
import time
from pathlib import Path

from tests.faults.report import Row
from tests.support.checkpoints import metadata, weights
from tft_core.checkpoint_manager import CheckpointManager
from tft_core.errors import CheckpointError

KILLS_PER_REGISTRY = 25


def write_on(registry: CheckpointManager, first_seed: int, acknowledged: int) -> None:
    os.write(acknowledged, b"begun\n")
    for seed in range(first_seed, first_seed + 1000):
        path = registry.save(weights(seed, size=20_000), metadata())
        os.write(acknowledged, f"{path.name}\n".encode())
        registry.promote(path, "newest")
        if seed % 4 == 3:
            registry.rollback("worse")
            registry.gc(keep=2)


def random_kills(folder: Path, n_kills: int = 500) -> Row:
    """SIGKILL at a random moment of a loop of save, promote, rollback and gc."""
    rng = random.Random(1)
    problems: list[str] = []
    n_acknowledged = n_left = 0
    cycle_s = 0.0
    registry = CheckpointManager(folder / "none")
    for kill in range(n_kills):
        if kill % KILLS_PER_REGISTRY == 0:
            n_left += _left_over(registry)
            registry = CheckpointManager(folder / f"registry_{kill}")
            started = time.monotonic()
            registry.promote(registry.save(weights(10**6, size=20_000), metadata()), "first")
            cycle_s = time.monotonic() - started
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            try:
                write_on(registry, kill * 1000, writer)
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader) as stream:
            stream.readline()
            time.sleep(rng.uniform(0.0, 4.0 * cycle_s))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            names = [line.strip() for line in stream]
        n_acknowledged += len(names)
        try:
            registry.load_latest()
            registry.load_production()
            rows = registry.list_checkpoints()
            problems += [str(row["problem"]) for row in rows if row["status"] == "damaged"]
        except CheckpointError as error:
            problems.append(f"cannot be served: {error}")
            continue
        # all but the last were promoted, and what was promoted is never collected
        there = {row["path"].name for row in rows}
        problems += [f"{name} is lost" for name in names[:-1] if name not in there]
    n_left += _left_over(registry)
    bad = len(problems) + n_left
    return Row(
        "SIGKILL at a random moment of save, promote, rollback, gc",
        n_kills,
        bad,
        500,
        f"latest and production loaded after each; {n_acknowledged:,} acknowledged saves, "
        f"{len(problems)} lost or damaged; {n_left} stages left after gc",
        tuple(problems[:20]),
    )


def _left_over(registry: CheckpointManager) -> int:
    """What killed writers left and gc did not take."""
    registry.gc(keep=1)
    folder = registry.root / "x_trend"
    return sum(
        entry.name.startswith((".stage", ".trash")) or entry.name.endswith(".tmp")
        for entry in (folder.iterdir() if folder.is_dir() else ())
    )
