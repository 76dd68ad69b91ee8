"""The plan's TestCheckpointManager, extended."""

import json
import re
from datetime import date

import pandas as pd
import pytest
import torch
from upath import UPath

from tests.support.checkpoints import PASSED, metadata, weights
from tft_core.checkpoint_manager import CheckpointManager, state_mismatches
from tft_core.errors import CheckpointError

JUNE = date(2020, 6, 30)


@pytest.fixture
def registry(tmp_path):
    return CheckpointManager(tmp_path / "checkpoints")


@pytest.mark.parametrize("root", ["s3://b/models", UPath("memory://models")], ids=str)
def test_a_registry_that_is_no_posix_directory_is_refused(root):
    with pytest.raises(CheckpointError, match=rf"POSIX file system, found {root}; its atomic"):
        CheckpointManager(root)


class TestCheckpointManager:
    def test_save_makes_the_documented_directory(self, registry):
        path = registry.save(
            weights(),
            metadata(),
            feature_selector={"kept": ["ret_1"]},
            optuna_study=pd.DataFrame(
                {
                    "number": [0, 1],
                    "value": [0.5, float("nan")],
                    "duration": pd.to_timedelta([1, 2], "s"),
                }
            ),
            extra_files={"report.html": b"<html>"},
        )
        assert path.parent == registry.root / "x_trend"
        assert re.fullmatch(r"v1_\d{8}T\d{6}Z", path.name)
        assert sorted(entry.name for entry in path.iterdir()) == [
            "MANIFEST.json",
            "feature_selector.json",
            "metadata.json",
            "model.safetensors",
            "report.html",
            "trials.json",
        ]
        assert registry.load_feature_selector(path) == {"kept": ["ret_1"]}
        assert registry.load_trials(path) == {
            "columns": ["number", "value", "duration"],
            "rows": [[0, 0.5, 1.0], [1, None, 2.0]],
        }
        assert registry.read_file(path, "report.html") == b"<html>"
        assert registry.verify(path) == []

    def test_the_state_dict_comes_back_to_the_bit(self, registry):
        state = weights()
        loaded, _ = registry.load(registry.save(state, metadata()))
        assert state_mismatches(loaded, state) == []
        assert all(torch.equal(loaded[name], state[name]) for name in state)

    def test_the_metadata_comes_back(self, registry):
        saved = metadata(sharpe_oos=0.7)
        _, loaded = registry.load(registry.save(weights(), saved))
        assert loaded == saved.replace(version=1, created_at=loaded.created_at)
        assert pd.Timestamp(loaded.created_at).tzinfo is not None

    def test_a_module_is_saved_by_its_state(self, registry):
        module = torch.nn.Linear(3, 2)
        loaded, _ = registry.load(registry.save(module, metadata()))
        other = torch.nn.Linear(3, 2)
        other.load_state_dict(loaded)
        probe = torch.ones(1, 3)
        assert torch.equal(other(probe), module(probe))

    def test_versions_count_up_within_a_model_type(self, registry):
        names = [registry.save(weights(i), metadata()).name.split("_")[0] for i in range(3)]
        other = registry.save(weights(0), metadata(model_type="other"))
        assert names == ["v1", "v2", "v3"]
        assert other.name.startswith("v1_")

    def test_the_list_ascends_by_version_beyond_nine(self, registry):
        for i in range(11):
            registry.save(weights(i), metadata(sharpe_oos=i / 10))
        rows = registry.list_checkpoints("x_trend")
        assert [row["version"] for row in rows] == list(range(1, 12))
        assert [row["sharpe_oos"] for row in rows] == [i / 10 for i in range(11)]
        assert {row["status"] for row in rows} == {"candidate"}
        assert registry.list_checkpoints() == rows

    def test_latest_is_the_highest_version(self, registry):
        for i in range(3):
            registry.save(weights(i), metadata())
        state, meta = registry.load_latest("x_trend")
        assert meta.version == 3
        assert torch.equal(state["member_0/head.weight"], weights(2)["member_0/head.weight"])

    def test_the_same_content_is_found_again(self, registry):
        first = registry.save(weights(), metadata(run_info={"seconds": 1.0}))
        judged = {"gate": PASSED, "sharpe_oos": 0.1, "status": "refused"}
        again = registry.save(weights(), metadata(run_info={"seconds": 9.0}, **judged))
        forced = registry.save(weights(), metadata(), force=True)
        assert again == first
        assert forced != first
        assert registry.find(CheckpointManager.content_hash_of(first)) == forced
        assert registry.find("0" * 64) is None

    @pytest.mark.parametrize(
        "change",
        [{"seeds": (7,)}, {"data_hash": "e" * 64}, {"fold": "2020-01-01"}, {"threads": 4}],
    )
    def test_other_content_is_another_version(self, registry, change):
        first = registry.save(weights(), metadata())
        assert registry.save(weights(), metadata(**change)) != first
        assert registry.save(weights(1), metadata()) != first

    def test_a_taken_version_number_is_refused(self, registry):
        registry.save(weights(), metadata(version=4))
        assert registry.save(weights(1), metadata()).name.startswith("v5_")
        with pytest.raises(CheckpointError, match="version must be unused, found 4 taken"):
            registry.save(weights(2), metadata(version=4))

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_weights_that_are_not_finite_are_never_saved(self, registry, bad):
        state = weights()
        state["member_0/head.bias"][1] = bad
        with pytest.raises(CheckpointError, match=r"found others in member_0/head.bias \(1 of 4"):
            registry.save(state, metadata())
        assert registry.list_checkpoints() == []

    def test_an_extra_file_must_have_a_plain_name_of_its_own(self, registry):
        for name in ("../evil", "a/b", "", ".hidden", "MANIFEST.json", "x" * 200):
            with pytest.raises(CheckpointError, match="file name must be plain letters"):
                registry.save(weights(), metadata(), extra_files={name: b""})
        with pytest.raises(CheckpointError, match=r"must not replace metadata.json"):
            registry.save(weights(), metadata(), extra_files={"metadata.json": b""})

    def test_what_is_asked_for_and_missing_is_answered_with_what_exists(self, registry):
        with pytest.raises(CheckpointError, match="'x_trend', found no version"):
            registry.load_latest("x_trend")
        path = registry.save(weights(), metadata())
        with pytest.raises(CheckpointError, match=f"found x_trend/{path.name}"):
            registry.load(registry.root / "x_trend" / "v9_20200101T000000Z")
        with pytest.raises(CheckpointError, match=f"found 9 but only x_trend/{path.name}"):
            registry.promote(9, "why not")
        assert registry.path_of("v1") == registry.path_of(1) == registry.path_of(path) == path
        assert registry.production_path_or_none() is None
        with pytest.raises(CheckpointError, match="model_type must be lower-case"):
            registry.load_latest("../x")

    def test_a_fold_finds_its_newest_model(self, registry):
        registry.save(weights(0), metadata(fold="2018-01-01", path="tuned"))
        newer = registry.save(weights(1), metadata(fold="2018-01-01", path="tuned"))
        plain = registry.save(weights(2), metadata(fold="2018-01-01", path="default"))
        assert registry.for_fold("2018-01-01", "tuned") == newer
        assert registry.for_fold("2018-01-01") == plain
        assert registry.for_fold("2019-01-01") is None


class TestPromotion:
    def test_nothing_is_in_production_before_a_promotion(self, registry):
        registry.save(weights(), metadata())
        assert registry.production_on(JUNE) is None
        with pytest.raises(CheckpointError, match="must have been promoted, found none"):
            registry.load_production("x_trend")

    def test_each_session_has_the_version_promoted_by_then(self, registry):
        one, two = (registry.save(weights(i), metadata()) for i in range(2))
        registry.promote(one, "first", effective=date(2020, 7, 1))
        registry.promote("v2", "better", effective=date(2020, 8, 3))
        days = [JUNE, date(2020, 7, 1), date(2020, 8, 2), date(2020, 8, 3)]
        assert [registry.production_on(day) for day in days] == [None, one, one, two]
        assert registry.load_production("x_trend")[1].version == 2
        assert registry.load_production("x_trend", date(2020, 7, 9))[1].version == 1
        with pytest.raises(CheckpointError, match="by 2020-06-30, found the first one from"):
            registry.production_path("x_trend", JUNE)
        assert [row["status"] for row in registry.list_checkpoints()] == ["retired", "production"]

    def test_the_past_is_not_rewritten(self, registry):
        one, two = (registry.save(weights(i), metadata()) for i in range(2))
        registry.promote(one, "first", effective=date(2020, 9, 1))
        registry.promote(two, "better", effective="2020-08-03")
        assert registry.production_on(date(2020, 8, 31)) is None
        assert registry.production_history()[1].effective == "2020-09-01"
        assert registry.production_path_or_none() == two

    def test_a_model_is_not_promoted_into_sessions_it_has_trained_on(self, registry):
        path = registry.save(weights(), metadata())
        with pytest.raises(CheckpointError, match=r"before 2020-06-30, .* found 2020-06-29"):
            registry.promote(path, "hindsight", effective=date(2020, 6, 29))

    def test_a_later_promotion_does_not_change_what_an_earlier_session_had(self, registry):
        one, two = (registry.save(weights(i), metadata()) for i in range(2))
        registry.promote(one, "first", effective=date(2020, 7, 1))
        days = [date(2020, month, 1) for month in range(6, 12)]
        before = [registry.production_on(day) for day in days]
        registry.promote(two, "better", effective=date(2020, 11, 2))
        registry.rollback("worse")
        assert [registry.production_on(day) for day in days] == before

    def test_promoting_the_production_version_again_changes_nothing(self, registry):
        path = registry.save(weights(), metadata())
        registry.promote(path, "first", effective=date(2020, 7, 1))
        registry.promote(path, "again")
        assert len(registry.production_history()) == 1

    def test_the_gate_must_have_passed(self, registry):
        refused = registry.save(weights(0), metadata(gate={"passed": False}, status="refused"))
        unjudged = registry.save(weights(1), metadata(gate=None))
        with pytest.raises(CheckpointError, match=r"found passed=False, status 'refused'"):
            registry.promote(refused, "try")
        with pytest.raises(CheckpointError, match="the promotion gate, found no verdict"):
            registry.promote(unjudged, "try")
        with pytest.raises(CheckpointError, match="found passed=False"):
            registry.promote(unjudged, "try", gate={"passed": False})
        registry.promote(unjudged, "judged later", gate=PASSED)
        registry.promote(refused, "the desk insists", override=True)
        assert [event.overridden for event in registry.production_history()] == [False, True]
        with pytest.raises(CheckpointError, match="reason must say why"):
            registry.promote(unjudged, " ")

    def test_rollback_returns_to_the_version_before_and_sticks(self, registry):
        paths = [registry.save(weights(i), metadata()) for i in range(3)]
        for path in paths:
            registry.promote(path, "newer", effective=date(2020, 7, 1))
        assert registry.rollback("lost money") == paths[1]
        assert registry.load_production()[1].version == 2
        with pytest.raises(CheckpointError, match=r"v3 must not have been .*lost money"):
            registry.promote(3, "automation tries again")
        assert registry.rolled_back_versions() == {3: "lost money"}
        assert registry.list_checkpoints()[2]["status"] == "rolled_back"
        assert registry.rollback("still") == paths[0]
        with pytest.raises(CheckpointError, match="earlier promoted version of 'x_trend', found 1"):
            registry.rollback("nothing left")
        registry.promote(3, "was a data fault", override=True)
        assert registry.rolled_back_versions() == {2: "still"}

    def test_a_promoted_version_that_was_replaced_is_not_served(self, registry, tmp_path):
        path = registry.save(weights(), metadata())
        registry.promote(path, "first")
        forger = CheckpointManager(tmp_path / "elsewhere")
        forged = forger.save(weights(9), metadata())
        for entry in path.iterdir():
            entry.unlink()
        for entry in forged.iterdir():
            (path / entry.name).write_bytes(entry.read_bytes())
        assert registry.verify(path) == []
        with pytest.raises(CheckpointError, match="found other files in its place"):
            registry.load_production()

    def test_a_damaged_promotion_record_serves_nothing(self, registry):
        path = registry.save(weights(), metadata())
        registry.promote(path, "first", effective=date(2020, 7, 1))
        record = path.parent / "promotions.json"
        text = record.read_text()
        for broken in (text.replace("2020-07-01", "2020-07-02"), text[:-9], "", "[]",
                       text.replace(path.name, "../../elsewhere")):  # fmt: skip
            record.write_text(broken)
            with pytest.raises(CheckpointError, match=r"promotions.json must .* found it damaged"):
                registry.load_production()

    def test_only_versions_of_this_registry_can_be_promoted(self, registry, tmp_path):
        other = CheckpointManager(tmp_path / "elsewhere").save(weights(), metadata())
        with pytest.raises(CheckpointError, match=r"only a version under .* can be promoted"):
            registry.promote(other, "stranger")


class TestGc:
    def test_gc_keeps_the_newest_of_each_fold_and_all_that_were_promoted(self, registry):
        saved = [registry.save(weights(i), metadata()) for i in range(5)]
        fold = registry.save(weights(9), metadata(fold="2018-01-01"))
        registry.promote(saved[0], "first")
        registry.promote(saved[4], "newer")
        removed = registry.gc(keep=1)
        assert removed == saved[1:4]
        left = sorted(entry.name for entry in fold.parent.iterdir() if entry.is_dir())
        assert left == sorted([saved[0].name, saved[4].name, fold.name])
        assert registry.save(weights(20), metadata()).name.startswith("v7_")
        with pytest.raises(CheckpointError, match="keep must be at least 1, found 0"):
            registry.gc(keep=0)

    def test_gc_leaves_a_damaged_version_to_a_person(self, registry):
        first = registry.save(weights(0), metadata())
        registry.save(weights(1), metadata())
        (first / "metadata.json").write_text("{}")
        assert registry.gc(keep=1) == []
        rows = registry.list_checkpoints()
        assert [row["status"] for row in rows] == ["damaged", "candidate"]
        assert "metadata.json must be" in rows[0]["problem"]


def test_leaves_that_do_not_fit_are_all_named():
    found = weights()
    expected = {**found, "new": torch.zeros(2), "member_0/head.bias": torch.zeros(3)}
    del found["bank_0/asset_id"]
    assert state_mismatches(found, expected) == [
        "bank_0/asset_id is missing",
        "member_0/head.bias must be torch.float32, found torch.float64",
        "member_0/head.bias must have shape (3,), found (4,)",
        "new is missing",
    ]


def test_metadata_on_disk_is_readable_json_with_the_plan_s_fields(registry):
    path = registry.save(weights(), metadata())
    table = json.loads((path / "metadata.json").read_text())
    assert set(table) >= {
        "version", "model_type", "created_at", "git_commit", "feature_names", "n_features",
        "n_assets", "asset_names", "config", "normalization", "training_info",
        "feature_selection", "optuna_best_params", "sharpe_oos", "total_return_oos",
        "max_drawdown_oos",
    }  # fmt: skip
