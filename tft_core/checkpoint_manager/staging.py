"""The directory that a version is written in before readers can see it."""

import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from tft_core.errors import CheckpointError

STAGE_PREFIX = ".stage-"
TRASH_PREFIX = ".trash-"
_WRITER = re.compile(re.escape(STAGE_PREFIX) + r"(\w+)-([0-9]{1,9})-[0-9a-f]+")
_ABANDONED_AFTER_S = 24 * 3600.0


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A directory that readers don't see; gone afterwards unless it was renamed."""
    stage = folder / f"{STAGE_PREFIX}{host_name()}-{os.getpid()}-{secrets.token_hex(6)}"
    stage.mkdir()
    try:
        yield stage
    finally:
        if stage.exists():
            shutil.rmtree(stage, ignore_errors=True)  # gc takes what a failing disk leaves


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the registry must be able to write to {where}, found: {error}; "
            "versions saved before are untouched"
        ) from error


def host_name() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())[:40] or "host"


def is_abandoned(entry: Path) -> bool:
    """True for what a dead writer left: its process is gone, or a day has passed."""
    if entry.name.endswith(".tmp") and entry.name.startswith("."):
        return True  # only written under the lock that gc holds
    if not entry.name.startswith(STAGE_PREFIX):
        return False
    if time.time() - entry.lstat().st_mtime > _ABANDONED_AFTER_S:
        return True
    writer = _WRITER.fullmatch(entry.name)
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
