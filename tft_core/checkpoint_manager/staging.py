"""How a version is written: in a directory that readers don't see, then renamed into place."""

import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from safetensors import SafetensorError

from tft_core.checkpoint_manager.atomic import MAX_JSON_BYTES, fsync_directory, write_synced
from tft_core.checkpoint_manager.manifest import MANIFEST, METADATA, WEIGHTS, Manifest
from tft_core.checkpoint_manager.metadata import CheckpointMetadata
from tft_core.errors import CheckpointError

STAGE_PREFIX = ".stage-"
WRITER = re.compile(re.escape(STAGE_PREFIX) + r"(\w+)-([0-9]{1,9})-[0-9a-f]+")
"""Name of a stage: its writer's host and process id."""


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


def publish(
    stage: Path,
    folder: Path,
    metadata: CheckpointMetadata,
    identity: str,
    documents: Mapping[str, bytes],
) -> Path:
    """Complete a stage that holds weights and documents, and rename it to its version's name.

    Args:
        folder: The model type's directory, whose lock is held.
        metadata: With its version number and time of creation.
        identity: Content hash of weights and metadata.
        documents: The other files of the stage, for the manifest.

    Returns:
        The version's directory, which readers see whole from now on.

    Raises:
        CheckpointError: The metadata is larger than a reader would take.
    """
    document = metadata.to_json().encode("utf-8")
    if len(document) > MAX_JSON_BYTES:
        raise CheckpointError(
            f"metadata must be at most {MAX_JSON_BYTES} bytes of JSON, found "
            f"{len(document)}; put bulky tables into extra_files"
        )
    write_synced(stage / METADATA, document)
    files = {WEIGHTS: stage / WEIGHTS, METADATA: document, **documents}
    write_synced(stage / MANIFEST, Manifest.of(identity, files).to_bytes())
    fsync_directory(stage)
    created = datetime.fromisoformat(metadata.created_at).astimezone(UTC)
    target = folder / f"v{metadata.version}_{created:%Y%m%dT%H%M%SZ}"
    stage.rename(target)
    fsync_directory(folder)
    return target


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Errors of a disk that can't be written, as ours.

    Raises:
        CheckpointError: In place of what the file system or safetensors raised.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the registry must be able to write to {where}, found: {error}; "
            "versions saved before are untouched"
        ) from error


def host_name() -> str:
    """This machine's name, in letters that a file name may hold."""
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())[:40] or "host"
