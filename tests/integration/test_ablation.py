"""The ablation on a whole lifecycle: equal conditions for every arm, and no look ahead."""

import json

import numpy as np
import pandas as pd
import pytest

from tft_core.errors import ConfigError, FoldError
from tft_core.schema import LIVE_FOLD
from tft_core.training_pipeline.ablation import AblationConfig, ablate, arms_of
from tft_core.training_pipeline.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(lifecycle) -> Workspace:
    pipeline, _ = lifecycle
    return pipeline.workspace


@pytest.fixture(scope="module")
def ablated(workspace):
    return ablate(workspace, LIVE_FOLD, AblationConfig(sizes=(5,), n_draws=1, n_seeds=1))


def test_every_arm_walks_the_same_days(ablated) -> None:
    assert list(ablated.daily.columns) == ["all", "top 5", "random 5 #1"]
    assert ablated.daily.index.is_monotonic_increasing
    assert ablated.daily.notna().all().all()
    assert not np.allclose(ablated.daily["top 5"], ablated.daily["random 5 #1"])
    assert len(ablated.daily) == ablated.inner_folds["n_days"].sum()


def test_every_ranking_is_dated_before_the_inner_test_it_is_used_in(ablated) -> None:
    starts = ablated.daily.index[np.cumsum([0, *ablated.inner_folds["n_days"]])[:-1]]
    for report, start in zip(ablated.inner_folds["report"], starts, strict=True):
        assert pd.Timestamp(report) <= start


def test_page_and_table_tell_the_same(ablated, tmp_path) -> None:
    page = ablated.write(tmp_path)
    told = json.loads((tmp_path / "ablation.json").read_text())
    assert told["comparisons"][0]["against"] == "all"
    assert ablated.sentence in page.read_text()
    assert told["sentence"] == ablated.sentence
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "daily.parquet").set_index("date"),
        ablated.daily,
        check_freq=False,
    )


def test_a_fold_that_no_report_precedes_is_refused(workspace) -> None:
    first = workspace.plan.upto(LIVE_FOLD)[0]
    with pytest.raises(FoldError, match="found 0 such inner folds and sizes"):
        ablate(workspace, first, AblationConfig(sizes=(5,)))


def test_arms_are_cut_to_kept_features_and_keep_their_order() -> None:
    kept = ("a", "b", "c", "d", "never_ranked")
    arms = arms_of(kept, ("d", "dropped", "b", "a", "c"), AblationConfig(sizes=(2, 5), n_draws=2))
    assert arms["all"] == kept
    assert arms["top 2"] == ("b", "d")
    assert set(arms) == {"all", "top 2", "random 2 #1", "random 2 #2"}  # 5 of 5 is no cut
    assert all(len(arms[f"random 2 #{d}"]) == 2 for d in (1, 2))


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ConfigError, match=r"ablation\.sizes must be at least 1, found \(0,\)"):
        AblationConfig(sizes=(0,))
