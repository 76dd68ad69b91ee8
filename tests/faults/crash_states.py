"""Power cuts: what the disk may hold if only what was synced is sure to be there.

The system calls of an action are recorded. After each of them, everything that was fsynced is on
the disk; of the rest, any part may be: a directory's entry without the file's bytes, a rename
without the entry before it. States are drawn, laid out on disk and judged. The same with the
fsyncs left out is the control: if it found nothing, the test could find nothing.
"""

import itertools
import random
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import strace
from tests.faults.report import Row
from tests.faults.story import ACTIONS, copy_of, judge, open_registry, template

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_HANDLE = re.compile(r"\((\d+)<([^>]*)>")


@dataclass
class Node:
    """A file or directory; which names lead to it is its parents' business."""

    is_dir: bool
    data: bytes = b""
    synced: bool = True
    """Bytes of a file: on disk, or only in memory."""
    entries: dict[str, "Node"] = field(default_factory=dict)
    """Of a directory, as the processes see them."""
    sure: dict[str, "Node"] = field(default_factory=dict)
    """Of a directory, as the disk surely holds them."""


@dataclass(frozen=True)
class Change:
    """A change of names that happens on disk whole or not at all: (directory, name, node)."""

    parts: tuple[tuple[Node, str, Node | None], ...]


class Disk:
    """A tree of files with what is sure and what is pending."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = self._read(root)
        self.pending: list[Change] = []
        self.made: list[Node] = []

    def _read(self, path: Path) -> Node:
        if not path.is_dir():
            return Node(False, path.read_bytes())
        entries = {entry.name: self._read(entry) for entry in path.iterdir()}
        return Node(True, entries=entries, sure=dict(entries))

    def node(self, path: str) -> Node | None:
        found: Node | None = self.top
        for part in Path(path).relative_to(self.root).parts:
            found = found.entries.get(part) if found is not None else None
        return found

    def _change(self, *parts: tuple[str, Node | None]) -> None:
        change = []
        for path, node in parts:
            parent = self.node(str(Path(path).parent))
            assert parent is not None, path
            name = Path(path).name
            if node is None:
                parent.entries.pop(name, None)
            else:
                parent.entries[name] = node
            change.append((parent, name, node))
        self.pending.append(Change(tuple(change)))

    def apply(self, line: str) -> bool:
        """Do what a system call did; False where it changes nothing."""
        if " = -1 " in line:
            return False
        name = line.split("(", 1)[0]
        paths, handle = _QUOTED.findall(line), _HANDLE.match(line[len(name) :])
        if name == "openat" and "O_CREAT" in line and self.node(paths[0]) is None:
            node = Node(False, synced=True)
            self.made.append(node)
            self._change((paths[0], node))
        elif name == "mkdir":
            self._change((paths[0], Node(True)))
        elif name == "write" and handle and (written := self.node(handle[2])) is not None:
            written.synced = False
        elif name == "fsync" and handle and (node := self.node(handle[2])) is not None:
            self._sync(node)
        elif name == "rename":
            self._change((paths[0], None), (paths[1], self.node(paths[0])))
        elif name in ("unlink", "rmdir"):
            self._change((paths[0], None))
        elif name == "unlinkat" and handle:
            self._change((f"{handle[2]}/{paths[0]}", None))
        else:
            return False
        return True

    def _sync(self, node: Node) -> None:
        node.synced = True
        for change in [c for c in self.pending if any(p[0] is node for p in c.parts)]:
            _apply(change)
            self.pending.remove(change)


def _apply(change: Change) -> None:
    for directory, name, node in change.parts:
        if node is None:
            directory.sure.pop(name, None)
        else:
            directory.sure[name] = node


def lay_out(node: Node, path: Path, rng: random.Random) -> None:
    """Write what the disk holds; bytes never synced are there, in part, as zeros, or not."""
    if node.is_dir:
        path.mkdir()
        for name, entry in node.sure.items():
            lay_out(entry, path / name, rng)
        return
    data = node.data
    if not node.synced:
        half = len(data) // 2
        data = rng.choice([b"", data[:half], bytes(len(data)), data[:half] + bytes(half), data])
    path.write_bytes(data)


def _states(root: Path, lines: list[str], n_draws: int, rng: random.Random, *, fsync: bool):
    """(disk, is the action over) of every prefix of the calls and some draws of what is pending."""
    base = [line for line in lines if fsync or not line.startswith("fsync(")]
    for n_done in range(len(base) + 1):
        for draw in range(n_draws):
            disk = Disk(root)
            for line in base[:n_done]:
                disk.apply(line)
            keep = {0: 0.0, 1: 1.0}.get(draw, 0.5)
            for change in disk.pending:
                if rng.random() < keep:
                    _apply(change)
            yield n_done, disk, n_done == len(base)


def crash_states(folder: Path, n_draws: int = 4) -> Row:
    """Save, promote, rollback and gc cut at every call, with unsynced changes lost at will."""
    what, target = "power cut after every change: all that was not fsynced may be lost", 100
    if not strace.is_available():
        return Row(what, 0, 0, target, "", not_run=strace.MISSING)
    base, root, log = template(folder / "template"), folder / "registry", folder / "log"
    cut = folder / "cut"
    rng, problems, counts = random.Random(3), [], Counter[str]()
    for name, action in ACTIONS.items():
        copy_of(base, root)
        calls = strace.calls(lambda a=action: a.run(open_registry(root)), root, log)
        after = folder / "after"
        copy_of(root, after)
        lines = [call.line for call in calls]
        copy_of(base, root)
        probe = Disk(root)
        lines = [line for line in lines if probe.apply(line)]
        contents = _contents(probe, after)
        for with_fsync in (True, False):
            states = _states(root, lines, n_draws, rng, fsync=with_fsync)
            if not with_fsync:
                states = itertools.islice(states, 0, None, 2)
            for n_done, disk, over in states:
                for node, data in zip(disk.made, contents, strict=False):
                    node.data = data
                shutil.rmtree(cut, ignore_errors=True)
                lay_out(disk.top, cut, rng)
                found, new = judge(cut, action, acknowledged=over)
                if not with_fsync:
                    counts["control"] += 1
                    counts["control broken"] += bool(found)
                    continue
                counts["new" if new else "old"] += 1
                problems += [f"{name} after call {n_done}: {problem}" for problem in found]
    outcome = (
        f"{counts['old']} old, {counts['new']} new, all whole; control without fsync: "
        f"{counts['control broken']} of {counts['control']} states broken or lost"
    )
    bad = len(problems)
    if counts["control broken"] == 0:
        bad, problems = bad + 1, [*problems, "the control found nothing"]
    n = counts["old"] + counts["new"]
    return Row(what, n, bad, target, outcome, tuple(problems[:20]))


def _contents(disk: Disk, after: Path) -> list[bytes]:
    """Bytes of the files that the action made, in the order it made them."""
    paths: dict[int, Path] = {}

    def walk(node: Node, path: Path) -> None:
        paths[id(node)] = path
        for name, entry in node.entries.items():
            walk(entry, path / name)

    walk(disk.top, after)
    return [
        paths[id(node)].read_bytes() if id(node) in paths else b"gone before the end"
        for node in disk.made
    ]
