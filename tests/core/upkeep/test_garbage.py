"""What may be removed, and what never is."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.checkpoints import metadata, weights
from tests.support.tiny import tiny_settings
from tft_core.errors import ConfigError
from tft_core.training_pipeline import Workspace
from tft_core.upkeep.garbage import collect_garbage


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.open(tiny_settings(tmp_path))
    for number in range(3):
        with made.artifacts.draft("prefiltered_features", "live", "f") as draft:
            draft.write_text("kept.json", "x" * (100 + number))
    return made


def versions(workspace: Workspace) -> list[Path]:
    folder = workspace.artifacts.root / "prefiltered_features" / "live"
    return sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime_ns)


def make_older(path: Path, days: float) -> None:
    when = time.time() - days * 86_400
    os.utime(path, (when, when))


def test_superseded_versions_go_once_they_are_old_and_the_current_one_stays(
    workspace: Workspace,
) -> None:
    current = workspace.artifacts.read("prefiltered_features", "live").path
    old, young = [v for v in versions(workspace) if v != current]
    make_older(old, 8)
    make_older(young, 6)
    make_older(current, 400)
    found = collect_garbage(workspace)
    assert found.artifacts == (old,)
    assert set(versions(workspace)) == {young, current}
    assert workspace.artifacts.read("prefiltered_features", "live").path == current


def test_a_dry_run_names_the_same_and_removes_nothing(workspace: Workspace) -> None:
    before = versions(workspace)
    planned = collect_garbage(workspace, older_than_days=0, dry_run=True)
    assert versions(workspace) == before
    assert len(planned.artifacts) == 2
    assert planned.n_bytes == sum(f.stat().st_size for v in planned.artifacts for f in v.iterdir())
    assert collect_garbage(workspace, older_than_days=0).artifacts == planned.artifacts


def test_a_draft_that_nobody_writes_any_more_goes(workspace: Workspace) -> None:
    folder = workspace.artifacts.root / "prefiltered_features" / "live"
    abandoned, fresh = folder / ".stage-old", folder / ".stage-new"
    for path in (abandoned, fresh):
        path.mkdir()
    make_older(abandoned, 2)
    assert collect_garbage(workspace).drafts == (abandoned,)
    assert fresh.is_dir() and not abandoned.exists()


def test_an_object_store_is_cleaned_of_the_same_and_its_unused_copies_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFT_ARTIFACTS_URL", f"memory://{tmp_path.name}")
    workspace = Workspace.open(tiny_settings(tmp_path))
    for number in range(2):
        with workspace.artifacts.draft("prefiltered_features", "live", "f") as draft:
            draft.write_text("kept.json", str(number))
    current = workspace.artifacts.read("prefiltered_features", "live")
    unfinished = workspace.artifacts.root / "prefiltered_features/live/0123456789abcdef-01234567"
    (unfinished / "kept.json").write_text("half")
    for path in unfinished.fs.find(workspace.artifacts.root.path):
        unfinished.fs.store[path].created -= timedelta(days=8)
        unfinished.fs.store[path].modified -= timedelta(days=8)
    old, young = sorted(workspace.artifacts.place.local_copies())[:2]
    make_older(old, 9)
    found = collect_garbage(workspace)
    assert [v.kind for v in workspace.artifacts.versions()] == ["current"]
    assert len(found.artifacts) == 1 and found.drafts == (unfinished,)
    assert found.copies == (old,) and young.exists() and not old.exists()
    assert workspace.artifacts.read("prefiltered_features", "live").path == current.path
    assert current.file("kept.json").read_text() == "1"


def test_checkpoints_are_counted_by_fold_and_listed_before_they_go(tmp_path: Path) -> None:
    workspace = Workspace.open(tiny_settings(tmp_path))
    saved = [workspace.registry.save(weights(seed), metadata()) for seed in range(4)]
    planned = collect_garbage(workspace, keep=2, dry_run=True)
    assert planned.checkpoints == tuple(saved[:2])
    assert all(path.is_dir() for path in saved)
    collect_garbage(workspace, keep=2)
    assert [path.is_dir() for path in saved] == [False, False, True, True]


def test_a_negative_age_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="at least 0 days, found -1"):
        collect_garbage(workspace, older_than_days=-1)
