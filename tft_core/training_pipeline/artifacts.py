"""Artifacts: named files with a content hash, one directory per (asset, partition) state.

A writer fills a staging directory; on success the files are hashed and become a version, which
the partition's ``current`` pointer then names, so a reader sees a whole artifact or the one
before it. Redoing a partition to the same result gives the same content hash. How that holds on
a disk and on an object store is the business of ``places``.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tft_core.checks.findings import Finding
from tft_core.config import Settings
from tft_core.errors import ArtifactError
from tft_core.schema import canonical_json, content_hash, file_hash, utc_stamp
from tft_core.training_pipeline.places import (
    MANIFEST,
    POINTER,
    LocalPlace,
    ObjectPlace,
    Place,
    StoredVersion,
    version_name,
)

if TYPE_CHECKING:
    from upath import UPath

UNHASHED_SUFFIXES = (".html", ".png")
"""Views of the content, not content: a plot may differ by a font and mean the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One stored result of an asset's partition."""

    asset: str
    key: str
    path: "Path | UPath"
    place: Place = field(repr=False, compare=False)
    content_hash: str
    fingerprint: str
    """Hash of the code version and the settings it was made under."""
    made_from: dict[str, str]
    """``asset/key`` of each upstream artifact → its content hash."""
    summary: dict[str, Any]
    """Figures for people: numbers, short texts, undefined ones ``None``."""
    findings: tuple[Finding, ...]
    files: dict[str, str]
    """Name → SHA-256 (hex) of its bytes."""
    created_at: str
    """ISO 8601 in UTC, to the second."""

    @property
    def name(self) -> str:
        return f"{self.asset}/{self.key}"

    @property
    def passed(self) -> bool:
        """False where a check that must not be passed over has failed."""
        return not any(finding.severity == "error" for finding in self.findings)

    def file(self, name: str) -> Path:
        """Local path of one of the artifact's files, its hash verified.

        What lies in an object store is copied here once.

        Raises:
            ArtifactError: There is no such file, or its bytes are not those written.
        """
        if name not in self.files:
            raise ArtifactError(
                f"artifact {self.name} must hold {name}, found {', '.join(self.files)}"
            )
        path = self.place.verified(f"{self.name}/{self.path.name}/{name}", self.files[name])
        if path is None:
            raise ArtifactError(
                f"{self.path / name} must have the bytes it was written with, found others or "
                f"nothing; materialize {self.name} again"
            )
        return path

    def json(self, name: str) -> Any:
        """Content of a JSON file; raises as ``file`` does."""
        return json.loads(self.file(name).read_text(encoding="utf-8"))

    def frame(self, name: str, **read: Any) -> pd.DataFrame:
        """Content of a Parquet file; raises as ``file`` does.

        Args:
            read: For ``pandas.read_parquet``: columns, filters.
        """
        return pd.read_parquet(self.file(name), **read)


@dataclass(slots=True)
class Draft:
    """An artifact being written: its staging directory and what will describe it."""

    path: Path
    summary: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    made_from: dict[str, str] = field(default_factory=dict)

    def write_json(self, name: str, value: Any) -> None:
        """Canonical JSON.

        Raises:
            ValueError: A number is not finite (see ``canonical_json``).
        """
        (self.path / name).write_text(canonical_json(value), encoding="utf-8")

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        frame.to_parquet(self.path / name, index=False, compression="zstd")

    def write_bytes(self, name: str, payload: bytes) -> None:
        (self.path / name).write_bytes(payload)

    def write_text(self, name: str, text: str) -> None:
        (self.path / name).write_text(text, encoding="utf-8")


class ArtifactStore:
    """All artifacts of one place: a local directory unless another is given."""

    def __init__(self, place: Place | Path) -> None:
        self.place = LocalPlace(place) if isinstance(place, Path) else place

    @property
    def root(self) -> "Path | UPath":
        return self.place.root

    def current_version(self, asset: str, key: str) -> str | None:
        """Name of the partition's newest version, or ``None`` if it was never made."""
        try:
            return self.place.read_text(f"{asset}/{key}/{POINTER}").strip()
        except FileNotFoundError:
            return None

    def current(self, asset: str, key: str) -> Artifact | None:
        """The partition's newest artifact, or ``None`` if it was never made."""
        version = self.current_version(asset, key)
        return None if version is None else self.version(asset, key, version)

    def version(self, asset: str, key: str, version: str) -> Artifact:
        """One version of a partition, whether or not it is the current one.

        Raises:
            ArtifactError: There is none of that name, or it is damaged.
        """
        name = f"{asset}/{key}/{version}"
        try:
            raw = json.loads(self.place.read_text(f"{name}/{MANIFEST}"))
            findings = tuple(Finding(**item) for item in raw.pop("findings"))
            return Artifact(path=self.root / name, place=self.place, findings=findings, **raw)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(
                f"artifact {asset}/{key} must have a readable {MANIFEST}, found {error}; "
                "materialize it again"
            ) from error

    def read(self, asset: str, key: str) -> Artifact:
        """The partition's artifact.

        Raises:
            ArtifactError: It is missing or damaged, or failed a check that must not be passed over.
        """
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
        """Stage an artifact; it replaces the partition's current one when the block ends well.

        Args:
            fingerprint: Hash of the code version and settings it is made under.
        """
        draft = Draft(self.place.staging(f"{asset}/{key}"))
        try:
            yield draft
            self._commit(asset, key, fingerprint, draft)
        finally:
            if draft.path.exists():
                shutil.rmtree(draft.path)

    def _commit(self, asset: str, key: str, fingerprint: str, draft: Draft) -> None:
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
            "created_at": utc_stamp(),
        }
        draft.write_json(MANIFEST, manifest)
        self.place.publish(draft.path, f"{asset}/{key}", version_name(digest))

    def keys(self, asset: str) -> list[str]:
        """Partitions of an asset that have anything, sorted."""
        return self.place.keys(asset)

    def versions(self) -> list[StoredVersion]:
        """Every version and unfinished draft, for whoever cleans up."""
        return self.place.versions()

    def remove(self, version: StoredVersion) -> None:
        self.place.remove(version)


def open_artifacts(settings: Settings, toggled: str | None = None) -> ArtifactStore:
    """The configured store: ``$TFT_ARTIFACTS_URL``, else ``artifacts`` under the home.

    Args:
        toggled: Name of a run with toggles, whose artifacts are kept apart.
    """
    url = settings.artifacts_url
    if url is None:
        home = settings.home if toggled is None else settings.home / "toggled" / toggled
        return ArtifactStore(home / "artifacts")
    below = "" if toggled is None else f"/toggled/{toggled}"
    return ArtifactStore(ObjectPlace(f"{url.rstrip('/')}{below}", settings.artifact_cache))
