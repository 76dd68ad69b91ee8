"""State that another version of the code wrote: what it is, and what becomes of it.

The market store is brought up to date without loss. Nothing else is rewritten. A checkpoint of
an older schema would be read as another model than the one that was judged, so it is trained
again; artifacts of other code or settings are stale, and a run builds them.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tft_core.checkpoint_manager import SCHEMA_VERSION as CHECKPOINT_SCHEMA
from tft_core.checkpoint_manager.atomic import StrictJsonError, load_json
from tft_core.checkpoint_manager.manifest import METADATA
from tft_core.data.store_schema import MigratedStore, migrate_store, stored_schema
from tft_core.data.store_sql import SCHEMA_VERSION as STORE_SCHEMA
from tft_core.errors import ArtifactError, CheckpointError
from tft_core.schema import MODEL_TYPE
from tft_core.strategy.ledger_file import LEDGER_VERSION, ledger_version
from tft_core.training_pipeline.workspace import Workspace

Remedy = Literal["migrate", "rebuild", "newer code"]
"""``migrate``: this command does it. ``rebuild``: a run makes it anew. ``newer code``: written
by a version of the code that came after this one."""

NEWER = "use the version of the code that wrote it"
_SERVED = "; it is in production, and until then no session is predicted"


@dataclass(frozen=True, slots=True, kw_only=True)
class OldState:
    """One piece of state that this version of the code did not write and can't use as it is."""

    what: str
    where: str
    found: str
    remedy: Remedy
    how: str
    """What migrating does, or the command that makes it anew."""


def survey(workspace: Workspace) -> tuple[OldState, ...]:
    """Everything under ``$TFT_HOME`` that another version of the code wrote; nothing changes.

    Raises:
        TftError: A file is damaged or held by another process.
    """
    return (
        *_store(workspace.settings.store_path),
        *_checkpoints(workspace),
        *_ledger(workspace.settings.ledger_path),
        *_artifacts(workspace),
    )


def migrate(workspace: Workspace) -> MigratedStore | None:
    """Migrate what can be; ``None`` if nothing had to be.

    Raises:
        DataError: The store can't be migrated; it is as it was.
    """
    path = workspace.settings.store_path
    return migrate_store(path) if any(_store(path)) else None


def _store(path: Path) -> tuple[OldState, ...]:
    if not path.exists() or (found := stored_schema(path)) == STORE_SCHEMA:
        return ()
    is_old = found < STORE_SCHEMA
    return (
        OldState(
            what="market store",
            where=str(path),
            found=f"schema {found}, read is {STORE_SCHEMA}",
            remedy="migrate" if is_old else "newer code",
            how=f"bars and vintages stay; the file as it was is kept as {path.name}.schema-{found}"
            if is_old
            else NEWER,
        ),
    )


def _checkpoints(workspace: Workspace) -> tuple[OldState, ...]:
    registry = workspace.registry
    events = registry.production_history(MODEL_TYPE)
    in_production = events[-1].directory if events else None
    found = []
    for row in registry.list_checkpoints(MODEL_TYPE):
        if row["problem"] is None:
            continue
        path: Path = row["path"]
        try:
            values = load_json(registry.read_file(path, METADATA))
        except (CheckpointError, StrictJsonError):
            continue  # damaged, not old: `tft checkpoints verify` is the command for it
        schema = values.get("schema_version") if isinstance(values, dict) else None
        if not isinstance(schema, int) or schema == CHECKPOINT_SCHEMA:
            continue
        is_old = schema < CHECKPOINT_SCHEMA
        found.append(
            OldState(
                what=f"checkpoint v{row['version']}",
                where=str(path),
                found=f"schema {schema}, read is {CHECKPOINT_SCHEMA}",
                remedy="rebuild" if is_old else "newer code",
                how=("`tft run`, or materialize production_checkpoint" if is_old else NEWER)
                + (_SERVED if path.name == in_production else ""),
            )
        )
    return tuple(found)


def _ledger(path: Path) -> tuple[OldState, ...]:
    found = ledger_version(path)
    if found in (None, LEDGER_VERSION):
        return ()
    return (
        OldState(
            what="signal ledger",
            where=str(path),
            found=f"version {found}, read is {LEDGER_VERSION}",
            remedy="newer code",
            how=NEWER,
        ),
    )


def _artifacts(workspace: Workspace) -> tuple[OldState, ...]:
    made: Counter[str] = Counter()
    other: Counter[str] = Counter()
    for asset, key in workspace.lifecycle():
        try:
            artifact = workspace.artifacts.current(asset, key)
        except ArtifactError:  # a manifest of other code, or damaged: made anew either way
            made[asset] += 1
            other[asset] += 1
            continue
        if artifact is not None:
            made[asset] += 1
            other[asset] += artifact.fingerprint != workspace.fingerprint(asset)
    return tuple(
        OldState(
            what=f"artifacts of {asset}",
            where=str(workspace.artifacts.root / asset),
            found=f"{count} of {made[asset]} made under other code or settings",
            remedy="rebuild",
            how="`tft run`, or materialize it (`tft run --dry-run` lists what follows)",
        )
        for asset, count in other.items()
        if count
    )
