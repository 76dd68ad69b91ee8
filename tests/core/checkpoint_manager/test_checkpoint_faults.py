"""Kills, damage, hostile files, full disks and crowds: the fault runs in their CI size."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import save

from tests.faults import strace
from tests.faults.crash_states import crash_states
from tests.faults.report import markdown
from tests.faults.syscalls import errors, kill_points, read_errors
from tests.support.checkpoints import metadata, weights
from tft_core.checkpoint_manager import CheckpointManager, atomic, manifest, staging
from tft_core.errors import CheckpointError
from tft_core.schema import content_hash

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def registry(tmp_path):
    return CheckpointManager(tmp_path / "checkpoints")


AT_LEAST = {
    "audited_kills": 30,
    "kill_points": 10,
    "random_kills": 12,
    "crash_states": 40,
    "errors": 10,
    "corruption": 100,
    "hostile": 130,
    "crowd": 20,
}


def test_every_fault_leaves_old_or_new_and_nothing_bad_is_accepted():
    """Every suite once in its CI size, in a process of its own (it forks)."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--small"],
        capture_output=True,
        text=True,
        timeout=280,
        env=environment,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout.splitlines()[-1])
    assert set(rows) == set(AT_LEAST)
    run = {name: row for name, row in rows.items() if not row["not_run"]}
    assert {name: row["problems"] for name, row in run.items() if row["bad"]} == {}
    assert {name: row["n"] for name, row in run.items() if row["n"] < AT_LEAST[name]} == {}
    if len(run) < len(rows):
        left_out = ", ".join(sorted(set(rows) - set(run)))
        pytest.skip(f"{left_out} not run, all others passed: {strace.MISSING}")


def test_a_fault_run_without_strace_says_so_and_does_not_pass(monkeypatch, tmp_path):
    monkeypatch.setattr("tests.faults.strace.is_available", lambda: False)
    for suite in (kill_points, errors, read_errors, crash_states):
        row = suite(tmp_path)
        assert "strace is not installed" in row.not_run
        assert not row.passed
        assert "not run" in markdown([row])


def _rewritten(path: Path, files: dict[str, bytes]) -> None:
    """Put hostile files in place under a manifest that vouches for them."""
    for name, data in files.items():
        (path / name).write_bytes(data)
    identity = CheckpointManager.content_hash_of(path)
    names = [entry.name for entry in path.iterdir() if entry.name != "MANIFEST.json"]
    table = manifest.Manifest.of(identity, {name: path / name for name in names})
    (path / "MANIFEST.json").write_bytes(table.to_bytes())


def test_other_weights_under_an_old_identity_are_a_problem(registry):
    path = registry.save(weights(), metadata())
    _rewritten(path, {"model.safetensors": save(weights(5))})
    assert "must carry the hash of its content" in registry.verify(path)[0]


def test_links_extra_and_missing_files_are_refused(registry, tmp_path):
    path = registry.save(weights(), metadata())
    (path / "extra.pkl").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"found extra 'extra.pkl'"):
        registry.load(path)
    (path / "extra.pkl").unlink()
    outside = tmp_path / "outside"
    shutil.move(path / "metadata.json", outside)
    with pytest.raises(CheckpointError, match=r"found no metadata.json"):
        registry.load(path)
    (path / "metadata.json").symlink_to(outside)
    with pytest.raises(CheckpointError, match="must be a regular file, found a symbolic link"):
        registry.load(path)
    (path / "metadata.json").unlink()
    shutil.move(outside, path / "metadata.json")
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(CheckpointError, match="must be a directory, found a symbolic link"):
        registry.load(link)
    registry.load(path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/abs", "a/b", "..", "MANIFEST.json", ""])
def test_a_manifest_cannot_name_files_outside(registry, name):
    path = registry.save(weights(), metadata())
    good = manifest.read_manifest(path)
    entry = good.files["metadata.json"]
    forged = manifest.Manifest(good.content_hash, {**good.files, name: entry}, "")
    body = json.loads(forged.to_bytes())
    del body["sha256"]
    (path / "MANIFEST.json").write_bytes(atomic.dump_json({**body, "sha256": content_hash(body)}))
    with pytest.raises(CheckpointError, match="file name must be plain letters"):
        registry.load(path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
@pytest.mark.parametrize(
    "step", ["staging.write_synced", "staging.fsync_directory", "manager.write_tensors"]
)
def test_a_failing_disk_is_a_typed_error_and_the_old_version_still_loads(
    registry, monkeypatch, code, step
):
    old = registry.save(weights(0), metadata())

    def fail(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as broken:
        broken.setattr(f"tft_core.checkpoint_manager.{step}", fail)
        with pytest.raises(CheckpointError, match=f"Errno {code}.*versions saved before are"):
            registry.save(weights(1), metadata())
    assert registry.latest_path() in (old, *[row["path"] for row in registry.list_checkpoints()])
    registry.load_latest()
    registry.gc()
    assert [e.name for e in old.parent.iterdir() if e.name.startswith((".stage", ".trash"))] == []


def test_a_writer_that_does_not_let_go_is_named(registry):
    path = registry.save(weights(), metadata())
    impatient = CheckpointManager(registry.root, lock_timeout_s=0.1)
    with atomic.locked(path.parent / ".lock", 1.0, "x", CheckpointError):
        with pytest.raises(CheckpointError, match=r"must be free within 0.1 s, found it locked"):
            impatient.save(weights(1), metadata())
        impatient.load_latest()


def test_gc_spares_the_stage_of_a_living_writer(registry):
    folder = registry.save(weights(), metadata()).parent

    (folder / f".stage-{staging.host_name()}-999999999-aa").mkdir()
    with staging.staged(folder) as stage:
        registry.gc()
        assert [e.name for e in folder.iterdir() if e.name.startswith(".stage")] == [stage.name]


def test_gc_is_not_stopped_by_what_no_writer_of_ours_left(registry):
    folder = registry.save(weights(), metadata()).parent
    odd = [".stage-", ".stage-a", ".stage-host-12x-ab", ".stage-otherhost-1-ab"]
    for name in odd:
        (folder / name).mkdir()
    (folder / ".stage-link-1-ab").symlink_to("nowhere")
    (folder / ".trash-link").symlink_to(folder)
    registry.gc()
    left = {entry.name for entry in folder.iterdir()}
    # of another host, or of nobody: a day must pass before they are taken for abandoned
    assert {*odd, ".stage-link-1-ab"} <= left
    assert ".trash-link" not in left
    long_ago = time.time() - 2 * 24 * 3600
    for name in (*odd, ".stage-link-1-ab"):
        os.utime(folder / name, (long_ago, long_ago), follow_symlinks=False)
    registry.gc()
    assert [e.name for e in folder.iterdir() if e.name.startswith(".stage")] == []
    registry.load_latest()


def test_a_reader_looks_again_where_gc_took_what_it_was_reading(registry, monkeypatch):
    for seed in range(3):
        registry.save(weights(seed), metadata())
    newest, old = registry.path_of(3), registry.path_of(1)
    shown = iter([old, newest])
    monkeypatch.setattr(registry, "latest_path", lambda model_type: next(shown))
    shutil.rmtree(old)
    assert registry.load_latest()[1].version == 3


def test_a_damaged_latest_version_is_an_error_and_not_passed_over(registry):
    registry.save(weights(0), metadata())
    path = registry.save(weights(1), metadata())
    (path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"v2_\w+/model.safetensors must be \d+ bytes"):
        registry.load_latest()


def test_a_version_that_gc_takes_while_the_list_is_made_is_left_out(registry, monkeypatch):
    path = registry.save(weights(0), metadata())
    gone = path.with_name("v7_20200101T000000Z")
    monkeypatch.setattr(
        "tft_core.checkpoint_manager.layout.Layout.versions",
        lambda self, model_type: [(1, path), (7, gone)],
    )
    assert [row["version"] for row in registry.list_checkpoints("x_trend")] == [1]


def test_files_larger_than_a_reader_takes_are_not_saved(registry, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_DOCUMENT_BYTES", 100)
    with pytest.raises(CheckpointError, match=r"report.html must be at most 100 bytes, found 101"):
        registry.save(weights(), metadata(), extra_files={"report.html": bytes(101)})
    monkeypatch.setattr(manifest, "MAX_WEIGHTS_BYTES", 200)
    with pytest.raises(CheckpointError, match=r"model.safetensors must be at most 200 bytes"):
        registry.save(weights(), metadata(), extra_files={"report.html": bytes(100)})
    assert registry.list_checkpoints() == []


@pytest.mark.parametrize("reason", ["\ud800", "", "  ", "x" * 1001])
def test_a_reason_that_the_record_could_not_hold_is_refused(registry, reason):
    path = registry.save(weights(), metadata())
    with pytest.raises(CheckpointError, match="reason must say why the version is promoted"):
        registry.promote(path, reason)
    with pytest.raises(CheckpointError, match="reason must say why production is rolled back"):
        registry.rollback(reason)
    assert registry.production_history() == []


def test_gc_of_a_directory_that_cannot_be_read_is_a_typed_error(registry, monkeypatch):
    folder = registry.save(weights(), metadata()).parent
    lstat = Path.lstat

    def fail(path: Path) -> os.stat_result:
        if path == folder:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", fail)
    with pytest.raises(CheckpointError, match=r"x_trend must be readable, found: .Errno 5"):
        registry.gc(model_type="x_trend")
