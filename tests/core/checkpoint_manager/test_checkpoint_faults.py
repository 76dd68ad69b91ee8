"""Kills, damage, hostile files, full disks and crowds: small versions of the fault runs."""

import errno
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from registry_support import metadata, weights
from safetensors.torch import save

from tft_core.checkpoint_manager import CheckpointManager, atomic, manifest, staging
from tft_core.errors import CheckpointError
from tft_core.schema import content_hash

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]


@pytest.fixture
def registry(tmp_path):
    return CheckpointManager(tmp_path / "checkpoints")


def run_script(name: str, *args: str) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, str(HERE / name), *args],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_kill_inside_a_save_or_promotion_leaves_old_or_new(tmp_path):
    report = run_script("kill_savers.py", str(tmp_path / "checkpoints"), "24")
    assert report["kills"] == 24
    assert report["unloadable"] == 0
    assert report["lost_acknowledged"] == 0
    assert report["leftovers_after_gc"] == []


def test_concurrent_savers_get_versions_of_their_own(tmp_path):
    report = run_script("crowd_of_savers.py", str(tmp_path / "checkpoints"), "4", "10")
    assert report["versions"] == list(range(1, 41))
    assert report["problems"] == []


def _damage(data: bytes, kind: str, rng: random.Random) -> bytes:
    broken = bytearray(data)
    at = rng.randrange(len(broken))
    if kind == "bit":
        broken[at] ^= 1 << rng.randrange(8)
    elif kind == "truncate":
        del broken[at:]
    elif kind == "zero":
        broken[at : at + 64] = bytes(len(broken[at : at + 64]))
    else:
        half = len(broken) // 2
        broken[:8], broken[half : half + 8] = broken[half : half + 8], broken[:8]
    return bytes(broken)


@pytest.mark.parametrize("kind", ["bit", "truncate", "zero", "swap"])
def test_no_damaged_file_is_accepted(registry, kind):
    path = registry.save(
        weights(), metadata(), feature_selector={"kept": ["a", "b"]}, optuna_study={"n": 3}
    )
    rng, tried = random.Random(7), 0
    for file in sorted(path.iterdir()):
        intact = file.read_bytes()
        for _ in range(10):
            broken = _damage(intact, kind, rng)
            if broken == intact:
                continue
            tried += 1
            file.write_bytes(broken)
            with pytest.raises(CheckpointError, match=file.name.replace(".", r"\.")):
                registry.load(path)
            assert registry.verify(path) != []
        file.write_bytes(intact)
    assert tried >= 40
    assert registry.verify(path) == []


def _rewritten(path: Path, files: dict[str, bytes]) -> None:
    """Put hostile files in place under a manifest that vouches for them."""
    for name, data in files.items():
        (path / name).write_bytes(data)
    identity = CheckpointManager.content_hash_of(path)
    names = [entry.name for entry in path.iterdir() if entry.name != "MANIFEST.json"]
    table = manifest.Manifest.of(identity, {name: path / name for name in names})
    (path / "MANIFEST.json").write_bytes(table.to_bytes())


class _Payload:
    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


def _hostile_weights(tmp_path: Path) -> dict[str, bytes]:
    nan = weights()
    nan["member_0/head.weight"][0, 0] = float("nan")
    overlapping = {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
                   "b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}}  # fmt: skip
    header = json.dumps(overlapping).encode()
    return {
        "pickle": pickle.dumps(_Payload(str(tmp_path / "ran"))),
        "huge header": struct.pack("<Q", 2**62) + b"{}",
        "header longer than the file": struct.pack("<Q", 1000) + b"{}",
        "overlapping tensors": struct.pack("<Q", len(header)) + header + bytes(24),
        "no tensors": save({}),
        "nan": save(nan),
        "inf": save({"a": torch.tensor([float("inf")])}),
        "empty": b"",
    }


def test_hostile_weights_are_refused_and_nothing_runs(registry, tmp_path):
    path = registry.save(weights(), metadata())
    for name, data in _hostile_weights(tmp_path).items():
        _rewritten(path, {"model.safetensors": data})
        with pytest.raises(CheckpointError, match=r"model\.safetensors must"):
            registry.load(path)
        assert registry.verify(path) != [], name
    assert not (tmp_path / "ran").exists()


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
@pytest.mark.parametrize("step", ["write_synced", "fsync_directory", "write_tensors"])
def test_a_failing_disk_is_a_typed_error_and_the_old_version_still_loads(
    registry, monkeypatch, code, step
):
    old = registry.save(weights(0), metadata())

    def fail(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as broken:
        broken.setattr(f"tft_core.checkpoint_manager.manager.{step}", fail)
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

    (
        folder
        / f".stage-{os.uname().nodename.replace('-', '_').replace('.', '_')[:40]}-999999999-aa"
    ).mkdir()
    with staging.staged(folder) as stage:
        registry.gc()
        assert [e.name for e in folder.iterdir() if e.name.startswith(".stage")] == [stage.name]
