"""Kill points without strace: a process that kills itself at each audited call on the registry.

Python announces opens, renames, removals and new directories to audit hooks; fsync and flock are
wrapped. Coarser than system calls (a write can't be cut in two), but it needs nothing installed.
"""

import fcntl
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.faults.report import Row
from tests.faults.story import ACTIONS, copy_of, judge, open_registry, recover, template

AUDITED = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir",
                     "os.scandir", "shutil.rmtree"})  # fmt: skip


def audited_kills(folder: Path, *, every: int = 1) -> Row:
    base, root = template(folder / "template"), folder / "registry"
    problems: list[str] = []
    outcomes = Counter[str]()
    n = 0
    for name, action in ACTIONS.items():
        copy_of(base, root)
        n_points = _run(lambda a=action: a.run(open_registry(root)), root, kill_at=None)
        for point in range(0, n_points, every):
            copy_of(base, root)
            _run(lambda a=action: a.run(open_registry(root)), root, kill_at=point)
            found, new = judge(root, action)
            found += recover(root, action, was_new=new)
            problems += [f"{name} at call {point}: {problem}" for problem in found]
            outcomes["new" if new else "old"] += 1
            n += 1
    return Row(
        "SIGKILL at audited calls of save, promote, rollback, gc",
        n,
        len(problems),
        40,
        f"{outcomes['old']} old, {outcomes['new']} new, all whole",
        tuple(problems[:20]),
    )


def _run(work: Callable[[], object], root: Path, kill_at: int | None) -> int:
    """Fork, count the calls on ``root``, and die at number ``kill_at``; gives their number."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        count = 0

        def step() -> None:
            nonlocal count
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

        def hook(event: str, arguments: tuple) -> None:
            if event in AUDITED and str(root) in repr(arguments[:2]):
                step()

        fsync, flock = os.fsync, fcntl.flock
        os.fsync = lambda handle: (step(), fsync(handle))[1]
        fcntl.flock = lambda handle, operation: (step(), flock(handle, operation))[1]
        sys.addaudithook(hook)
        try:
            work()
            os.write(writer, f"{count}\n".encode())
        finally:
            os._exit(0)
    os.close(writer)
    _, code = os.waitpid(pid, 0)
    with os.fdopen(reader) as stream:
        said = stream.read()
    if kill_at is not None and not os.WIFSIGNALED(code):
        raise RuntimeError(f"the process must die at its call {kill_at}, found it alive")
    return int(said) if said else 0
