"""One small registry, what is done to it, and what must hold whatever happened meanwhile.

The registry holds four versions of one fold: v1 and v2 were promoted (v2 is in production), v3
and v4 were not; a dead writer's stage lies beside them. Each action changes one thing.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.checkpoints import metadata, weights
from tft_core.checkpoint_manager import CheckpointManager
from tft_core.errors import CheckpointError

LOCK_TIMEOUT_S = 0.5


@dataclass(frozen=True)
class Action:
    """One change of the registry, and the versions that are served before and after it."""

    run: Callable[[CheckpointManager], object]
    latest: tuple[int, int]
    production: tuple[int, int]
    removes: frozenset[int] = frozenset()


ACTIONS = {
    "save": Action(
        lambda registry: registry.save(
            weights(9), metadata(), {"kept": ["a"]}, {"n": 3}, {"report.html": b"<html>"}
        ),
        latest=(4, 5),
        production=(2, 2),
    ),
    "promote": Action(
        lambda registry: registry.promote(4, "newer"), latest=(4, 4), production=(2, 4)
    ),
    "rollback": Action(
        lambda registry: registry.rollback("worse"), latest=(4, 4), production=(2, 1)
    ),
    "gc": Action(
        lambda registry: registry.gc(keep=1),
        latest=(4, 4),
        production=(2, 2),
        removes=frozenset({3}),
    ),
}


def open_registry(root: Path) -> CheckpointManager:
    return CheckpointManager(root, lock_timeout_s=LOCK_TIMEOUT_S)


def template(root: Path) -> Path:
    registry = open_registry(root)
    for seed in range(4):
        registry.save(weights(seed), metadata(), extra_files={"note.txt": b"a note"})
    registry.promote(1, "first")
    registry.promote(2, "second")
    stage = root / "x_trend" / f".stage-{os.uname().nodename}-999999999-abc"
    stage.mkdir()
    (stage / "model.safetensors").write_bytes(b"half of i")
    return root


def copy_of(template_root: Path, root: Path) -> Path:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(template_root, root)
    return root


def judge(root: Path, action: Action, *, acknowledged: bool = False) -> tuple[list[str], bool]:
    """Problems of what is left ([]: whole, old or new, nothing lost), and whether it is the new.

    Args:
        acknowledged: The action returned, so the new state must be there.
    """
    registry, problems = open_registry(root), []
    versions: dict[int, Path] = {}
    try:
        for row in registry.list_checkpoints():
            versions[row["version"]] = row["path"]
            problems += registry.verify(row["path"])
        latest = registry.load_latest()[1].version
        production = registry.load_production()[1].version
    except CheckpointError as error:
        return [*problems, f"cannot be served: {error}"], False
    if latest not in action.latest or production not in action.production:
        problems.append(f"serves latest v{latest} and production v{production}")
    new = (latest, production) == (action.latest[1], action.production[1])
    new = new and not (action.removes & set(versions))
    lost = {1, 2, 3, 4} - action.removes - set(versions)
    problems += [f"v{version} is lost" for version in sorted(lost)]
    if acknowledged and not new:
        problems.append("an acknowledged change is lost")
    return problems, new


def recover(root: Path, action: Action, *, was_new: bool) -> list[str]:
    """Problems of going on afterwards: the action done again, clean-up, nothing left over."""
    registry = open_registry(root)
    try:
        if not was_new:
            action.run(registry)
        registry.gc(keep=9)
    except CheckpointError as error:
        return [f"cannot go on: {error}"]
    problems, is_new = judge(root, action, acknowledged=True)
    leftovers = [
        entry.name
        for entry in (root / "x_trend").iterdir()
        if entry.name.startswith((".stage", ".trash")) or entry.name.endswith(".tmp")
    ]
    return problems + ([] if is_new else ["not new"]) + [f"left over: {n}" for n in leftovers]
