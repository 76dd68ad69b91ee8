"""Removes what nothing refers to any more: superseded artifacts, abandoned drafts, old models."""

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tft_core.errors import ConfigError
from tft_core.schema import LIVE_FOLD
from tft_core.training_pipeline.workspace import Workspace

if TYPE_CHECKING:
    from upath import UPath

DAY_S = 86_400.0
ABANDONED_DAYS = 1.0
"""No draft is written for this long; one that is older was left by a killed process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What was removed, or would be."""

    artifacts: "tuple[Path | UPath, ...]"
    drafts: "tuple[Path | UPath, ...]"
    copies: tuple[Path, ...]
    """Local ones of an object store's files."""
    checkpoints: tuple[Path, ...]
    n_bytes: int

    @property
    def paths(self) -> "tuple[Path | UPath, ...]":
        """All of it."""
        return self.artifacts + self.drafts + self.copies + self.checkpoints


def collect_garbage(
    workspace: Workspace, *, older_than_days: float = 7.0, keep: int = 3, dry_run: bool = False
) -> Garbage:
    """Remove superseded versions; what is current, promoted or damaged stays.

    Args:
        older_than_days: Artifact versions made later than so many days ago stay: somebody may
            be reading them. So do local copies that were read since.
        keep: Checkpoints that stay of each fold and procedure, the newest ones.
        dry_run: Only say what would be removed.

    Raises:
        ConfigError: The age is negative.
        StorageError: The object store of the artifacts does not answer.
    """
    if older_than_days < 0:
        raise ConfigError(f"the age must be at least 0 days, found {older_than_days:g}")
    store, now = workspace.artifacts, time.time()
    stored = store.versions()
    artifacts = [
        version
        for version in stored
        if version.kind == "superseded" and now - version.modified_at > older_than_days * DAY_S
    ]
    drafts = [
        version
        for version in stored
        if version.kind == "draft" and now - version.modified_at > ABANDONED_DAYS * DAY_S
    ]
    copies = _unused(store.place.local_copies(), now - max(older_than_days, ABANDONED_DAYS) * DAY_S)
    registry, in_use = workspace.registry, _candidates_in_use(workspace)
    checkpoints = registry.gc(keep, dry_run=True, in_use=in_use)
    n_bytes = sum(version.n_bytes for version in (*artifacts, *drafts))
    n_bytes += sum(_size(path) for path in (*copies, *checkpoints))
    if not dry_run:
        for version in (*artifacts, *drafts):
            store.remove(version)
        for path in copies:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        checkpoints = registry.gc(keep, in_use=in_use)
    return Garbage(
        artifacts=tuple(version.path for version in artifacts),
        drafts=tuple(version.path for version in drafts),
        copies=tuple(copies),
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


def _unused(copies: Sequence[Path], since: float) -> list[Path]:
    unused = []
    for path in copies:
        with suppress(FileNotFoundError):  # a download that ended since it was listed
            if path.stat().st_mtime < since:
                unused.append(path)
    return unused


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(p.stat().st_size for p in files if p.is_file())
