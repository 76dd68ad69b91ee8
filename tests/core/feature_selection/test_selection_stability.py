"""Tier 2 on records whose truth is known: verdicts, recommended sets, and what is missing."""

import json

import numpy as np
import pandas as pd
import pytest
from exploration_records import null_records, planted_records

from tft_core.errors import SelectionError
from tft_core.feature_selection import (
    FeatureSelectionConfig,
    StabilityReport,
    stability_report,
)

TRUE = {f"f{i:02d}" for i in range(12)}
NO_FILL = FeatureSelectionConfig(final_min_features=0)


def codes(report: StabilityReport) -> set[str]:
    return {reason.code for reason in report.reasons}


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    return planted_records(np.random.default_rng(0))


@pytest.fixture(scope="module")
def planted_report(planted: pd.DataFrame) -> StabilityReport:
    return stability_report(planted, NO_FILL, {"f00": "trend", "f01": "trend", "f02": "volume"})


def test_planted_records_are_informative_and_the_truth_is_found(
    planted_report: StabilityReport,
) -> None:
    report = planted_report
    assert report.verdict == "informative"
    found = set(report.recommended_features)
    assert len(found & TRUE) >= 11
    assert len(found - TRUE) <= 3
    assert report.sentence.startswith(f"Believe the top {len(found)} of 60")
    assert report.statistics["chance_p_value"] < 0.01
    assert not report.passes_prefiltered_on


def test_recommended_features_are_ranked_by_evidence(planted_report: StabilityReport) -> None:
    evidence = planted_report.table.loc[list(planted_report.recommended_features), "evidence"]
    assert evidence.is_monotonic_decreasing


def test_an_untrained_network_is_not_above_chance() -> None:
    refused = 0
    for seed in range(10):
        report = stability_report(null_records(np.random.default_rng(seed)), NO_FILL)
        refused += report.verdict == "not_above_chance"
        if report.verdict == "not_above_chance":
            assert set(report.recommended_features) == {f"f{i:02d}" for i in range(60)}
            assert report.passes_prefiltered_on
            assert "prefiltered_set_passed_on" in codes(report)
    assert refused >= 9  # the issue asks for 90 %


def test_the_plans_rule_calls_features_of_an_untrained_network_stable() -> None:
    """The reason for this module: the plan's outcome stands beside ours, and is shown wrong."""
    report = stability_report(null_records(np.random.default_rng(1), n_features=200, n_shadows=0))
    assert len(report.stable_features) > 20
    assert report.verdict == "not_above_chance"
    assert "too_few_shadows" in codes(report)


def test_noise_that_overfits_the_same_accident_in_every_fold_is_not_informative() -> None:
    """Folds agree on noise, since they share training rows; shadows agree as well."""
    verdicts = [
        stability_report(planted_records(np.random.default_rng(s), n_true=0), NO_FILL).verdict
        for s in range(10)
    ]
    assert verdicts.count("not_above_chance") >= 9


def test_a_fold_minority_does_not_make_a_feature_stable(planted: pd.DataFrame) -> None:
    """Strong in one fold of four, absent from the pre-filter of none."""
    records = planted.copy()
    mine = records["feature"] == "f40"
    records.loc[mine, ["weight", "perm_dposition"]] = 0.0005
    records.loc[mine & (records["fold"] == "2018-01-01"), ["weight", "perm_dposition"]] = 0.9
    report = stability_report(records, NO_FILL)
    assert report.table.loc["f40", "above_shadow"]
    assert report.stability_scores["f40"] == 0.25
    assert "f40" not in report.recommended_features
    assert "f40" not in report.stable_features
    assert report.table.loc["f40", "fate"] == "folds_disagree"


def test_one_fold_alone_does_not_make_a_feature_stable(planted: pd.DataFrame) -> None:
    records = planted[(planted["feature"] != "f00") | (planted["fold"] == "2021-01-01")]
    report = stability_report(records, NO_FILL)
    assert report.stability_scores["f00"] == 1.0
    assert "f00" not in report.recommended_features


def test_a_feature_missing_in_a_fold_is_not_counted_as_unselected(planted: pd.DataFrame) -> None:
    whole = stability_report(planted, NO_FILL)
    records = planted[~((planted["feature"] == "f00") & (planted["fold"] == "2018-01-01"))]
    report = stability_report(records, NO_FILL)
    row = report.table.loc["f00"]
    assert (row["n_folds"], row["n_missing"]) == (3, 1)
    assert report.stability_scores["f00"] == 1.0
    assert np.isnan(report.vsn_weight_per_fold.loc["f00", "2018-01-01"])
    assert "f00" in report.recommended_features
    assert whole.table.loc["f00", "n_missing"] == 0


def test_only_the_newest_prefiltered_set_is_recommended(planted: pd.DataFrame) -> None:
    prefiltered = [f"f{i:02d}" for i in range(1, 60)] + ["new_feature"]
    report = stability_report(planted, NO_FILL, prefiltered=prefiltered)
    assert "f00" not in report.recommended_features
    assert report.table.loc["new_feature", "fate"] == "never_explored"
    assert set(report.table.index) == set(prefiltered)


def test_two_folds_are_too_few_and_the_prefiltered_set_goes_on(planted: pd.DataFrame) -> None:
    records = planted[planted["fold"] <= "2019-01-01"]
    prefiltered = [f"f{i:02d}" for i in range(50)]
    report = stability_report(records, NO_FILL, prefiltered=prefiltered)
    assert report.verdict == "too_few_folds"
    assert report.recommended_features == tuple(prefiltered)
    assert "Believe nothing yet: 2 folds × 3 seeds" in report.sentence


def test_weights_that_disagree_with_the_model_hand_over_to_permutation(
    planted: pd.DataFrame,
) -> None:
    records = planted.copy()
    rng = np.random.default_rng(9)
    records["weight"] = rng.uniform(0.9, 1.1, len(records)) / 100
    report = stability_report(records, FeatureSelectionConfig(final_min_features=40))
    assert report.verdict == "weights_disagree_with_model"
    assert report.evidence == "perm_dposition"
    assert len(set(report.recommended_features) & TRUE) >= 11
    assert not report.filled_features
    assert "below_minimum" in codes(report)
    assert "Do not read the weights as importance" in report.sentence


def test_without_permutation_nothing_is_claimed(planted: pd.DataFrame) -> None:
    report = stability_report(planted.assign(perm_dposition=np.nan), NO_FILL)
    assert report.verdict == "not_above_chance"
    assert "agreement_unknown" in codes(report)


def test_filling_up_by_rank_is_said(planted: pd.DataFrame) -> None:
    report = stability_report(planted, FeatureSelectionConfig(final_min_features=30))
    assert len(report.recommended_features) == 30
    passing = 30 - len(report.filled_features)
    assert passing == report.statistics["n_passing"]
    assert "filled_by_rank" in codes(report)
    assert set(report.table.index[report.table["fate"] == "filled_by_rank"]) == set(
        report.filled_features
    )
    assert f"The other {30 - passing} of the 30 recommended" in report.sentence


def test_at_most_the_maximum_is_recommended(planted: pd.DataFrame) -> None:
    config = FeatureSelectionConfig(final_max_features=5, final_min_features=5)
    report = stability_report(planted, config)
    assert len(report.recommended_features) == 5
    assert "cut_to_maximum" in codes(report)
    assert report.sentence.startswith("Believe the top 5 of 60")


def test_the_plans_rule_is_mean_weight_and_half_of_the_folds(planted: pd.DataFrame) -> None:
    config = FeatureSelectionConfig(vsn_weight_threshold=0.02, stability_min_folds=0.5)
    report = stability_report(planted, config)
    real = planted[~planted["is_shadow"]]
    share = real["weight"] / real.groupby(["fold", "seed"])["weight"].transform("sum")
    fold = share.groupby([real["feature"], real["fold"]]).mean().unstack()
    expected = fold.index[(fold.mean(axis=1) > 0.02) & ((fold > 0.02).mean(axis=1) >= 0.5)]
    assert set(report.stable_features) == set(expected)
    np.testing.assert_allclose(
        report.vsn_weight_per_fold.loc[fold.index].to_numpy(), fold.to_numpy()
    )


def test_cluster_weights_are_summed_and_clones_count_once(planted: pd.DataFrame) -> None:
    report = stability_report(planted, NO_FILL, clusters=[("f00", "f01", "f02")])
    members = report.table.loc[["f00", "f01", "f02"]]
    assert members["cluster_weight"].to_numpy() == pytest.approx(members["weight"].sum())
    assert report.statistics["n_tested"] == 58


def test_the_group_breakdown_adds_up(planted_report: StabilityReport) -> None:
    groups = planted_report.feature_group_breakdown
    assert {name: row["prefiltered"] for name, row in groups.items()} == {
        "trend": 2,
        "ungrouped": 57,
        "volume": 1,
    }
    assert sum(row["weight_share"] for row in groups.values()) == pytest.approx(1.0)
    assert sum(row["recommended"] for row in groups.values()) == len(
        planted_report.recommended_features
    )


def test_the_report_survives_json(planted_report: StabilityReport) -> None:
    stored = json.loads(json.dumps(planted_report.to_dict(), allow_nan=False))
    back = StabilityReport.from_dict(stored)
    assert back.to_dict() == planted_report.to_dict()
    pd.testing.assert_frame_equal(back.table, planted_report.table, check_column_type=False)
    with pytest.raises(SelectionError, match="found 'good'"):
        StabilityReport.from_dict({**stored, "verdict": "good"})


def test_the_order_of_records_does_not_matter(
    planted: pd.DataFrame, planted_report: StabilityReport
) -> None:
    shuffled = planted.sample(frac=1.0, random_state=1)
    groups = {"f00": "trend", "f01": "trend", "f02": "volume"}
    report = stability_report(shuffled, NO_FILL, groups)
    assert report.to_dict() == planted_report.to_dict()


def test_a_run_that_uses_nothing_counts_as_no_evidence(planted: pd.DataFrame) -> None:
    records = planted.copy()
    records.loc[records["fold"] == "2018-01-01", ["weight", "perm_dposition"]] = 0.0
    report = stability_report(records, NO_FILL)
    assert report.table["fold_frequency"].max() == 0.75


def test_a_network_that_closed_every_gate_is_a_result_not_an_error(planted: pd.DataFrame) -> None:
    """Its weights are 0/0 throughout; the run counts as using nothing."""
    closed = planted["fold"] == "2018-01-01"
    zero = planted.assign(weight=planted["weight"].mask(closed, 0.0))
    undefined = planted.assign(weight=planted["weight"].mask(closed))
    assert (
        stability_report(undefined, NO_FILL).to_dict() == stability_report(zero, NO_FILL).to_dict()
    )


def test_unusable_records_are_refused(planted: pd.DataFrame) -> None:
    with pytest.raises(SelectionError, match="found no 'weight'"):
        stability_report(planted.drop(columns="weight"))
    with pytest.raises(SelectionError, match="at least one run, found none"):
        stability_report(planted.iloc[:0])
    with pytest.raises(SelectionError, match="2018-01-01, 0, 'f00' twice"):
        stability_report(pd.concat([planted, planted.iloc[:1]]))
    with pytest.raises(SelectionError, match="found nan for 'f00'"):
        stability_report(planted.assign(weight=planted["weight"].where(planted.index > 0)))
    with pytest.raises(SelectionError, match="found both for 'f00'"):
        stability_report(planted.assign(is_shadow=planted["is_shadow"] | (planted.index == 0)))
    with pytest.raises(SelectionError, match="at least one feature, found none"):
        stability_report(planted, prefiltered=[])
