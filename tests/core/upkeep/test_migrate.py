"""What other versions of the code wrote is told apart: migrated, to be rebuilt, or too new."""

import sqlite3
from pathlib import Path

import pytest

from tests.core.data.store_schema_1 import schema_1_of
from tests.support.checkpoints import metadata, weights
from tests.support.tiny import load_store, tiny_bars, tiny_settings
from tft_core.checkpoint_manager import CheckpointManager
from tft_core.cli import main
from tft_core.errors import CheckpointError
from tft_core.strategy.ledger_file import LEDGER_VERSION
from tft_core.training_pipeline.workspace import Workspace
from tft_core.upkeep.migrate import migrate, survey


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    settings = tiny_settings(tmp_path / "state")
    load_store(settings, tiny_bars().query("date < '2015-06-01'"))
    return Workspace.open(settings)


def save_with_schema(
    monkeypatch: pytest.MonkeyPatch, registry: CheckpointManager, schema: int
) -> Path:
    """Saved by code whose schema that was; the writer has not changed since schema 1."""
    with monkeypatch.context() as older:
        older.setattr("tft_core.checkpoint_manager.metadata.SCHEMA_VERSION", schema)
        return registry.save(weights(schema), metadata(schema_version=schema))


def test_state_of_this_version_is_not_mentioned(workspace: Workspace) -> None:
    workspace.registry.save(weights(), metadata())
    fingerprint = workspace.fingerprint("prefiltered_features")
    with workspace.artifacts.draft("prefiltered_features", "live", fingerprint) as draft:
        draft.write_json("kept.json", [])
    assert survey(workspace) == ()
    assert migrate(workspace) is None


def test_an_old_store_is_migrated_once(workspace: Workspace) -> None:
    path = workspace.settings.store_path
    today = path.rename(path.with_name("today.duckdb"))
    schema_1_of(today, path)
    [found] = survey(workspace)
    assert (found.what, found.remedy) == ("market store", "migrate")
    assert found.found == "schema 1, read is 2"
    done = migrate(workspace)
    assert done is not None and done.kept.exists()
    assert survey(workspace) == ()
    with workspace.store() as store:
        assert len(store.symbols()) == 4


def test_a_checkpoint_of_schema_1_must_be_trained_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = workspace.registry
    old = save_with_schema(monkeypatch, registry, 1)
    with pytest.raises(CheckpointError, match=r"must be 2, found 1; `tft migrate --dry-run`"):
        registry.load(old)
    [found] = survey(workspace)
    assert (found.where, found.remedy) == (str(old), "rebuild")
    assert found.how == "`tft run`, or materialize production_checkpoint"
    assert migrate(workspace) is None
    assert survey(workspace) == (found,)


def test_an_old_checkpoint_in_production_is_said_to_stop_the_nights(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = workspace.registry
    with monkeypatch.context() as older:
        older.setattr("tft_core.checkpoint_manager.metadata.SCHEMA_VERSION", 1)
        registry.promote(registry.save(weights(), metadata(schema_version=1)), "it passed")
    [found] = survey(workspace)
    assert found.how.endswith("it is in production, and until then no session is predicted")


def test_a_damaged_checkpoint_is_not_taken_for_an_old_one(workspace: Workspace) -> None:
    saved = workspace.registry.save(weights(), metadata())
    (saved / "metadata.json").write_text('{"schema_version": 1}')
    assert survey(workspace) == ()


def test_state_of_newer_code_is_left_to_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_with_schema(monkeypatch, workspace.registry, 3)
    with sqlite3.connect(workspace.settings.ledger_path) as ledger:
        ledger.execute(f"PRAGMA user_version = {LEDGER_VERSION + 1}")
    assert [(s.what, s.remedy) for s in survey(workspace)] == [
        ("checkpoint v1", "newer code"),
        ("signal ledger", "newer code"),
    ]


def test_artifacts_of_other_code_are_counted_by_asset(workspace: Workspace) -> None:
    for key, fingerprint in (
        ("live", workspace.fingerprint("mega_features")),
        (workspace.plan.keys[0], "of other code"),
    ):
        with workspace.artifacts.draft("mega_features", key, fingerprint) as draft:
            draft.write_json("panel.json", {})
    [found] = survey(workspace)
    assert (found.what, found.remedy) == ("artifacts of mega_features", "rebuild")
    assert found.found == "1 of 2 made under other code or settings"


def test_the_command_lists_first_and_migrates_when_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFT_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("TFT_CONFIG", raising=False)
    assert main(["init"]) == 0
    settings = tiny_settings(tmp_path / "state")
    load_store(settings, tiny_bars().query("date < '2015-06-01'"))
    today = settings.store_path.rename(tmp_path / "today.duckdb")
    schema_1_of(today, settings.store_path)
    before = settings.store_path.read_bytes()
    capsys.readouterr()

    assert main(["migrate", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "migrate: market store (schema 1, read is 2)" in told
    assert "nothing was changed; `tft backup` first, then `tft migrate`" in told
    assert settings.store_path.read_bytes() == before

    assert main(["backup", str(tmp_path / "before.tar")]) == 0
    assert main(["migrate"]) == 0
    assert "migrated: market store, schema 1 as it was in" in capsys.readouterr().out
    assert main(["migrate"]) == 0
    assert "all of it is of this version of the code" in capsys.readouterr().out
