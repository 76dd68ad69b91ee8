"""Fork a saver again and again, kill it at a random instant, and look at what is left."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from registry_support import metadata, weights

from tft_core.checkpoint_manager import CheckpointManager
from tft_core.errors import CheckpointError


def child(registry: CheckpointManager, first_seed: int, acknowledged: int) -> None:
    for seed in range(first_seed, first_seed + 1000):
        path = registry.save(weights(seed, size=20_000), metadata())
        os.write(acknowledged, f"{path.name}\n".encode())
        registry.promote(path, "newest")
        if seed % 5 == 4:
            registry.gc(keep=2)


def main(root: str, n_kills: int) -> None:
    registry, rng = CheckpointManager(root), random.Random(1)
    unloadable = lost = 0
    registry.save(weights(10**6), metadata())
    for kill in range(n_kills):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            try:
                child(registry, kill * 1000, writer)
            finally:
                os._exit(1)
        os.close(writer)
        time.sleep(rng.uniform(0.005, 0.15))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(reader) as stream:
            names = [line.strip() for line in stream]
        try:
            registry.load_latest()
            if registry.production_history():
                registry.load_production()
            bad = [row for row in registry.list_checkpoints() if row["status"] == "damaged"]
            unloadable += len(bad)
        except CheckpointError:
            unloadable += 1
        # promoted versions are never collected, so the last but one acknowledged must be there
        lost += sum(not (Path(root) / "x_trend" / name).is_dir() for name in names[:-1])
    registry.gc(keep=1)
    leftovers = [
        entry.name
        for entry in (Path(root) / "x_trend").iterdir()
        if entry.name.startswith((".stage", ".trash")) or entry.name.endswith(".tmp")
    ]
    print(
        json.dumps(
            {
                "kills": n_kills,
                "unloadable": unloadable,
                "lost_acknowledged": lost,
                "leftovers_after_gc": leftovers,
                "versions": len(registry.list_checkpoints()),
            }
        )
    )


main(sys.argv[1], int(sys.argv[2]))
