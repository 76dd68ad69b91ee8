"""Artifacts: whole or absent, hashed by content, refused when damaged or failed; on any place."""

import pandas as pd
import pytest

from tests.support.s3 import s3_bucket
from tft_core.checks.findings import Finding
from tft_core.errors import ArtifactError
from tft_core.training_pipeline.artifacts import ArtifactStore
from tft_core.training_pipeline.places import ObjectPlace


@pytest.fixture(params=["directory", "object store", pytest.param("S3", marks=pytest.mark.slow)])
def store(request, tmp_path):
    if request.param == "directory":
        yield ArtifactStore(tmp_path)
    elif request.param == "object store":
        yield ArtifactStore(ObjectPlace(f"memory://{tmp_path.name}", tmp_path / "cache"))
    else:
        with s3_bucket() as bucket:
            yield ArtifactStore(ObjectPlace(f"{bucket}/some/prefix", tmp_path / "cache"))


def write(store: ArtifactStore, value: int, *, findings=(), png: bytes = b"a"):
    with store.draft("asset", "key", "fingerprint") as draft:
        draft.write_json("value.json", {"value": value})
        draft.write_bytes("plot.png", png)
        draft.findings.extend(findings)
    artifact = store.current("asset", "key")
    assert artifact is not None
    return artifact


def test_what_was_written_is_read(store):
    artifact = write(store, 1)
    assert artifact.json("value.json") == {"value": 1}
    assert store.read("asset", "key").content_hash == artifact.content_hash


def test_the_same_content_has_the_same_hash_whatever_its_pictures(store):
    assert write(store, 1).content_hash == write(store, 1, png=b"b").content_hash
    assert write(store, 1).content_hash != write(store, 2).content_hash


def test_a_failed_draft_leaves_the_version_before(store):
    before = write(store, 1)
    with (
        pytest.raises(RuntimeError, match="half way"),
        store.draft("asset", "key", "fingerprint") as draft,
    ):
        draft.write_json("value.json", {"value": 2})
        raise RuntimeError("half way")
    assert store.read("asset", "key").path == before.path
    assert [version.kind for version in store.versions()] == ["current"]


def test_an_artifact_that_failed_its_check_is_kept_and_refused(store):
    write(store, 1, findings=[Finding("bars_are_sane", "error", "no bars")])
    assert store.current("asset", "key") is not None
    with pytest.raises(ArtifactError, match="must have passed its checks, found bars_are_sane"):
        store.read("asset", "key")


def test_a_warning_is_told_and_not_refused(store):
    write(store, 1, findings=[Finding("gate_passed", "warn", "refused")])
    assert store.read("asset", "key").findings[0].message == "refused"


def test_a_changed_byte_is_refused_by_name(store):
    artifact = write(store, 1)
    (artifact.path / "value.json").write_text('{"value":3}')
    for copy in store.place.local_copies():  # whose bytes are still the right ones
        copy.unlink()
    with pytest.raises(ArtifactError, match=r"value\.json must have the bytes it was written"):
        artifact.json("value.json")


def test_a_damaged_manifest_is_named_and_can_be_made_again(store):
    artifact = write(store, 1)
    (artifact.path / "artifact.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"asset/key must have a readable artifact\.json"):
        store.current("asset", "key")
    assert write(store, 2).json("value.json") == {"value": 2}


def test_a_missing_artifact_says_what_to_materialize(store):
    with pytest.raises(ArtifactError, match="materialize asset for partition key"):
        store.read("asset", "key")


def test_versions_are_told_from_the_current_one_and_removed_alone(store):
    old, new = write(store, 1), write(store, 2)
    kinds = {version.path: version for version in store.versions()}
    assert {path: version.kind for path, version in kinds.items()} == {
        old.path: "superseded",
        new.path: "current",
    }
    store.remove(kinds[old.path])
    assert store.read("asset", "key").path == new.path
    assert [version.path for version in store.versions()] == [new.path]


def test_frames_come_back_as_they_were(store):
    frame = pd.DataFrame({"date": pd.to_datetime(["2020-01-02"]), "x": [1.5]})
    with store.draft("asset", "frame", "fingerprint") as draft:
        draft.write_frame("x.parquet", frame)
    pd.testing.assert_frame_equal(
        store.read("asset", "frame").frame("x.parquet"), frame, check_dtype=False
    )
