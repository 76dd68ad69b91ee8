"""What an object store cannot do (rename, replace a folder) is not needed for whole artifacts."""

import sys
from pathlib import Path

import fsspec
import pytest

from tests.support.tiny import tiny_settings
from tft_core.errors import ArtifactError, ConfigError, StorageError, StorageRefusedError
from tft_core.training_pipeline import places
from tft_core.training_pipeline.artifacts import ArtifactStore, open_artifacts
from tft_core.training_pipeline.places import ObjectPlace

FILES = ("a.json", "b.json", "artifact.json", "current")
"""What a draft of `write` puts into the store, in an order that keeps readers safe."""


@pytest.fixture
def place(tmp_path: Path) -> ObjectPlace:
    return ObjectPlace(f"memory://{tmp_path.name}/artifacts", tmp_path / "cache")


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PUBLISH_WAITS_S", ())


@pytest.fixture
def store(place: ObjectPlace) -> ArtifactStore:
    return ArtifactStore(place)


class Uplink:
    """The store's file system with a line that is cut before a given write, noting the names."""

    def __init__(self, fs: fsspec.AbstractFileSystem, *, writes: int) -> None:
        self.fs, self.left, self.names = fs, writes, []

    def __getattr__(self, name: str):
        return getattr(self.fs, name)

    def put_file(self, source: str, target: str) -> None:
        self._note(target)
        self.fs.put_file(source, target)

    def pipe_file(self, target: str, payload: bytes) -> None:
        self._note(target)
        self.fs.pipe_file(target, payload)

    def _note(self, target: str) -> None:
        if self.left == 0:
            raise OSError("connection lost")
        self.left -= 1
        self.names.append(target.rpartition("/")[2])


def write(store: ArtifactStore, value: int) -> None:
    with store.draft("asset", "key", "fingerprint") as draft:
        draft.write_json("b.json", value)
        draft.write_json("a.json", value)


def objects(place: ObjectPlace) -> dict[str, bytes]:
    return {path: place.root.fs.cat_file(path) for path in place.root.fs.find(place.root.path)}


def test_the_pointer_comes_last_and_the_manifest_before_it(place, store) -> None:
    place._fs = uplink = Uplink(place._fs, writes=99)
    write(store, 1)
    assert tuple(uplink.names) == FILES


@pytest.mark.parametrize("writes", range(len(FILES)))
def test_an_upload_that_is_cut_anywhere_leaves_the_version_before(place, store, writes) -> None:
    write(store, 1)
    before, intact = store.read("asset", "key"), place._fs
    place._fs = Uplink(intact, writes=writes)
    with pytest.raises(StorageError, match=r"must be reachable, found connection lost at memory"):
        write(store, 2)
    place._fs = intact
    after = store.read("asset", "key")
    assert after.path == before.path
    assert after.json("a.json") == 1
    write(store, 3)
    assert store.read("asset", "key").json("b.json") == 3


def test_the_first_upload_that_is_cut_is_an_artifact_that_was_never_made(place, store) -> None:
    intact = place._fs
    place._fs = Uplink(intact, writes=2)
    with pytest.raises(StorageError):
        write(store, 1)
    place._fs = intact
    assert store.current("asset", "key") is None
    (left,) = store.versions()
    assert left.kind == "draft"
    store.remove(left)
    assert objects(place) == {}


def test_an_upload_that_is_cut_is_tried_again_before_its_work_is_lost(
    place: ObjectPlace, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PUBLISH_WAITS_S", (0.0, 0.0))
    intact, lines = place._fs, iter((1, 2, 99))

    class Reconnecting(Uplink):
        def _note(self, target: str) -> None:
            try:
                super()._note(target)
            except OSError:
                self.left = next(lines)
                raise

    place._fs = Reconnecting(intact, writes=next(lines))
    write(store, 1)
    place._fs = intact
    assert store.read("asset", "key").json("b.json") == 1
    assert [version.kind for version in store.versions()] == ["current"]


def test_no_object_but_the_pointer_is_ever_written_again(place, store) -> None:
    write(store, 1)
    before = objects(place)
    write(store, 1)  # to the same content
    write(store, 2)
    after = objects(place)
    pointer = f"{place.root.path}/asset/key/current"
    assert {path for path in before if after[path] != before[path]} == {pointer}
    assert [v.kind for v in store.versions()].count("superseded") == 2


def test_a_reader_of_another_machine_gets_a_copy_and_keeps_it(place, store, tmp_path) -> None:
    write(store, 7)
    elsewhere = ObjectPlace(str(place.root), tmp_path / "elsewhere")
    artifact = ArtifactStore(elsewhere).read("asset", "key")
    copy = artifact.file("a.json")
    assert copy.read_text() == "7"
    assert copy.parent == tmp_path / "elsewhere" and copy.suffix == ".json"
    place.root.fs.rm_file(f"{artifact.path.path}/a.json")
    assert artifact.file("a.json") == copy  # the same bytes, whatever became of the object


def test_a_damaged_copy_is_fetched_again_and_a_damaged_object_is_refused(store) -> None:
    write(store, 7)
    artifact = store.read("asset", "key")
    artifact.file("a.json").write_text("8")
    assert artifact.json("a.json") == 7
    artifact.file("a.json").unlink()
    (artifact.path / "a.json").write_text("8")
    with pytest.raises(ArtifactError, match=r"a\.json must have the bytes it was written with"):
        artifact.json("a.json")


def test_a_store_that_does_not_answer_is_no_reason_to_build_again(
    place: ObjectPlace, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ``ArtifactError`` would be: the builder takes it for a damaged artifact."""
    write(store, 1)

    def refuses(path: str) -> bytes:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(place._fs, "cat_file", refuses)
    with pytest.raises(StorageError, match=r"found Access Denied at memory://.*credentials"):
        store.current("asset", "key")
    assert not issubclass(StorageError, ArtifactError)


def test_an_error_of_the_stores_own_kind_is_one_of_ours(
    place: ObjectPlace, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What botocore raises when there is no network is not an ``OSError``."""

    class EndpointConnectionError(Exception): ...

    def away(path: str) -> bytes:
        raise EndpointConnectionError("Could not connect to the endpoint URL")

    monkeypatch.setattr(place._fs, "cat_file", away)
    with pytest.raises(StorageError, match="found Could not connect to the endpoint URL at mem"):
        store.current("asset", "key")


def test_a_bucket_that_does_not_exist_is_said_to_be_out_of_reach_at_once(
    place: ObjectPlace, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PUBLISH_WAITS_S", (3600.0,))  # for what may pass by itself

    def refuses(source: str, target: str) -> None:
        raise FileNotFoundError("The specified bucket does not exist")

    monkeypatch.setattr(place._fs, "put_file", refuses)
    with pytest.raises(
        StorageRefusedError, match="found The specified bucket does not exist at memory"
    ):
        write(store, 1)


@pytest.mark.parametrize("url", ["ftp://host/x", "https://host/x", "s3://", "/var/artifacts", "s3"])
def test_a_place_whose_writes_are_not_whole_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"SCHEME://BUCKET/PREFIX .* found '{url}'"):
        ObjectPlace(url, tmp_path)


def test_a_store_without_its_package_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if not installed
    with pytest.raises(ConfigError, match=r"gs://b/x must have the package gcsfs.*pip install"):
        ObjectPlace("gs://b/x", tmp_path)


def test_the_place_is_chosen_by_environment_and_toggled_runs_keep_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(tmp_path)
    assert open_artifacts(settings).root == tmp_path / "artifacts"
    assert open_artifacts(settings, "x").root == tmp_path / "toggled" / "x" / "artifacts"
    monkeypatch.setenv("TFT_ARTIFACTS_URL", f"memory://{tmp_path.name}/place/")
    monkeypatch.setenv("TFT_ARTIFACT_CACHE", str(tmp_path / "fast"))
    chosen, toggled = open_artifacts(settings), open_artifacts(settings, "x")
    assert str(chosen.root) == f"memory://{tmp_path.name}/place"
    assert str(toggled.root) == f"memory://{tmp_path.name}/place/toggled/x"
    write(chosen, 1)
    write(toggled, 1)
    assert len(chosen.versions()) == 1  # nobody cleans the other's
    assert len(list((tmp_path / "fast").iterdir())) > 0
