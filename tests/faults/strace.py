"""Killing and failing a process at a chosen system call, by strace's injection.

A child is forked with everything imported, stopped, traced and let go, so that a point costs
hundredths of a second and the calls it makes are those of the action alone.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MISSING = (
    "strace is not installed or may not trace here: `apt-get install strace` (and allow ptrace), "
    "then run `make test-faults` again"
)
_CALL = re.compile(r"([a-z0-9_]+)\(")
CHANGES = frozenset(
    {"mkdir", "mkdirat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat",
     "renameat2", "unlink", "unlinkat", "rmdir", "flock", "ftruncate", "close"}
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """The ``nth`` call of ``name`` in the traced process."""

    name: str
    nth: int
    line: str

    @property
    def changes(self) -> bool:
        return self.name in CHANGES or "O_CREAT" in self.line


def is_available() -> bool:
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    return done.returncode == 0


def traced(
    work: Callable[[], object], options: list[str], log: Path
) -> tuple[int, dict[str, str] | None]:
    """Fork, trace and run ``work``.

    Returns:
        The wait status, and what the child said of itself: ``{}`` where ``work`` returned, the
        type and text of an error else; ``None`` where it was killed before it could say anything.
    """
    # a socket: the answer must not need a call that may have been made to fail
    reader, writer = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            os.kill(os.getpid(), signal.SIGSTOP)
            answer: dict[str, str] = {}
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - what it is, is the question
                types = [kind.__name__ for kind in type(error).__mro__]
                answer = {"types": " ".join(types), "text": str(error)[:300]}
            writer.send((json.dumps(answer) + "\n").encode())
        finally:
            os._exit(0)  # never back into the caller's clean-up
    writer.close()
    os.waitpid(pid, os.WUNTRACED)
    command = ["strace", "-y", "-s", "0", "-o", str(log), *options, "-p", str(pid)]
    tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    status = Path(f"/proc/{pid}/status")
    while "TracerPid:\t0\n" in status.read_text():
        if tracer.poll() is not None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise RuntimeError(f"strace must attach to a child of its own, found it unable: {log}")
        time.sleep(0.001)
    os.kill(pid, signal.SIGCONT)
    _, code = os.waitpid(pid, 0)
    tracer.wait()
    with reader, reader.makefile() as stream:
        said = stream.readline()
    return code, json.loads(said) if said.endswith("\n") else None


def calls(work: Callable[[], object], root: Path, log: Path) -> list[Call]:
    """Every system call of ``work`` that touches ``root``, in order."""
    code, said = traced(work, [], log)
    if code != 0 or said != {}:
        raise RuntimeError(f"the action must succeed where nothing is injected, found {said}")
    seen: Counter[str] = Counter()
    found = []
    for line in log.read_text("utf-8", "replace").splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        seen[match[1]] += 1
        if str(root) in line:
            found.append(Call(match[1], seen[match[1]], line))
    return found
