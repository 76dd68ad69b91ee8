"""Several processes save into one registry at once."""

import json
import os
import sys

from registry_support import metadata, weights

from tft_core.checkpoint_manager import CheckpointManager


def main(root: str, n_processes: int, n_saves: int) -> None:
    registry = CheckpointManager(root)
    children = []
    for process in range(n_processes):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for save in range(n_saves):
                    registry.save(weights(process * 1000 + save), metadata())
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    rows = registry.list_checkpoints()
    problems = [problem for row in rows for problem in registry.verify(row["path"])]
    problems += [f"exit {code}" for code in codes if code]
    print(json.dumps({"versions": [row["version"] for row in rows], "problems": problems}))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
