"""A finished lifecycle, backed up, put back elsewhere and cleaned: nothing is built again."""

from dataclasses import replace
from datetime import date

import pytest

from tft_core.schema import MODEL_TYPE
from tft_core.training_pipeline import Workspace
from tft_core.training_pipeline.phases.serving import model_of_session
from tft_core.upkeep.backup import back_up, restore
from tft_core.upkeep.garbage import collect_garbage

SESSION = "2018-05-15"


@pytest.fixture
def restored(lifecycle, tmp_path) -> tuple[Workspace, Workspace]:
    """The workspace that was backed up, and its copy in another place."""
    before = lifecycle[0].workspace
    made = back_up(before.settings.home, tmp_path / "b.tar")
    restore(made.path, tmp_path / "there")
    return before, Workspace.open(replace(before.settings, home=tmp_path / "there"))


def test_all_of_a_restored_lifecycle_is_fresh_and_its_models_verify(restored) -> None:
    before, after = restored
    for asset, key in after.lifecycle():
        assert after.is_fresh(asset, key), f"{asset}/{key}"
        assert after.artifacts.read(asset, key).files == before.artifacts.read(asset, key).files
    rows = after.registry.list_checkpoints(MODEL_TYPE)
    assert len(rows) == len(before.registry.list_checkpoints(MODEL_TYPE))
    assert all(after.registry.verify(row["path"]) == [] for row in rows)


def test_a_session_inferred_from_restored_state_is_the_same_to_the_bit(restored) -> None:
    before, after = restored
    hashes = [w.build("inference", SESSION).content_hash for w in (before, after)]
    assert hashes[0] == hashes[1]


def test_cleaning_keeps_every_model_that_a_fold_or_production_serves(restored) -> None:
    _, after = restored
    session = date.fromisoformat(SESSION)
    model, _ = model_of_session(after, session)
    collect_garbage(after, older_than_days=0, keep=1)
    assert model_of_session(after, session)[0] == model
    assert all(after.is_fresh(asset, key) for asset, key in after.lifecycle())
    after.build("inference", SESSION)


def test_cleaning_keeps_what_a_fold_names_though_a_newer_version_exists(restored) -> None:
    """A fold built with another seed and back again names its older checkpoints."""
    _, after = restored
    key = after.plan.keys[0]
    named = after.artifacts.read("production_fold", key).json("candidates.json")
    after.build("production_fold", key, {"seed": 99})
    assert after.artifacts.read("production_fold", key).json("candidates.json") != named
    after.build("production_fold", key)
    assert after.artifacts.read("production_fold", key).json("candidates.json") == named
    collect_garbage(after, older_than_days=0, keep=1)
    assert all(after.registry.find(digest) is not None for digest in named.values())
