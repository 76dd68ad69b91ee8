"""Removes what nothing refers to any more: superseded artifacts, abandoned drafts, old models."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tft_core.errors import ConfigError
from tft_core.schema import LIVE_FOLD
from tft_core.training_pipeline.artifacts import POINTER
from tft_core.training_pipeline.workspace import Workspace

DAY_S = 86_400.0
STAGE_PATTERN = "*/*/.stage-*"
ABANDONED_DAYS = 1.0
"""No draft is written for this long; one that is older was left by a killed process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What was removed, or would be."""

    artifacts: tuple[Path, ...]
    drafts: tuple[Path, ...]
    checkpoints: tuple[Path, ...]
    n_bytes: int

    @property
    def paths(self) -> tuple[Path, ...]:
        return self.artifacts + self.drafts + self.checkpoints


def collect_garbage(
    workspace: Workspace, *, older_than_days: float = 7.0, keep: int = 3, dry_run: bool = False
) -> Garbage:
    """Remove superseded versions; what is current, promoted or damaged stays.

    Args:
        older_than_days: Artifact versions made later than so many days ago stay: somebody may
            be reading them.
        keep: Checkpoints that stay of each fold and procedure, the newest ones.
        dry_run: Only say what would be removed.

    Raises:
        ConfigError: The age is negative.
    """
    if older_than_days < 0:
        raise ConfigError(f"the age must be at least 0 days, found {older_than_days:g}")
    root, now = workspace.artifacts.root, time.time()
    artifacts = []
    for pointer in sorted(root.glob(f"*/*/{POINTER}")):
        current = pointer.read_text(encoding="utf-8").strip()
        artifacts += [
            version
            for version in sorted(pointer.parent.iterdir())
            if version.is_dir()
            and not version.name.startswith(".")
            and version.name != current
            and _age_days(version, now) > older_than_days
        ]
    drafts = [p for p in sorted(root.glob(STAGE_PATTERN)) if _age_days(p, now) > ABANDONED_DAYS]
    registry, in_use = workspace.registry, _candidates_in_use(workspace)
    checkpoints = registry.gc(keep, dry_run=True, in_use=in_use)
    n_bytes = sum(_size(path) for path in (*artifacts, *drafts, *checkpoints))
    if not dry_run:
        for path in (*artifacts, *drafts):
            shutil.rmtree(path)
        checkpoints = registry.gc(keep, in_use=in_use)
    return Garbage(
        artifacts=tuple(artifacts),
        drafts=tuple(drafts),
        checkpoints=tuple(checkpoints),
        n_bytes=n_bytes,
    )


def _candidates_in_use(workspace: Workspace) -> set[str]:
    """Names of the checkpoints that current production folds refer to.

    The newest version of a fold need not be the one its artifact names: the fold may have been
    built again with other settings and back.
    """
    digests = set()
    for key in workspace.plan.upto(LIVE_FOLD):
        artifact = workspace.artifacts.current("production_fold", key)
        if artifact is not None:
            digests |= set(artifact.json("candidates.json").values())
    found = (workspace.registry.find(digest) for digest in digests)
    return {directory.name for directory in found if directory is not None}


def _age_days(path: Path, now: float) -> float:
    return (now - path.stat().st_mtime) / DAY_S


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
