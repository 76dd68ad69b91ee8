"""A checkpoint directory's table of contents, and reading only what it vouches for.

Every file is listed with its size and SHA-256; the manifest carries its own. A file that is
changed, missing, extra, a link or oddly named is refused by name.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tft_core.checkpoint_manager.atomic import (
    MAX_JSON_BYTES,
    StrictJsonError,
    dump_json,
    load_json,
)
from tft_core.errors import CheckpointError
from tft_core.schema import content_hash, file_hash

MANIFEST = "MANIFEST.json"
WEIGHTS = "model.safetensors"
METADATA = "metadata.json"
SELECTOR = "feature_selector.json"
TRIALS = "trials.json"

MANIFEST_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA = re.compile(r"[0-9a-f]{64}")
_MAX_MANIFEST_BYTES = 1024 * 1024
MAX_WEIGHTS_BYTES = 1024**3
MAX_DOCUMENT_BYTES = 64 * 1024**2
"""What a version may hold: no file of it can fill a reader's memory or keep it busy for long."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a checkpoint."""

    sha256: str
    """Of its bytes, in hex."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint directory must hold."""

    content_hash: str
    """Identity of the model: weights and the content fields of its metadata."""
    files: dict[str, Entry]
    own_hash: str
    """SHA-256 of all of the above."""

    @classmethod
    def of(cls, identity: str, files: Mapping[str, bytes | Path]) -> "Manifest":
        """Describe files given as bytes, or as paths already written."""
        entries = {name: _entry(source) for name, source in sorted(files.items())}
        return cls(identity, entries, content_hash(_body(identity, entries)))

    def to_bytes(self) -> bytes:
        """The file's content; there is one for each manifest."""
        return dump_json({**_body(self.content_hash, self.files), "sha256": self.own_hash})

    @classmethod
    def from_bytes(cls, data: bytes, where: Path) -> "Manifest":
        """Parse a manifest; any byte that our writer would not have written is refused.

        Raises:
            CheckpointError: It is damaged, or lists what no checkpoint holds.
        """
        try:
            table = load_json(data, max_bytes=_MAX_MANIFEST_BYTES)
            entries = {
                name: Entry(str(item["sha256"]), int(item["size_bytes"]))
                for name, item in table["files"].items()
            }
            manifest = cls(str(table["content_hash"]), entries, str(table["sha256"]))
            intact = (
                manifest.own_hash == content_hash(_body(manifest.content_hash, entries))
                and manifest.to_bytes() == data
            )
        except (StrictJsonError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{where / MANIFEST} must be a checkpoint manifest, found it damaged ({error}); "
                "restore it or use another version"
            ) from error
        if not intact:
            raise CheckpointError(
                f"{where / MANIFEST} must match its own SHA-256, found it damaged; "
                "restore it or use another version"
            )
        for name, entry in entries.items():
            check_name(name)
            if not _SHA.fullmatch(entry.sha256) or entry.size_bytes < 0:
                raise CheckpointError(
                    f"{where / MANIFEST} must give a SHA-256 and a size, found none for {name}"
                )
            check_size(name, entry.size_bytes)
        for name in (WEIGHTS, METADATA):
            if name not in entries:
                raise CheckpointError(
                    f"{where / MANIFEST} must list {name}, found it missing; use another version"
                )
        return manifest


def check_name(name: str) -> None:
    """Refuse a file name that could leave the directory or hide in it.

    Raises:
        CheckpointError: It could.
    """
    if not _NAME.fullmatch(name) or name == MANIFEST:
        raise CheckpointError(
            "a checkpoint's file name must be plain letters, digits, '.', '_' and '-', "
            f"found {name[:80]!r}"
        )


def check_size(name: str, size_bytes: int) -> None:
    """Refuse a file that is larger than its kind may be.

    Raises:
        CheckpointError: It is.
    """
    limit = {WEIGHTS: MAX_WEIGHTS_BYTES, METADATA: MAX_JSON_BYTES}.get(name, MAX_DOCUMENT_BYTES)
    if size_bytes > limit:
        raise CheckpointError(f"{name} must be at most {limit} bytes, found {size_bytes}")


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a directory whose list of files agrees with it (contents unread).

    Raises:
        CheckpointError: Not a directory of its own, or an extra, missing or linked file.
    """
    mode = mode_of(directory)
    if mode is None or not stat.S_ISDIR(mode):
        raise CheckpointError(
            f"a checkpoint must be a directory, found {_kind(mode)} at {directory}; "
            "`tft checkpoints list` shows what exists"
        )
    manifest = Manifest.from_bytes(
        read_regular(directory / MANIFEST, _MAX_MANIFEST_BYTES), directory
    )
    with readable(directory):  # a few names more than there should be are enough to refuse it
        entries = islice(directory.iterdir(), len(manifest.files) + 20)
        present = {entry.name for entry in entries} - {MANIFEST}
    extra, missing = sorted(present - set(manifest.files)), sorted(set(manifest.files) - present)
    if extra or missing:
        found = [f"extra {name[:80]!r}" for name in extra] + [f"no {name}" for name in missing]
        raise CheckpointError(
            f"{directory} must hold exactly the files of its manifest, found {', '.join(found)}; "
            "restore it or use another version"
        )
    return manifest


def read_verified(directory: Path, manifest: Manifest, name: str) -> bytes:
    """The bytes of one listed file, whose SHA-256 was taken from these very bytes.

    Raises:
        CheckpointError: The file differs from what the manifest vouches for.
    """
    entry = manifest.files.get(name)
    if entry is None:
        raise CheckpointError(
            f"{directory} must list {name}, found only {', '.join(manifest.files)}"
        )
    path = directory / name
    data = read_regular(path, entry.size_bytes, exactly=entry.size_bytes)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise CheckpointError(
            f"{path} must match the SHA-256 in its manifest, found it damaged; "
            "restore it or use another version"
        )
    return data


def read_regular(path: Path, limit: int, exactly: int | None = None) -> bytes:
    """The bytes of a file that is no link, pipe or device and not too large.

    Raises:
        CheckpointError: It is missing, of another kind or size, or can't be read.
    """
    mode = mode_of(path)
    if mode is None or not stat.S_ISREG(mode):
        raise CheckpointError(
            f"{path} must be a regular file, found {_kind(mode)}; restore it or use another version"
        )
    with readable(path):
        # a link or a pipe put in its place after the check is refused as well
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with os.fdopen(os.open(path, flags), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if exactly is not None and size != exactly:
                raise CheckpointError(
                    f"{path} must be {exactly} bytes as its manifest says, found {size}; "
                    "restore it or use another version"
                )
            if size > limit:
                raise CheckpointError(f"{path} must be at most {limit} bytes, found {size}")
            return stream.read(size)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Errors of a disk that can't be read, as ours.

    Raises:
        CheckpointError: In place of what the file system raised.
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{path} must be readable, found: {error}") from error


def mode_of(path: Path) -> int | None:
    """Kind and permissions of what is there (a link is a link); ``None`` for nothing.

    Raises:
        CheckpointError: The disk does not tell.
    """
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CheckpointError(f"{path} must be readable, found: {error}") from error


def _kind(mode: int | None) -> str:
    if mode is None:
        return "nothing"
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a file" if stat.S_ISREG(mode) else "a pipe, socket or device"


def _entry(source: bytes | Path) -> Entry:
    if isinstance(source, bytes):
        return Entry(hashlib.sha256(source).hexdigest(), len(source))
    return Entry(file_hash(source), source.stat().st_size)


def _body(identity: str, entries: Mapping[str, Entry]) -> dict[str, Any]:
    return {
        "manifest_version": MANIFEST_VERSION,
        "content_hash": identity,
        "files": {
            name: {"sha256": entry.sha256, "size_bytes": entry.size_bytes}
            for name, entry in entries.items()
        },
    }
