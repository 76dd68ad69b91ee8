"""The façade, with the plan's list of tests, and the cross-check by simple screens."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from exploration_records import planted_records
from scipy import stats

from tft_core.errors import SelectionError
from tft_core.feature_selection import (
    FeatureSelectionConfig,
    FeatureSelector,
    cross_check,
    screen,
    stability_report,
)

CONFIG = FeatureSelectionConfig(final_min_features=0, mi_max_rows=800)


@pytest.fixture(scope="module")
def records() -> pd.DataFrame:
    return planted_records(np.random.default_rng(0))


@pytest.fixture(scope="module")
def market() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """5 assets × 400 dates; f00 drives the label, f01 its size only, the rest is noise."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal((2000, 12)).astype(np.float32)
    label = 0.5 * values[:, 0] + np.abs(values[:, 1]) + 0.5 * rng.standard_normal(2000)
    return values, label, np.tile(np.arange(400), 5), [f"f{i:02d}" for i in range(12)]


class TestFeatureSelector:
    def test_coverage_filter(self) -> None:
        frame = pd.DataFrame(
            np.random.default_rng(0).standard_normal((200, 3)), columns=list("abc")
        )
        frame.loc[50:, "b"] = np.nan
        frame.insert(0, "symbol", "X")
        assert FeatureSelector(CONFIG).prefilter(frame).kept == ("a", "c")

    def test_correlation_filter(self) -> None:
        x = np.random.default_rng(0).standard_normal((300, 2))
        selector = FeatureSelector(CONFIG)
        result = selector.prefilter(np.column_stack([x, 3 * x[:, 0]]), ["a", "b", "c"])
        assert result.kept == ("a", "b")
        assert result.dropped["c"].stand_in == "a"
        assert selector.prefilter_result is result

    def test_mi_ranking(self, market) -> None:
        table = FeatureSelector(CONFIG).screen(*_screen_arguments(market))
        assert set(table["mi"].nlargest(2).index) == {"f00", "f01"}

    def test_permutation_importance(self, records: pd.DataFrame) -> None:
        selector = FeatureSelector(CONFIG)
        selector.add_fold_records(records)
        table = selector.feature_importance_report()
        expected = records.groupby("feature")["perm_dposition"].mean()
        np.testing.assert_allclose(table["perm_dposition"], expected[table.index])

    def test_consensus_merge(self, records: pd.DataFrame, market) -> None:
        selector = FeatureSelector(CONFIG)
        selector.add_fold_records(records)
        screened = selector.screen(*_screen_arguments(market))
        table = selector.feature_importance_report(screened)
        known = table.dropna(subset=["rank_consensus"])
        assert len(known) == 12
        assert set(known["rank_consensus"].nsmallest(2).index) == {"f00", "f01"}
        ranks = known[["rank_model", "rank_mi", "rank_ic"]]
        np.testing.assert_allclose(known["rank_consensus"], ranks.mean(axis=1))

    def test_stability_analysis(self, records: pd.DataFrame) -> None:
        selector = FeatureSelector(CONFIG, {"f00": "trend"})
        for _, one in records.groupby("fold"):
            selector.add_fold_records(one)
        direct = stability_report(records, CONFIG, {"f00": "trend"})
        assert selector.stability_report().to_dict() == direct.to_dict()

    def test_select_fold_validity(self, records: pd.DataFrame) -> None:
        """What is selected for a fold does not know the folds after it."""
        selector = FeatureSelector(CONFIG)
        selector.add_fold_records(records)
        early = FeatureSelector(CONFIG)
        early.add_fold_records(records[records["fold"] <= "2020-01-01"])
        assert selector.select_fold("2020-01-01") == early.select_fold("2020-01-01")
        poisoned = records.copy()
        later = poisoned["fold"] > "2020-01-01"
        poisoned.loc[later, "weight"] = np.random.default_rng(2).random(later.sum())
        other = FeatureSelector(CONFIG)
        other.add_fold_records(poisoned)
        assert other.select_fold("2020-01-01") == selector.select_fold("2020-01-01")
        with pytest.raises(SelectionError, match="found '1999-01-01' not among 2018-01-01"):
            selector.select_fold("1999-01-01")

    def test_live_comes_after_every_date(self, records: pd.DataFrame) -> None:
        selector = FeatureSelector(CONFIG)
        selector.add_fold_records(records.replace({"fold": {"2021-01-01": "live"}}))
        assert selector.stability_report("2020-01-01").n_folds == 3
        assert selector.stability_report("live").n_folds == 4

    def test_the_same_run_is_not_taken_twice(self, records: pd.DataFrame) -> None:
        selector = FeatureSelector(CONFIG)
        selector.add_fold_records(records)
        with pytest.raises(SelectionError, match="twice; drop the older run"):
            selector.add_fold_records(records.iloc[:5])

    def test_save_and_load(self, records: pd.DataFrame, tmp_path: Path) -> None:
        selector = FeatureSelector(CONFIG, {"f00": "trend"})
        x = np.random.default_rng(0).standard_normal((100, 60))
        selector.prefilter(x, [f"f{i:02d}" for i in range(60)])
        selector.add_fold_records(records.assign(perm_dsharpe=np.nan))
        back = FeatureSelector.load(selector.save(tmp_path / "selector.json"))
        assert back.config == CONFIG
        assert back.prefilter_result == selector.prefilter_result
        pd.testing.assert_frame_equal(back.records, selector.records)
        assert back.stability_report().to_dict() == selector.stability_report().to_dict()

    def test_a_foreign_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x.json").write_text("[1]")
        with pytest.raises(SelectionError, match="found other JSON"):
            FeatureSelector.load(tmp_path / "x.json")
        (tmp_path / "x.json").write_text('{"format": 99}')
        with pytest.raises(SelectionError, match="must have format 1, found 99"):
            FeatureSelector.load(tmp_path / "x.json")
        with pytest.raises(SelectionError, match="must be a stored selector"):
            FeatureSelector.load(tmp_path / "none.json")


def _screen_arguments(market):
    values, label, dates, names = market
    return values, names, label, dates


def test_the_ic_is_spearmans_and_its_error_that_of_independent_rows(market) -> None:
    values, label, dates, names = market
    table = screen(values, names, label, dates, CONFIG)
    for name in ("f00", "f05"):
        i = names.index(name)
        assert table.loc[name, "ic"] == pytest.approx(stats.spearmanr(values[:, i], label)[0])
    width = table.loc["f05", "ic_high"] - table.loc["f05", "ic_low"]
    assert width == pytest.approx(2 * 1.645 / 2000**0.5, rel=0.25)


def test_rows_of_one_date_count_as_one_observation() -> None:
    """Five assets with the same value and label carry the error of one."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((400, 1)), rng.standard_normal(400)
    one = screen(x, ["x"], y, np.arange(400), CONFIG)
    five = screen(x.repeat(5, axis=0), ["x"], y.repeat(5), np.arange(400).repeat(5), CONFIG)
    assert five["ic_t"].iloc[0] == pytest.approx(one["ic_t"].iloc[0], rel=0.02)


def test_persistent_features_on_overlapping_labels_get_a_wider_interval() -> None:
    rng = np.random.default_rng(4)
    shock = rng.standard_normal((2, 3000))
    slow = np.apply_along_axis(lambda e: np.convolve(e, np.ones(20), "same"), 1, shock)
    table = screen(slow[:1].T, ["x"], slow[1], np.arange(3000), CONFIG)
    width = float((table["ic_high"] - table["ic_low"]).iloc[0])
    assert width > 2 * (2 * 1.645 / 3000**0.5)


def test_too_few_rows_give_no_number(market) -> None:
    values, label, dates, names = market
    few = values.copy()
    few[40:, 3] = np.nan
    table = screen(few, names, label, dates, CONFIG)
    assert np.isnan(table.loc["f03", ["ic", "mi"]].to_numpy(float)).all()
    assert table.loc["f03", "n_rows"] == 40


def test_strong_disagreement_is_flagged_for_a_person(records: pd.DataFrame) -> None:
    """f02 passes without any screen seeing it; f30 is plain to see and unused."""
    report = stability_report(records, CONFIG)
    names = [f"f{i:02d}" for i in range(60)]
    rng = np.random.default_rng(5)
    values = rng.standard_normal((1500, 60))
    label = 0.6 * values[:, 30] + rng.standard_normal(1500)
    table = cross_check(screen(values, names, label, np.arange(1500), CONFIG), report)
    assert table.loc["f30", "flag"] == "screens_see_it_model_does_not"
    flagged = set(table.index[table["flag"] == "model_uses_it_screens_see_nothing"])
    assert flagged
    assert flagged <= set(report.table.index[report.table["passes"]])
