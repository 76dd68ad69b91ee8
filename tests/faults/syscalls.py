"""Kills and errors at every system call by which an action touches the registry."""

import os
import signal
from collections import Counter
from pathlib import Path

from tests.faults import strace
from tests.faults.report import Row
from tests.faults.story import ACTIONS, copy_of, judge, open_registry, recover, template

ERRORS = ("ENOSPC", "EACCES", "EIO")


def kill_points(folder: Path, *, every: int = 1) -> Row:
    """SIGKILL at each call of save, promote, rollback and gc that touches the registry."""
    what, target = "SIGKILL at every system call of save, promote, rollback, gc", 40
    if not strace.is_available():
        return Row(what, 0, 0, target, "", not_run=strace.MISSING)
    base, root, log = template(folder / "template"), folder / "registry", folder / "log"
    problems: list[str] = []
    bad, outcomes, per_action = 0, Counter[str](), Counter[str]()
    for name, action in ACTIONS.items():
        copy_of(base, root)
        points = strace.calls(lambda a=action: a.run(open_registry(root)), root, log)
        for call in points[::every]:
            copy_of(base, root)
            code, said = strace.traced(
                lambda a=action: a.run(open_registry(root)),
                ["-e", f"inject={call.name}:signal=SIGKILL:when={call.nth}"],
                log,
            )
            if not os.WIFSIGNALED(code) or os.WTERMSIG(code) != signal.SIGKILL:
                outcomes["missed"] += 1
                continue
            found, new = judge(root, action, acknowledged=said is not None)
            found += recover(root, action, was_new=new)
            bad += bool(found)
            problems += [f"{name} at {call.line[:160]}: {problem}" for problem in found]
            outcomes["new" if new else "old"] += 1
            per_action[name] += 1
    n = sum(per_action.values())
    points_text = ", ".join(f"{name} {count}" for name, count in per_action.items())
    outcome = (
        f"{outcomes['old']} old, {outcomes['new']} new, all whole; then went on and cleaned up "
        f"({points_text})"
    )
    if outcomes["missed"]:
        problems.append(f"{outcomes['missed']} kills did not reach the process")
        bad += outcomes["missed"]
    return Row(what, n, bad, target, outcome, tuple(problems[:20]))


def errors(folder: Path, *, every: int = 1) -> Row:
    """A full disk, a refusal or an I/O error at each call, once and from there on."""
    what, target = "ENOSPC, EACCES, EIO at the system calls of the same", 30
    if not strace.is_available():
        return Row(what, 0, 0, target, "", not_run=strace.MISSING)
    base, root, log = template(folder / "template"), folder / "registry", folder / "log"
    problems: list[str] = []
    n, bad, outcomes = 0, 0, Counter[str]()
    for name, action in ACTIONS.items():
        copy_of(base, root)
        points = strace.calls(lambda a=action: a.run(open_registry(root)), root, log)
        plans = []
        for position, call in enumerate(points):
            if call.changes:
                plans += [(call, error, "") for error in ERRORS]
                plans.append((call, ERRORS[position % 3], "+"))
            else:  # a read: one kind of error, in turn
                plans.append((call, ERRORS[1 + position % 2], ""))
        for call, error, more in plans[::every]:
            copy_of(base, root)
            _, said = strace.traced(
                lambda a=action: a.run(open_registry(root)),
                ["-e", f"inject={call.name}:error={error}:when={call.nth}{more}"],
                log,
            )
            n += 1
            where = f"{name}, {error}{more} at {call.line[:160]}"
            if said is None:
                found, new = ["the process died"], False
            else:
                # gc spares what it cannot read, and says so in its answer
                found, new = judge(root, action, acknowledged=said == {} and name != "gc")
                if said and "TftError" not in said["types"].split():
                    found.append(f"error without a type of ours: {said}")
                outcomes["done all the same" if said == {} else "typed error"] += 1
                found += recover(root, action, was_new=new)
            bad += bool(found)
            problems += [f"{where}: {problem}" for problem in found]
    outcome = (
        f"{outcomes['typed error']} typed errors, {outcomes['done all the same']} where the "
        "change was made all the same; old or new version served, then went on"
    )
    return Row(what, n, bad, target, outcome, tuple(problems[:20]))


def read_errors(folder: Path) -> Row:
    """EACCES and EIO at each call of a reader."""
    what, target = "EACCES, EIO at the system calls of list, verify and load", 30
    if not strace.is_available():
        return Row(what, 0, 0, target, "", not_run=strace.MISSING)
    root, log = template(folder / "template"), folder / "log"

    def read() -> None:
        registry = open_registry(root)
        for row in registry.list_checkpoints():
            registry.verify(row["path"])
        registry.load_latest()
        registry.load_production()

    problems: list[str] = []
    n, bad, outcomes = 0, 0, Counter[str]()
    for position, call in enumerate(strace.calls(read, root, log)):
        error = ERRORS[1 + position % 2]
        inject = f"inject={call.name}:error={error}:when={call.nth}"
        _, said = strace.traced(read, ["-e", inject], log)
        n += 1
        typed = said is not None and (said == {} or "TftError" in said["types"].split())
        outcomes["not in the way" if said == {} else "typed error"] += 1
        if not typed:
            bad += 1
            problems.append(f"{error} at {call.line[:160]}: {said}")
    outcome = (
        f"{outcomes['typed error']} typed errors; {outcomes['not in the way']} not in the way "
        "(one version reported damaged, or a call whose answer does not matter)"
    )
    return Row(what, n, bad, target, outcome, tuple(problems[:20]))
