"""Commands about all state at once: ``backup``, ``restore``, ``gc``, ``migrate``."""

import os
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from tft_core.cli.answer import Answer
from tft_core.config import ARTIFACTS_ENV, STUDIES_ENV, load_settings
from tft_core.training_pipeline.workspace import Workspace
from tft_core.upkeep.backup import Backup, back_up, restore, verify_backup
from tft_core.upkeep.garbage import collect_garbage
from tft_core.upkeep.migrate import migrate, survey


def backup(arguments: Namespace) -> Answer:
    """Write the state directory, and Dagster's storage where there is one, into one file."""
    settings = load_settings()
    made = back_up(settings.home, Path(arguments.path), _dagster_home(arguments))
    text = f"{made.path}: {_described(made)}, read back and as written"
    elsewhere = {
        STUDIES_ENV: "the studies",
        ARTIFACTS_ENV: "the artifacts",
    }
    for variable, what in elsewhere.items():
        if os.environ.get(variable):
            text += f"\nnot in it: {what}, which lie where ${variable} says"
    return Answer(_data(made), text)


def restored(arguments: Namespace) -> Answer:
    """Verify a backup and put its files back where there are none."""
    path = Path(arguments.path)
    if arguments.dry_run:
        checked = verify_backup(path)
        return Answer(_data(checked), f"{path}: whole, {_described(checked)}; nothing was restored")
    settings = load_settings()
    made = restore(path, settings.home, _dagster_home(arguments))
    text = f"{settings.home}: restored {_described(made)}"
    if settings.artifacts_url and any(name.startswith("state/artifacts/") for name in made.files):
        text += (
            f"\nits artifacts are not in use while ${ARTIFACTS_ENV} is set; copy them there, "
            "pointers last (docs/cluster.md), or unset it"
        )
    return Answer(_data(made), text)


def gc(arguments: Namespace) -> Answer:
    """Remove superseded artifacts, abandoned drafts and old checkpoints."""
    found = collect_garbage(
        Workspace.open(load_settings()),
        older_than_days=arguments.days,
        keep=arguments.keep,
        dry_run=arguments.dry_run,
    )
    verb = "would remove" if arguments.dry_run else "removed"
    lines = [str(path) for path in found.paths]
    lines.append(
        f"{verb} {len(found.artifacts)} artifacts, {len(found.drafts)} abandoned drafts, "
        f"{len(found.copies)} local copies, {len(found.checkpoints)} checkpoints: "
        f"{found.n_bytes / 1e6:,.1f} MB"
    )
    data = {
        "dry_run": arguments.dry_run,
        "artifacts": [str(p) for p in found.artifacts],
        "drafts": [str(p) for p in found.drafts],
        "copies": [str(p) for p in found.copies],
        "checkpoints": [str(p) for p in found.checkpoints],
        "n_bytes": found.n_bytes,
    }
    return Answer(data, "\n".join(lines))


def migrated(arguments: Namespace) -> Answer:
    """Say what another version of the code wrote, and bring up to date what can be."""
    workspace = Workspace.open(load_settings())
    found = survey(workspace)
    data: dict[str, object] = {"dry_run": arguments.dry_run, "found": [asdict(s) for s in found]}
    if not found:
        return Answer(data, f"{workspace.settings.home}: all of it is of this version of the code")
    lines = [f"{s.remedy}: {s.what} ({s.found}): {s.how}" for s in found]
    if arguments.dry_run:
        if any(s.remedy == "migrate" for s in found):
            lines.append("nothing was changed; `tft backup` first, then `tft migrate`")
        return Answer(data, "\n".join(lines))
    done = migrate(workspace)
    if done is not None:
        data["migrated"] = asdict(done)
        lines.append(
            f"migrated: market store, schema {done.found} as it was in {done.kept}; "
            f"{done.n_vintages:,} vintages, {done.n_findings} faults that later bars show "
            "(`tft quality` writes the page)"
        )
    return Answer(data, "\n".join(lines))


def _dagster_home(arguments: Namespace) -> Path | None:
    named = arguments.dagster_home or os.environ.get("DAGSTER_HOME")
    return Path(named).expanduser() if named else None


def _described(made: Backup) -> str:
    parts = " and ".join(sorted(made.parts()))
    return f"{len(made.files)} files ({parts}), {made.n_bytes / 1e6:,.1f} MB, of {made.created_at}"


def _data(made: Backup) -> dict[str, object]:
    return {
        "path": str(made.path),
        "created_at": made.created_at,
        "n_files": len(made.files),
        "n_bytes": made.n_bytes,
        "parts": sorted(made.parts()),
    }
