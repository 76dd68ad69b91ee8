"""What may be removed of the registry: superseded versions, and what dead writers left."""

import os
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tft_core.checkpoint_manager.staging import STAGE_PREFIX, WRITER, host_name

TRASH_PREFIX = ".trash-"
_ABANDONED_AFTER_S = 24 * 3600.0


def superseded(
    rows: Iterable[Mapping[str, Any]], keep: int, staying: Collection[str]
) -> list[Path]:
    """Versions of one model type that have ``keep`` newer ones of their fold and procedure.

    Args:
        rows: As ``CheckpointManager.list_checkpoints`` gives them, ascending; damaged versions
            count for nothing and stay.
        staying: Names of directories that stay however old they are.
    """
    groups: dict[tuple[str, str], list[Path]] = {}
    for row in rows:
        if row["status"] != "damaged":
            groups.setdefault((row["fold"], row["procedure"]), []).append(row["path"])
    old = (directory for group in groups.values() for directory in group[:-keep])
    return [directory for directory in old if directory.name not in staying]


def is_abandoned(entry: Path) -> bool:
    """True for what a dead writer left: its process is gone, or a day has passed."""
    if entry.name.endswith(".tmp") and entry.name.startswith("."):
        return True  # only written under the lock that gc holds
    if not entry.name.startswith(STAGE_PREFIX):
        return False
    if time.time() - entry.lstat().st_mtime > _ABANDONED_AFTER_S:
        return True
    writer = WRITER.fullmatch(entry.name)
    return writer is not None and writer[1] == host_name() and not _is_alive(int(writer[2]))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove_leftovers(folder: Path) -> None:
    """Delete what killed writers and earlier clean-ups left; call it with the lock held."""
    for entry in list(folder.iterdir()):
        if entry.name.startswith(TRASH_PREFIX) or is_abandoned(entry):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
