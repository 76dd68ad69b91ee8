"""The registry of trained models: save whole, load verified, promote, roll back, clean up.

A version is staged, synced and renamed into ``{root}/{model_type}/v{version}_{timestamp}/``;
a reader sees all of it or nothing. Readers take no lock and write nothing.
"""

import os
import secrets
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from torch import Tensor

from tft_core.checkpoint_manager import manifest as m
from tft_core.checkpoint_manager import promotions as p
from tft_core.checkpoint_manager.atomic import (
    StrictJsonError,
    dump_json,
    fsync_directory,
    load_json,
    locked,
    make_directory,
    write_synced,
)
from tft_core.checkpoint_manager.cleaning import TRASH_PREFIX, remove_leftovers, superseded
from tft_core.checkpoint_manager.documents import selector_table, trials_table
from tft_core.checkpoint_manager.fields import Refused, text
from tft_core.checkpoint_manager.layout import Layout, local_root
from tft_core.checkpoint_manager.metadata import CheckpointMetadata
from tft_core.checkpoint_manager.reading import (
    checkpoint_content_hash,
    load_version,
    problems_of,
    read_metadata,
    summary_row,
)
from tft_core.checkpoint_manager.staging import disk_errors, publish, staged
from tft_core.checkpoint_manager.weights import HasState, state_of
from tft_core.config import load_settings
from tft_core.errors import CheckpointError
from tft_core.models.io import write_tensors
from tft_core.schema import MODEL_TYPE, utc_stamp


class CheckpointManager:
    """Versions of each model type under one directory, and which one is in production.

    Args:
        root: The ``checkpoints`` directory; default the configured one. On a POSIX file system:
            atomic renames and locks are what keeps a version whole and its number its own.
        lock_timeout_s: How long a writer waits for another writer.

    Raises:
        CheckpointError: The root is a URL.
    """

    def __init__(
        self, root: str | os.PathLike[str] | None = None, *, lock_timeout_s: float = 60.0
    ) -> None:
        self.root = local_root(root) if root is not None else load_settings().checkpoints_dir
        self.lock_timeout_s = lock_timeout_s
        self._layout = Layout(self.root)

    # -- save ----------------------------------------------------------------------------

    def save(
        self,
        model: HasState | Mapping[str, Tensor],
        metadata: CheckpointMetadata,
        feature_selector: Any = None,
        optuna_study: Any = None,
        extra_files: Mapping[str, bytes] | None = None,
        *,
        force: bool = False,
    ) -> Path:
        """Store one version, whole and synced, and give its directory.

        The same weights and content fields saved before are found again: that directory is
        given back (verified first) and nothing is written.

        Args:
            model: A module, an ensemble, or a state dict.
            metadata: With ``version=0`` it gets the next number of its model type.
            feature_selector: Plain data, or an object with ``to_dict()``.
            optuna_study: Plain data, a frame of trials, or a study (its trials are exported).
            extra_files: Further files by plain name, e.g. a report.
            force: Save a new version even if the same content exists.

        Raises:
            CheckpointError: Weights or metadata are unfit, the version number is taken, or the
                disk refuses; older versions are untouched then.
        """
        state = state_of(model)
        identity = checkpoint_content_hash(state, metadata)
        documents = dict(extra_files or {})
        for name in documents:
            m.check_name(name)
            if name in (m.WEIGHTS, m.METADATA, m.SELECTOR, m.TRIALS):
                raise CheckpointError(f"extra_files must not replace {name}, found it; rename it")
        if feature_selector is not None:
            documents[m.SELECTOR] = dump_json(selector_table(feature_selector))
        if optuna_study is not None:
            documents[m.TRIALS] = dump_json(trials_table(optuna_study))
        for name, data in documents.items():
            m.check_size(name, len(data))
        folder = self._layout.folder(metadata.model_type)
        with disk_errors(folder):
            make_directory(folder)
            existing = None if force else self._intact(identity, metadata.model_type)
            if existing is not None:
                return existing
            with staged(folder) as stage:
                write_tensors(stage / m.WEIGHTS, state)
                m.check_size(m.WEIGHTS, (stage / m.WEIGHTS).stat().st_size)
                for name, data in documents.items():
                    write_synced(stage / name, data)
                with self._locked(metadata.model_type):
                    existing = None if force else self._intact(identity, metadata.model_type)
                    if existing is not None:
                        return existing
                    return self._numbered(stage, folder, metadata, identity, documents)

    def _numbered(
        self,
        stage: Path,
        folder: Path,
        metadata: CheckpointMetadata,
        identity: str,
        documents: Mapping[str, bytes],
    ) -> Path:
        """Publish the stage under its version number; call it with the lock held."""
        taken = self._taken_versions(metadata.model_type)
        version = metadata.version or max(taken, default=0) + 1
        if version in taken:
            raise CheckpointError(
                f"version must be unused, found {version} taken in {folder}; "
                "pass metadata with version=0 to get the next one"
            )
        created = metadata.created_at or utc_stamp()
        final_metadata = metadata.replace(version=version, created_at=created)
        return publish(stage, folder, final_metadata, identity, documents)

    # -- load ----------------------------------------------------------------------------

    def load(
        self, checkpoint_dir: str | os.PathLike[str]
    ) -> tuple[dict[str, Tensor], CheckpointMetadata]:
        """Weights and metadata of one version, every file of it verified first.

        Raises:
            CheckpointError: It doesn't exist, or a file is damaged, extra, missing or a link;
                the file is named.
        """
        return load_version(self._layout.existing(Path(checkpoint_dir)))[:2]

    def load_latest(
        self, model_type: str = MODEL_TYPE
    ) -> tuple[dict[str, Tensor], CheckpointMetadata]:
        """The newest version, promoted or not. A damaged one is an error, not skipped."""
        while True:
            path = self.latest_path(model_type)
            try:
                return self.load(path)
            except CheckpointError:
                if m.mode_of(path) is not None:
                    raise  # else newer ones came and gc took it while it was read: look again

    def load_production(
        self, model_type: str = MODEL_TYPE, session: date | None = None
    ) -> tuple[dict[str, Tensor], CheckpointMetadata]:
        """The version in production (see ``production_path``)."""
        return self.load(self.production_path(model_type, session))

    def load_metadata(self, checkpoint_dir: str | os.PathLike[str]) -> CheckpointMetadata:
        """The verified metadata alone, without reading the weights."""
        directory = self._layout.existing(Path(checkpoint_dir))
        return read_metadata(directory, m.read_manifest(directory))

    def read_file(self, checkpoint_dir: str | os.PathLike[str], name: str) -> bytes:
        """The verified bytes of one file of a version."""
        directory = self._layout.existing(Path(checkpoint_dir))
        return m.read_verified(directory, m.read_manifest(directory), name)

    def load_feature_selector(self, checkpoint_dir: str | os.PathLike[str]) -> Any:
        """The feature selector's table as it was saved."""
        return self._document(checkpoint_dir, m.SELECTOR)

    def load_trials(self, checkpoint_dir: str | os.PathLike[str]) -> Any:
        """The study's trials as they were saved."""
        return self._document(checkpoint_dir, m.TRIALS)

    def _document(self, checkpoint_dir: str | os.PathLike[str], name: str) -> Any:
        try:
            data = self.read_file(checkpoint_dir, name)
            return load_json(data, max_bytes=m.MAX_DOCUMENT_BYTES)
        except StrictJsonError as error:
            raise CheckpointError(f"{Path(checkpoint_dir) / name}: {error}") from error

    # -- find ----------------------------------------------------------------------------

    def latest_path(self, model_type: str = MODEL_TYPE) -> Path:
        """Directory of the highest version number.

        Raises:
            CheckpointError: There is no version.
        """
        versions = self._layout.versions(model_type)
        if not versions:
            raise CheckpointError(
                f"the registry must hold a version of {model_type!r}, found "
                f"{self._layout.what_exists()} in {self.root}; materialize production_checkpoint"
            )
        return versions[-1][1]

    def production_path(self, model_type: str = MODEL_TYPE, session: date | None = None) -> Path:
        """Directory of the version in production on a session; default: by the newest decision.

        Raises:
            CheckpointError: None was promoted by then, or it was changed since.
        """
        if session is not None:
            path = self.production_on(session, model_type)
            if path is not None:
                return path
        events = self.production_history(model_type)
        if not events or session is not None:
            since = f"the first one from {events[0].effective} on" if events else "none"
            raise CheckpointError(
                f"a version of {model_type!r} must have been promoted"
                f"{f' by {session}' if session else ''}, found {since} in {self.root}; "
                "materialize production_checkpoint or run `tft checkpoints promote`"
            )
        return self._promoted_path(events[-1], model_type)

    def production_path_or_none(self, model_type: str = MODEL_TYPE) -> Path | None:
        """As ``production_path``; ``None`` where nothing was ever promoted."""
        events = self.production_history(model_type)
        return self._promoted_path(events[-1], model_type) if events else None

    def path_of(self, target: str | os.PathLike[str] | int, model_type: str = MODEL_TYPE) -> Path:
        """Directory of a version named by number, ``"v3"``, directory name or path."""
        return self._layout.resolve(target, model_type)

    def production_on(self, session: date, model_type: str = MODEL_TYPE) -> Path | None:
        """Directory of the version that was promoted as of a session; ``None`` before any."""
        event = p.event_on(self.production_history(model_type), session)
        return None if event is None else self._promoted_path(event, model_type)

    def production_history(self, model_type: str = MODEL_TYPE) -> list[p.PromotionEvent]:
        """Every promotion and rollback, oldest first.

        Raises:
            CheckpointError: The record is damaged.
        """
        return p.read_events(self._layout.folder(model_type))

    def rolled_back_versions(self, model_type: str = MODEL_TYPE) -> dict[int, str]:
        """Versions taken out of production and not promoted since → the reason."""
        events = self.production_history(model_type)
        return {v: event.reason for v, event in p.rolled_back(events).items()}

    def find(self, content_hash: str, model_type: str | None = None) -> Path | None:
        """The newest version with this content hash; ``None`` if there is none."""
        for directory in reversed(self._layout.directories(model_type)):
            try:
                if m.read_manifest(directory).content_hash == content_hash:
                    return directory
            except CheckpointError:
                continue  # a damaged version is no answer; `verify` and the list report it
        return None

    def for_fold(
        self, fold: str, path: str | None = None, model_type: str = MODEL_TYPE
    ) -> Path | None:
        """The newest version trained for a fold (and procedure, "tuned" or "default")."""
        for row in reversed(self.list_checkpoints(model_type)):
            if row["fold"] == fold and path in (None, row["procedure"]):
                return row["path"]
        return None

    @staticmethod
    def content_hash_of(checkpoint_dir: str | os.PathLike[str]) -> str:
        """Identity of a stored model, from its manifest."""
        return m.read_manifest(Path(checkpoint_dir)).content_hash

    def list_checkpoints(self, model_type: str | None = None) -> list[dict[str, Any]]:
        """One row per version, ascending; a damaged one has status ``damaged`` and a ``problem``.

        ``status``: production · retired (was in production) · rolled_back · refused · candidate
        · damaged. ``procedure`` is the metadata's ``path`` (tuned or default).
        """
        rows: list[dict[str, Any]] = []
        for kind in [model_type] if model_type else self._layout.model_types():
            events = p.read_events(self._layout.folder(kind))
            for version, directory in self._layout.versions(kind):
                row = summary_row(kind, version, directory, events)
                if row["problem"] is None or m.mode_of(directory) is not None:
                    rows.append(row)  # else gc took it while the list was made
        return rows

    def verify(self, checkpoint_dir: str | os.PathLike[str]) -> list[str]:
        """Everything wrong with a version, as sentences; [] if it may be served."""
        return problems_of(Path(checkpoint_dir), self.root)

    # -- promote, roll back, clean -------------------------------------------------------

    def promote(
        self,
        target: str | os.PathLike[str] | int,
        reason: str,
        effective: date | str | None = None,
        *,
        model_type: str = MODEL_TYPE,
        gate: Mapping[str, Any] | None = None,
        override: bool = False,
    ) -> Path:
        """Put a version into production, from a session on. Atomic; readers see old or new.

        The version already in production is left as it is.

        Args:
            target: Its directory, version number, or ``"v3"``.
            effective: First session it serves (date or ISO text); default today (UTC). It is
                moved up to the last change's: what served a past session is not rewritten.
            gate: The verdict relied on, with a true ``passed``; default the metadata's own.
            override: Promote without a passed verdict, or a version that was rolled back.

        Raises:
            CheckpointError: It is damaged, has not passed the gate, was rolled back, or has
                trained on sessions after ``effective``.
        """
        _check_reason(reason, "the version is promoted")
        directory = self.path_of(target, model_type)
        with disk_errors(directory), self._locked(model_type):
            self._require_sound(directory)
            manifest = m.read_manifest(directory)
            events = self.production_history(model_type)
            event = p.promotion(
                directory.name,
                manifest.own_hash,
                read_metadata(directory, manifest),
                events,
                reason=reason,
                effective=effective,
                gate=gate,
                override=override,
            )
            if event is not None:
                p.write_events(self._layout.folder(model_type), [*events, event])
        return directory

    def rollback(self, reason: str, *, model_type: str = MODEL_TYPE) -> Path:
        """Take the version in production out, and put the one before it back.

        The withdrawn version can't be promoted again without ``override``.

        Raises:
            CheckpointError: There is no version to go back to, or it is damaged.
        """
        _check_reason(reason, "production is rolled back")
        folder = self._layout.folder(model_type)
        with disk_errors(folder), self._locked(model_type):
            events = p.read_events(folder)
            stack = p.promoted_stack(events)
            if len(stack) < 2:
                raise CheckpointError(
                    f"a rollback must have an earlier promoted version of {model_type!r}, found "
                    f"{len(stack)} in production; use the kill switch to stop trading"
                )
            previous = stack[-2]
            directory = self._promoted_path(previous, model_type)
            self._require_sound(directory)
            event = replace(
                previous,
                action="rollback",
                effective=p.effective_date(None, date.min, events),
                recorded_at=utc_stamp(),
                reason=reason,
            )
            p.write_events(folder, [*events, event])
        return directory

    def gc(
        self,
        keep: int = 3,
        model_type: str | None = None,
        *,
        dry_run: bool = False,
        in_use: Collection[str] = (),
    ) -> list[Path]:
        """Remove old versions and what killed writers left; gives what was removed.

        Of each model type, fold and procedure the newest ``keep`` stay. A version that was ever
        promoted stays, and so does a damaged one, which a person should look at.

        Args:
            dry_run: Only say what would be removed.
            in_use: Names of directories that something refers to; they stay.

        Raises:
            CheckpointError: ``keep`` is below 1, or the disk refuses.
        """
        if keep < 1:
            raise CheckpointError(f"keep must be at least 1, found {keep}")
        removed: list[Path] = []
        for kind in [model_type] if model_type else self._layout.model_types():
            folder = self._layout.folder(kind)
            if m.mode_of(folder) is None:
                continue
            with disk_errors(folder), self._locked(kind):
                staying = {event.directory for event in p.read_events(folder)} | set(in_use)
                for directory in superseded(self.list_checkpoints(kind), keep, staying):
                    if not dry_run:
                        directory.rename(folder / f"{TRASH_PREFIX}{secrets.token_hex(6)}")
                    removed.append(directory)
                if dry_run:
                    continue
                fsync_directory(folder)
                remove_leftovers(folder)
                fsync_directory(folder)
        return removed

    def _locked(self, model_type: str) -> AbstractContextManager[None]:
        return locked(
            self._layout.folder(model_type) / ".lock",
            self.lock_timeout_s,
            f"the registry of {model_type!r}",
            CheckpointError,
        )

    def _require_sound(self, directory: Path) -> None:
        problems = self.verify(directory)
        if problems:
            raise CheckpointError("; ".join(problems))

    def _taken_versions(self, model_type: str) -> set[int]:
        taken = {version for version, _ in self._layout.versions(model_type)}
        return taken | {event.version for event in self.production_history(model_type)}

    def _intact(self, identity: str, model_type: str) -> Path | None:
        directory = self.find(identity, model_type)
        return directory if directory is not None and not self.verify(directory) else None

    def _promoted_path(self, event: p.PromotionEvent, model_type: str) -> Path:
        directory = self._layout.folder(model_type) / event.directory
        if m.read_manifest(self._layout.existing(directory)).own_hash != event.manifest_hash:
            raise CheckpointError(
                f"{directory} must be what was promoted at {event.recorded_at}, found other "
                "files in its place; restore it, or promote another version"
            )
        return directory


def _check_reason(reason: str, what: str) -> None:
    try:
        if not text(reason).strip():
            raise Refused("found nothing")
    except Refused as refused:
        raise CheckpointError(f"reason must say why {what}: {refused}") from refused
