"""What the selection phases of a whole lifecycle leave behind."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tft_core.folds import FoldConfig
from tft_core.schema import LIVE_FOLD
from tft_core.training_pipeline.rows import load_training_data, training_rows
from tft_core.training_pipeline.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(lifecycle) -> Workspace:
    pipeline, _ = lifecycle
    return pipeline.workspace


def test_the_prefilters_table_shows_coverage_by_asset_class(workspace) -> None:
    told = workspace.artifacts.read("prefiltered_features", LIVE_FOLD).json("prefilter.json")
    features = workspace.artifacts.read("mega_features", LIVE_FOLD)
    classes = set(features.frame("instruments.parquet")["asset_class"])
    assert set(told["coverage_by_class"]) == classes
    for by_feature in told["coverage_by_class"].values():
        assert set(by_feature) == set(told["coverage"])


def test_the_screen_is_the_rank_correlation_on_training_rows(workspace) -> None:
    """Against scipy, on the rows that may bear loss before the fold's end, for some features."""
    screened = workspace.artifacts.read("exploration_fold", LIVE_FOLD).frame("screen.parquet")
    data = load_training_data(workspace, LIVE_FOLD)
    folds = workspace.settings.build(FoldConfig, "folds")
    kept = tuple(screened["feature"])
    part = training_rows(data, workspace.plan.fold(LIVE_FOLD), folds, kept)
    label = data.labels / data.sigma_daily
    rows = part.rows
    day, asset = rows.date_index[part.train], rows.asset_id[part.train]
    for name in kept[:3]:
        x = data.panel.select((name,)).values[day, asset, 0]
        y = label[day, asset]
        both = np.isfinite(x) & np.isfinite(y)
        expected = stats.spearmanr(x[both], y[both]).statistic
        found = screened.set_index("feature").loc[name, "ic"]
        assert found == pytest.approx(expected, abs=1e-3)


def test_an_explored_fold_shows_each_features_means_over_seeds_by_weight(workspace) -> None:
    artifact = workspace.artifacts.read("exploration_fold", LIVE_FOLD)
    records = artifact.frame("records.parquet")
    shown = artifact.frame("table_features.parquet").set_index("feature")
    assert shown["weight"].is_monotonic_decreasing
    name = shown.index[0]
    own = records[records["feature"] == name]
    for column in ("weight", "lift", "perm_dposition"):
        assert shown.loc[name, column] == pytest.approx(float(np.mean(own[column])))
    shadows = records[records["is_shadow"]]
    beaten = [
        row.weight > max(shadows.loc[shadows["seed"] == row.seed, "weight"])
        for row in own.itertuples()
    ]
    assert shown.loc[name, "above_all_shadows"] == pytest.approx(np.mean(beaten))
    assert not set(shown.index) & set(shadows["feature"])
    assert "permutation.png" in artifact.files


def test_the_report_keeps_the_arrays_it_was_made_from(workspace) -> None:
    artifact = workspace.artifacts.read("vsn_stability_report", LIVE_FOLD)
    records = artifact.frame("records.parquet")
    assert set(records["fold"]) == set(workspace.plan.upto(LIVE_FOLD))
    weights = artifact.frame("weights.parquet").set_index("feature")
    table = artifact.frame("table_features.parquet").set_index("feature")
    pd.testing.assert_series_equal(
        weights.mean(axis=1).reindex(table.index), table["weight"], check_names=False
    )
    checked = artifact.frame("cross_check.parquet")
    assert set(checked["feature"]) == set(table.index)
