"""Where artifacts lie: a directory on a local file system, or a prefix of an object store.

A place knows how the files of a version become visible as one, and how they are read; what
the files mean is the business of ``artifacts``. Both kinds lay them out alike,
``asset/key/version/file`` beside a pointer ``asset/key/current``, so a plain copy moves a store.

What each relies on:

- A directory: ``rename`` and ``replace`` are atomic, ``fsync`` makes them last.
- An object store: one object appears whole or not at all and is read as it was last written.
  There is no rename, so files go straight to their final names: every version has a name of its
  own and is never written again, its manifest is the last of its files, and the pointer comes
  after that. An upload that was cut off is a version that nothing names.
"""

import os
import re
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from tft_core.checkpoint_manager.atomic import fsync_file, replace_file
from tft_core.errors import ConfigError, StorageError, StorageRefusedError, TftError
from tft_core.logs import get_logger
from tft_core.schema import file_hash

if TYPE_CHECKING:
    from upath import UPath

POINTER, MANIFEST = "current", "artifact.json"
VERSION_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}")
STAGE_PREFIX = ".stage-"
PUBLISH_WAITS_S = (5.0, 30.0, 120.0)
"""Before a failed upload is tried again: what lies in the stage may have taken hours."""

LOG = get_logger("tft_core.places")

OBJECT_STORES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "memory": "fsspec",
}
"""Schemes whose writes of one object are atomic → the package that speaks to them."""


def version_name(content_hash: str) -> str:
    """A name that no other version has, the hash of its content first."""
    return f"{content_hash[:16]}-{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """One version as it lies there, whether or not anything names it."""

    path: "Path | UPath"
    kind: Literal["current", "superseded", "draft"]
    """A draft was never finished: its writer works on it still, or was killed."""
    modified_at: float
    """Seconds since 1970."""
    n_bytes: int


class Place(ABC):
    """Files of versions below a root; names are POSIX paths relative to it."""

    @property
    @abstractmethod
    def root(self) -> "Path | UPath":
        """What all names are relative to."""

    @abstractmethod
    def read_text(self, name: str) -> str:
        """A small file; ``FileNotFoundError`` where there is none."""

    @abstractmethod
    def verified(self, name: str, sha256: str) -> Path | None:
        """A local file with the bytes of that hash; ``None`` where the place has others."""

    @abstractmethod
    def staging(self, folder: str) -> Path:
        """A new, empty, local directory to write a version of ``folder`` into."""

    @abstractmethod
    def publish(self, stage: Path, folder: str, version: str) -> None:
        """Make the staged files a version of ``folder`` and the one that its pointer names.

        A reader sees all of it or the version before. That one stays: somebody may be reading it.
        """

    @abstractmethod
    def keys(self, asset: str) -> list[str]:
        """Partition keys of an asset that have anything, sorted."""

    @abstractmethod
    def versions(self) -> list[StoredVersion]:
        """Everything there is, sorted by path."""

    @abstractmethod
    def remove(self, version: StoredVersion) -> None:
        """Delete the files of a version, whether or not a pointer names it."""

    def local_copies(self) -> list[Path]:
        """Files of this machine that are only copies of what lies here."""
        return []


class LocalPlace(Place):
    """A directory on a local POSIX file system."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        return self._root

    def read_text(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def verified(self, name: str, sha256: str) -> Path | None:
        path = self.root / name
        return path if path.is_file() and file_hash(path) == sha256 else None

    def staging(self, folder: str) -> Path:
        # beside the versions: a rename is atomic within one file system only
        stage = self.root / folder / f"{STAGE_PREFIX}{uuid.uuid4().hex[:12]}"
        stage.mkdir(parents=True)
        return stage

    def publish(self, stage: Path, folder: str, version: str) -> None:
        home = self.root / folder
        for path in stage.iterdir():
            fsync_file(path)
        stage.rename(home / version)
        replace_file(home / POINTER, version.encode())  # syncs the names in ``home`` too

    def keys(self, asset: str) -> list[str]:
        folder = self.root / asset
        return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []

    def versions(self) -> list[StoredVersion]:
        found: list[StoredVersion] = []
        for path in self.root.glob(f"*/*/{STAGE_PREFIX}*"):
            found += self._version(path, "draft")
        for pointer in self.root.glob(f"*/*/{POINTER}"):
            current = pointer.read_text(encoding="utf-8").strip()
            for path in pointer.parent.iterdir():
                if path.is_dir() and not path.name.startswith("."):
                    found += self._version(
                        path, "current" if path.name == current else "superseded"
                    )
        return sorted(found, key=lambda version: str(version.path))

    def remove(self, version: StoredVersion) -> None:
        shutil.rmtree(str(version.path))

    def _version(
        self, path: Path, kind: Literal["current", "superseded", "draft"]
    ) -> Iterator[StoredVersion]:
        with suppress(FileNotFoundError):  # published or removed since it was listed
            yield StoredVersion(
                path=path,
                kind=kind,
                modified_at=path.stat().st_mtime,
                n_bytes=sum(p.stat().st_size for p in path.rglob("*") if p.is_file()),
            )


class ObjectPlace(Place):
    """A prefix of an object store, read through a directory of verified local copies.

    Versions never change, so a copy with the right hash is as good as the object.

    Args:
        url: ``s3://bucket/prefix`` and the like; credentials come from the environment, as the
            store's own package reads them.
        cache: Local directory of the copies and of what is being written.

    Raises:
        ConfigError: The scheme is none whose guarantees suffice, or its package is missing.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self._root, self.cache = _opened(url), cache
        self._fs: Any = self.root.fs  # whose answers' types depend on their arguments

    @property
    def root(self) -> "UPath":
        return self._root

    def read_text(self, name: str) -> str:
        with self._reaching():
            payload = self._fs.cat_file(self._path(name))
        return payload.decode("utf-8")

    def verified(self, name: str, sha256: str) -> Path | None:
        # the suffix stays, since people open reports and browsers go by it
        kept = self.cache / f"{sha256}{PurePosixPath(name).suffix}"
        if kept.is_file() and file_hash(kept) == sha256:
            os.utime(kept)  # in use, says the cleaning
            return kept
        self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = self.cache / f"{STAGE_PREFIX}{uuid.uuid4().hex[:12]}"
        try:
            with self._reaching():
                self._fs.get_file(self._path(name), str(partial))
            if file_hash(partial) != sha256:
                return None
            partial.replace(kept)
        except FileNotFoundError:
            return None
        finally:
            partial.unlink(missing_ok=True)
        return kept

    def staging(self, folder: str) -> Path:
        stage = self.cache / f"{STAGE_PREFIX}{uuid.uuid4().hex[:12]}"
        stage.mkdir(mode=0o700, parents=True)
        return stage

    def publish(self, stage: Path, folder: str, version: str) -> None:
        files = sorted(stage.iterdir(), key=lambda path: (path.name == MANIFEST, path.name))
        for wait_s in PUBLISH_WAITS_S:  # hours of training lie in the stage
            try:
                self._upload(files, folder, version)
                break
            except StorageRefusedError:
                raise
            except StorageError as error:
                LOG.warning("%s; tried again in %.0f s", error, wait_s)
                time.sleep(wait_s)
        else:
            self._upload(files, folder, version)
        for path in files:  # the next reader is on this machine as likely as not
            path.replace(self.cache / f"{file_hash(path)}{path.suffix}")

    def _upload(self, files: list[Path], folder: str, version: str) -> None:
        with self._reaching(may_be_absent=False):  # a bucket that is not there
            for path in files:
                self._fs.put_file(str(path), self._path(f"{folder}/{version}/{path.name}"))
            self._fs.pipe_file(self._path(f"{folder}/{POINTER}"), version.encode())

    def keys(self, asset: str) -> list[str]:
        with self._reaching():
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._path(asset), detail=False)
            except FileNotFoundError:
                return []
        return sorted(PurePosixPath(path).name for path in found)

    def versions(self) -> list[StoredVersion]:
        with self._reaching():
            self._fs.invalidate_cache()  # s3fs and others remember listings
            listed = self._fs.find(self.root.path, detail=True)
            sizes: dict[str, dict[str, int]] = {}
            for path, info in listed.items():
                parts = PurePosixPath(path).relative_to(PurePosixPath(self.root.path)).parts
                if len(parts) == 4 and VERSION_NAME.fullmatch(parts[2]):
                    sizes.setdefault("/".join(parts[:3]), {})[parts[3]] = info["size"]
            found = []
            for name in sorted(sizes):
                newest = MANIFEST if MANIFEST in sizes[name] else min(sizes[name])
                with suppress(FileNotFoundError):  # removed since it was listed
                    found.append(
                        StoredVersion(
                            path=self.root / name,
                            kind=self._kind(name, sizes[name]),
                            modified_at=(self.root / name / newest).stat().st_mtime,
                            n_bytes=sum(sizes[name].values()),
                        )
                    )
        return found

    def remove(self, version: StoredVersion) -> None:
        with self._reaching():
            self._fs.rm(version.path.path, recursive=True)  # type: ignore[union-attr]

    def local_copies(self) -> list[Path]:
        return sorted(self.cache.iterdir()) if self.cache.is_dir() else []

    def _kind(self, name: str, files: dict[str, int]) -> Literal["current", "superseded", "draft"]:
        folder, _, version = name.rpartition("/")
        try:
            current = self.read_text(f"{folder}/{POINTER}")
        except FileNotFoundError:
            return "draft"
        if MANIFEST not in files:
            return "draft"
        return "current" if version == current.strip() else "superseded"

    def _path(self, name: str) -> str:
        return f"{self.root.path.rstrip('/')}/{name}"

    @contextmanager
    def _reaching(self, *, may_be_absent: bool = True) -> Iterator[None]:
        """The store's refusals as one error; to a reader, that a file is absent is an answer."""
        try:
            yield
        except TftError:
            raise
        except Exception as error:  # botocore's, Azure's and Google's own kinds are no OSError
            if may_be_absent and isinstance(error, FileNotFoundError):
                raise
            is_refusal = isinstance(error, (PermissionError, FileNotFoundError))
            raise (StorageRefusedError if is_refusal else StorageError)(
                f"the artifact store must be reachable, found {error} at {self.root}; "
                "check its address, credentials and network, then run it again"
            ) from error


def _opened(url: str) -> "UPath":
    # here, since who works on a local directory need not load them
    from fsspec import get_filesystem_class
    from upath import UPath

    scheme, _, below = url.partition("://")
    if scheme not in OBJECT_STORES or not below:
        raise ConfigError(
            f"the artifact store must be SCHEME://BUCKET/PREFIX with a scheme of "
            f"{', '.join(OBJECT_STORES)}, found {url!r}; unset $TFT_ARTIFACTS_URL for a "
            "directory under $TFT_HOME"
        )
    try:
        get_filesystem_class(scheme)
    except ImportError as error:
        raise ConfigError(
            f"the artifact store {url} must have the package {OBJECT_STORES[scheme]}, found it "
            f"not installed; run pip install {OBJECT_STORES[scheme]}"
        ) from error
    return UPath(url)
