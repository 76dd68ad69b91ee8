"""State in one file and back: what was written comes back, what is damaged is refused."""

import io
import json
import sqlite3
import tarfile
from pathlib import Path

import pytest

from tests.support.tiny import load_store, tiny_bars, tiny_settings
from tft_core.cli import main
from tft_core.data.store import MarketDataStore
from tft_core.errors import BackupError
from tft_core.training_pipeline.artifacts import ArtifactStore
from tft_core.upkeep.backup import MANIFEST, back_up, restore, verify_backup


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A market store, an artifact with a superseded version, a ledger in WAL mode, leftovers."""
    settings = tiny_settings(tmp_path / "state")
    load_store(settings, tiny_bars())
    store = ArtifactStore(settings.home / "artifacts")
    for text in ("old", "new"):
        with store.draft("prefiltered_features", "2022-01-01", "f") as draft:
            draft.write_text("kept.json", text)
    promotions = settings.checkpoints_dir / "x_trend" / "promotions.json"
    promotions.parent.mkdir(parents=True)
    promotions.write_text("[]")
    ledger = sqlite3.connect(settings.ledger_path)
    ledger.execute("PRAGMA journal_mode=WAL")
    ledger.execute("CREATE TABLE t AS SELECT 41 + 1 AS answer")
    ledger.commit()
    (settings.home / "studies.db.lock").write_text("")
    (settings.home / "artifacts" / "a" / "k" / ".stage-x").mkdir(parents=True)
    (settings.home / "artifacts" / "a" / "k" / ".stage-x" / "half.json").write_text("{")
    yield settings.home
    ledger.close()


@pytest.fixture
def dagster_home(tmp_path: Path) -> Path:
    made = tmp_path / "dagster_home"
    (made / "history").mkdir(parents=True)
    (made / "dagster.yaml").write_text("telemetry: {enabled: false}")
    with sqlite3.connect(made / "history" / "runs.db") as data_base:
        data_base.execute("CREATE TABLE runs AS SELECT 'r1' AS id")
    return made


def test_what_was_backed_up_comes_back(home: Path, dagster_home: Path, tmp_path: Path) -> None:
    made = back_up(home, tmp_path / "b.tar", dagster_home)
    assert made.parts() == {"state", "dagster"}
    there, dagster_there = tmp_path / "there", tmp_path / "dagster_there"
    restore(made.path, there, dagster_there)
    kept = ArtifactStore(there / "artifacts").read("prefiltered_features", "2022-01-01")
    assert kept.file("kept.json").read_text() == "new"
    with sqlite3.connect(there / "signals.sqlite") as ledger:
        assert ledger.execute("SELECT answer FROM t").fetchall() == [(42,)]
    with (
        MarketDataStore(home / "market.duckdb", read_only=True) as before,
        MarketDataStore(there / "market.duckdb", read_only=True) as after,
    ):
        assert after.data_hash() == before.data_hash()
    with sqlite3.connect(dagster_there / "history" / "runs.db") as data_base:
        assert data_base.execute("SELECT id FROM runs").fetchall() == [("r1",)]
    assert (there / "checkpoints" / "x_trend" / "promotions.json").read_text() == "[]"


def test_locks_drafts_and_settings_are_no_state(
    home: Path, dagster_home: Path, tmp_path: Path
) -> None:
    made = back_up(home, tmp_path / "b.tar", dagster_home)
    assert not [n for n in made.files if "lock" in n or ".stage" in n or n.endswith("-wal")]
    assert "dagster/dagster.yaml" not in made.files
    assert made.path.stat().st_mode & 0o077 == 0  # positions are nobody else's business


def test_a_backup_replaces_nothing(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.tar"
    target.write_text("mine")
    with pytest.raises(BackupError, match=r"b\.tar must not exist yet"):
        back_up(home, target)
    assert target.read_text() == "mine"
    with pytest.raises(BackupError, match="must lie outside of the state"):
        back_up(home, home / "b.tar")
    made = back_up(home, tmp_path / "c.tar")
    with pytest.raises(BackupError, match="must hold nothing that would be replaced, found"):
        restore(made.path, home)


def test_dagsters_storage_goes_where_only_its_settings_are(
    home: Path, dagster_home: Path, tmp_path: Path
) -> None:
    made = back_up(home, tmp_path / "b.tar", dagster_home)
    with pytest.raises(BackupError, match="Dagster's storage, which must have a place"):
        restore(made.path, tmp_path / "there")
    with pytest.raises(BackupError, match="found history"):
        restore(made.path, tmp_path / "there", dagster_home)
    assert not (tmp_path / "there").exists()  # refused before anything was written
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (fresh / "dagster.yaml").write_text("mine")
    restore(made.path, tmp_path / "there", fresh)
    assert (fresh / "dagster.yaml").read_text() == "mine"
    assert sorted(p.name for p in fresh.iterdir()) == ["dagster.yaml", "history"]


def test_no_cut_and_no_changed_byte_of_a_file_is_accepted(home: Path, tmp_path: Path) -> None:
    made = back_up(home, tmp_path / "b.tar")
    whole = made.path.read_bytes()
    with tarfile.open(made.path) as archive:
        spots = [m.offset_data + m.size // 2 for m in archive if m.size]
    assert len(spots) > 4
    damaged = tmp_path / "damaged.tar"
    for spot in spots:
        damaged.write_bytes(whole[:spot] + bytes([whole[spot] ^ 1]) + whole[spot + 1 :])
        with pytest.raises(BackupError):
            verify_backup(damaged)
        damaged.write_bytes(whole[:spot])
        with pytest.raises(BackupError):
            restore(damaged, tmp_path / "there")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    "name", ["state/../../evil.txt", "/etc/evil.txt", "elsewhere/evil.txt", "link"]
)
def test_a_crafted_backup_writes_nowhere_else(name: str, tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("state/out" if name == "link" else name)
        if name == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(info, io.BytesIO(b""))
        manifest = json.dumps({"format": 1, "created_at": "", "files": {}}).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size = len(manifest)
        archive.addfile(info, io.BytesIO(manifest))
    with pytest.raises(BackupError, match="do not restore it"):
        restore(path, tmp_path / "there")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ([], "must be a whole backup"),
        ({"created_at": "", "files": {}}, "must be a whole backup, found: 'format'"),
        ({"format": 1, "created_at": ""}, "must be a whole backup, found: 'files'"),
        ({"format": 1, "created_at": "", "files": 3}, "must be a whole backup"),
        ({"format": 2}, "must have backup format 1, found 2"),
    ],
)
def test_a_manifest_that_no_backup_has_is_refused(
    manifest: object, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(MANIFEST)
        info.size = len(json.dumps(manifest).encode())
        archive.addfile(info, io.BytesIO(json.dumps(manifest).encode()))
    with pytest.raises(BackupError, match=message):
        verify_backup(path)


def test_a_pointer_is_never_newer_than_what_it_names(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that ends while files are copied: the backup holds the artifact before it."""
    store = ArtifactStore(home / "artifacts")
    before = store.read("prefiltered_features", "2022-01-01")
    add = tarfile.TarFile.add
    wrote = []

    def add_while_another_builds(self, *arguments, **more):
        if not wrote:
            wrote.append(True)
            with store.draft("prefiltered_features", "2022-01-01", "f") as draft:
                draft.write_text("kept.json", "newest")
        return add(self, *arguments, **more)

    monkeypatch.setattr(tarfile.TarFile, "add", add_while_another_builds)
    made = back_up(home, tmp_path / "b.tar")
    restore(made.path, tmp_path / "there")
    there = ArtifactStore(tmp_path / "there" / "artifacts")
    assert there.read("prefiltered_features", "2022-01-01").content_hash == before.content_hash
    assert store.read("prefiltered_features", "2022-01-01").content_hash != before.content_hash


@pytest.fixture
def configured(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home as the commands find it."""
    (tmp_path / "tft.toml").write_text(
        'default_profile = "t"\n[folds]\nanchor = 2018-01-01\n[profile.t]\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("TFT_HOME", str(home))
    return home


def test_the_commands_back_up_verify_and_restore(
    configured: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["backup", "b.tar", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["parts"] == ["state"]
    monkeypatch.setenv("TFT_HOME", str(tmp_path / "there"))
    assert main(["restore", "b.tar", "--dry-run"]) == 0
    assert not (tmp_path / "there").exists()
    assert main(["restore", "b.tar"]) == 0
    assert f"restored {answer['n_files']} files" in capsys.readouterr().out
    assert main(["restore", "b.tar"]) == 1
    assert "would be replaced" in capsys.readouterr().err


def test_what_lies_elsewhere_is_named_and_copies_of_it_are_no_state(
    configured: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TFT_ARTIFACTS_URL", "memory://elsewhere")
    (configured / ".artifact-cache").mkdir()
    (configured / ".artifact-cache" / "0123.json").write_text("{}")
    assert main(["backup", "b.tar"]) == 0
    assert "not in it: the artifacts, which lie where $TFT_ARTIFACTS_URL says" in (
        capsys.readouterr().out
    )
    assert not [n for n in verify_backup(tmp_path / "b.tar").files if "0123.json" in n]
    monkeypatch.setenv("TFT_HOME", str(tmp_path / "there"))
    (tmp_path / "there" / ".artifact-cache").mkdir(parents=True)  # made by any command that reads
    assert main(["restore", "b.tar"]) == 0
    assert "its artifacts are not in use while $TFT_ARTIFACTS_URL is set" in capsys.readouterr().out
