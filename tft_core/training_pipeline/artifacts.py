"""Artifacts: named files with a content hash, one directory per (asset, partition) state.

A writer fills a staging directory; on success the files are hashed and the partition's
``current`` pointer is replaced atomically, so a reader sees a whole artifact or the one
before it. Redoing a partition to the same result gives the same content hash.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from tft_core.checks.findings import Finding
from tft_core.errors import ArtifactError
from tft_core.schema import canonical_json, content_hash, file_hash

POINTER, MANIFEST = "current", "artifact.json"
UNHASHED_SUFFIXES = (".html", ".png")
"""Views of the content, not content: a plot may differ by a font and mean the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One stored result of an asset's partition."""

    asset: str
    key: str
    path: Path
    content_hash: str
    fingerprint: str
    """Hash of the code version and the settings it was made under."""
    made_from: dict[str, str]
    """``asset/key`` of each upstream artifact → its content hash."""
    summary: dict[str, Any]
    """Figures for people: numbers, short texts, undefined ones ``None``."""
    findings: tuple[Finding, ...]
    files: dict[str, str]
    created_at: str

    @property
    def name(self) -> str:
        return f"{self.asset}/{self.key}"

    @property
    def passed(self) -> bool:
        """False where a check that must not be passed over has failed."""
        return not any(finding.severity == "error" for finding in self.findings)

    def file(self, name: str) -> Path:
        """Path of one of the artifact's files, its hash verified.

        Raises:
            ArtifactError: There is no such file, or its bytes are not those written.
        """
        if name not in self.files:
            raise ArtifactError(
                f"artifact {self.name} must hold {name}, found {', '.join(self.files)}"
            )
        path = self.path / name
        if not path.is_file() or file_hash(path) != self.files[name]:
            raise ArtifactError(
                f"{path} must have the bytes it was written with, found others or nothing; "
                f"materialize {self.name} again"
            )
        return path

    def json(self, name: str) -> Any:
        return json.loads(self.file(name).read_text(encoding="utf-8"))

    def frame(self, name: str, **read: Any) -> pd.DataFrame:
        return pd.read_parquet(self.file(name), **read)


@dataclass(slots=True)
class Draft:
    """An artifact being written: its staging directory and what will describe it."""

    path: Path
    summary: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    made_from: dict[str, str] = field(default_factory=dict)

    def write_json(self, name: str, value: Any) -> None:
        (self.path / name).write_text(canonical_json(value), encoding="utf-8")

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        frame.to_parquet(self.path / name, index=False, compression="zstd")

    def write_bytes(self, name: str, payload: bytes) -> None:
        (self.path / name).write_bytes(payload)

    def write_text(self, name: str, text: str) -> None:
        (self.path / name).write_text(text, encoding="utf-8")


class ArtifactStore:
    """All artifacts under one directory on a local file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def pointer(self, asset: str, key: str) -> Path:
        """The file that names the partition's newest artifact; replaced with each new one."""
        return self.root / asset / key / POINTER

    def current(self, asset: str, key: str) -> Artifact | None:
        """The partition's newest artifact, or ``None`` if it was never made."""
        folder = self.root / asset / key
        try:
            version = (folder / POINTER).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        try:
            raw = json.loads((folder / version / MANIFEST).read_text(encoding="utf-8"))
            findings = tuple(Finding(**item) for item in raw.pop("findings"))
            return Artifact(path=folder / version, findings=findings, **raw)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(
                f"artifact {asset}/{key} must have a readable {MANIFEST}, found {error}; "
                "materialize it again"
            ) from error

    def read(self, asset: str, key: str) -> Artifact:
        """The partition's artifact, refused if it is missing or failed its own check."""
        artifact = self.current(asset, key)
        if artifact is None:
            raise ArtifactError(
                f"artifact {asset}/{key} must be made first, found none under {self.root}; "
                f"materialize {asset} for partition {key}"
            )
        if not artifact.passed:
            failed = next(f for f in artifact.findings if f.severity == "error")
            raise ArtifactError(
                f"artifact {asset}/{key} must have passed its checks, found {failed.code}: "
                f"{failed.message}"
            )
        return artifact

    @contextmanager
    def draft(self, asset: str, key: str, fingerprint: str) -> Iterator[Draft]:
        """Stage an artifact; it replaces the partition's current one when the block ends well."""
        folder = self.root / asset / key
        stage = folder / f".stage-{uuid.uuid4().hex[:12]}"
        stage.mkdir(parents=True)
        draft = Draft(stage)
        try:
            yield draft
            self._commit(asset, key, fingerprint, draft)
        finally:
            if stage.exists():
                shutil.rmtree(stage)

    def _commit(self, asset: str, key: str, fingerprint: str, draft: Draft) -> None:
        folder = draft.path.parent
        files = {p.name: file_hash(p) for p in sorted(draft.path.iterdir())}
        hashed = {n: h for n, h in files.items() if not n.endswith(UNHASHED_SUFFIXES)}
        failed = sorted(f.code for f in draft.findings if f.severity == "error")
        digest = content_hash({"asset": asset, "key": key, "files": hashed, "failed": failed})
        manifest = {
            "asset": asset,
            "key": key,
            "content_hash": digest,
            "fingerprint": fingerprint,
            "made_from": draft.made_from,
            "summary": draft.summary,
            "findings": draft.findings,
            "files": files,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        (draft.path / MANIFEST).write_text(canonical_json(manifest), encoding="utf-8")
        for path in draft.path.iterdir():
            _fsync(path)
        version = f"{digest[:16]}-{uuid.uuid4().hex[:8]}"
        draft.path.rename(folder / version)
        pointer = folder / f".{POINTER}-{uuid.uuid4().hex[:8]}"
        pointer.write_text(version, encoding="utf-8")
        _fsync(pointer)
        # the version before stays until `sweep`: somebody may be reading it
        pointer.replace(folder / POINTER)
        _fsync(folder)

    def sweep(self, is_old: Callable[[Path], bool]) -> list[Path]:
        """Remove superseded versions that ``is_old`` names; returns what was removed."""
        removed = []
        for pointer in self.root.glob(f"*/*/{POINTER}"):
            current = pointer.read_text(encoding="utf-8").strip()
            for version in pointer.parent.iterdir():
                if version.is_dir() and version.name != current and is_old(version):
                    shutil.rmtree(version)
                    removed.append(version)
        return removed


def plain_summary(values: Mapping[str, Any]) -> dict[str, Any]:
    """Figures as JSON can hold them: a NaN or infinity, which is undefined, becomes ``None``."""
    return {
        key: None if isinstance(value, float) and not (abs(value) < float("inf")) else value
        for key, value in values.items()
    }


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
