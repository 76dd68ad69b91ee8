"""The pages themselves, and the figures they compute."""

import dataclasses
import html
import json
import re

import numpy as np
import pandas as pd
import pytest
from test_page import assert_self_contained

from tft_core.checks import GateConfig, gate_verdict
from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market
from tft_core.errors import DataError
from tft_core.evidence import record_evidence
from tft_core.feature_selection import (
    FeatureSelectionConfig,
    StabilityReport,
    cross_check,
    prefilter,
    screen,
    stability_report,
)
from tft_core.reports.html import (
    BarsView,
    TearSheetData,
    data_quality_page,
    prefilter_page,
    stability_page,
    tear_sheet,
)
from tft_core.reports.tear_sheet_data import cost_table, drawdowns, rolling_sharpe, yearly_table

NAMES = [f"f{i}" for i in range(12)]


def stability(n_folds: int, *, n_shadows: int = 30) -> StabilityReport:
    rng = np.random.default_rng(0)
    names = NAMES + [f"shadow{i}" for i in range(n_shadows)]
    parts = []
    for fold in range(n_folds):
        for seed in range(2):
            weight = np.where(np.arange(len(names)) < 6, 5.0, 1.0) * rng.uniform(
                0.8, 1.2, len(names)
            )
            frame = pd.DataFrame({"feature": names, "weight": weight / weight.sum()})
            parts.append(frame.assign(fold=f"{2018 + fold}-01-01", seed=seed))
    records = pd.concat(parts, ignore_index=True)
    if n_folds > 1:
        records = records[~((records["feature"] == "f1") & (records["fold"] == "2018-01-01"))]
    records = records.assign(
        is_shadow=records["feature"].str.startswith("shadow"),
        lift=records["weight"],
        perm_dposition=records["weight"],
        perm_dsharpe=np.nan,
        ig=0.0,
    )
    return stability_report(
        records, FeatureSelectionConfig(final_min_features=8), {"f0": "<trend>"}
    )


@pytest.fixture(scope="module")
def sheet() -> TearSheetData:
    rng = np.random.default_rng(0)
    dates = pd.bdate_range("2018-06-01", periods=400)
    paths = pd.DataFrame(
        0.005 * rng.standard_normal((400, 3)), dates, ["long_only", "default", "shipped"]
    )
    net = paths["shipped"].to_numpy()
    return TearSheetData(
        title="x_trend v1",
        verdict=gate_verdict(net, None, (), GateConfig(min_sharpe_net=None)).to_dict(),
        paths=paths,
        metrics=pd.DataFrame(
            {"sharpe_net": [0.5, 0.2, 0.1], "max_drawdown": 0.1, "n_days": 400.0},
            index=["shipped", "default", "long_only"],
        ),
        by_fold=pd.DataFrame({"ships": ["default"], "sharpe_net": [0.4]}, index=["2018-06-01"]),
        by_asset=pd.DataFrame(
            {"asset_class": ["currency", "bond"], "contribution": [0.02, -0.01]},
            index=["EURUSD", "TY"],
        ),
        cost_sensitivity=pd.DataFrame({"shipped": [0.6, 0.5]}, index=[0.0, 1.0]),
        provenance={"git_commit": "abc", "undefined": None},
        notes=["Selection: <b>not</b> above chance."],
        histories=pd.DataFrame(
            {
                "member": [0, 0, 0],
                "epoch": [1, 2, 3],
                "phase": ["pretrain", "finetune", "refit"],
                "train_loss": [0.3, 0.2, 0.1],
                "val_sharpe": [0.1, 0.3, np.nan],
            }
        ),
        exposure=pd.DataFrame({"gross": 1.0, "net": 0.2, "turnover": 0.05}, index=dates),
        evidence=record_evidence(
            paths.assign(tuned=paths["default"] * 0.9 + paths["long_only"] * 0.1)
        ).to_dict(),
        features={
            "verdict": "not_above_chance",
            "sentence": "Do not believe the ranking.",
            "counts": {"built": 292, "shipped": 70},
            "top": [{"feature": "ret_21", "mean weight (share)": 0.02}],
            "report": "artifacts/vsn_stability_report/live/stability.html",
        },
        quality=pd.DataFrame({"n_rows": [1000], "data_hash": ["ab12"]}, index=["live"]),
        findings=pd.DataFrame(
            {"severity": ["warn"], "message": ["2 symbols are stale"]}, index=["market_data/live"]
        ),
    )


@pytest.fixture(scope="module")
def sheet_text(sheet: TearSheetData) -> str:
    return tear_sheet(sheet)


def test_the_tear_sheet_holds_every_section_and_nothing_from_outside(sheet_text: str) -> None:
    text = sheet_text
    outline = assert_self_contained(text)
    assert outline.tags.count("img") == 9
    assert all(value for name, value in outline.attributes if name == "alt")
    for expected in (
        "Passed",
        "400 out-of-sample days, 2018-06-01 to 2019-12-12",
        "EURUSD",
        "abc",
        "Do not believe the ranking.",
        "artifacts/vsn_stability_report/live/stability.html",
        "warn, market_data/live: 2 symbols are stale",
        "Superior predictive ability",
        "No study was made, so there is no search to deflate.",
    ):
        assert expected in text
    assert "&lt;b&gt;not&lt;/b&gt;" in text


def test_the_shipped_path_comes_first(sheet_text: str) -> None:
    text = sheet_text
    performance = text[text.index('id="performance"') :]
    assert performance.index(">shipped<") < performance.index(">default<")


def test_a_refused_candidate_is_told_on_top(sheet: TearSheetData) -> None:
    verdict = gate_verdict(np.full(30, -0.01), None).to_dict()
    text = tear_sheet(dataclasses.replace(sheet, verdict=verdict))
    assert "Refused: not promoted" in text
    assert "30 out-of-sample days, at least 250 asked for" in text


def test_what_was_not_recorded_is_said_and_not_left_out(sheet: TearSheetData) -> None:
    empty = sheet.paths.iloc[:0]
    text = tear_sheet(
        dataclasses.replace(
            sheet,
            paths=empty,
            metrics=sheet.metrics.iloc[:0],
            by_fold=sheet.by_fold.iloc[:0],
            by_asset=sheet.by_asset.iloc[:0],
            cost_sensitivity=sheet.cost_sensitivity.iloc[:0],
            histories=None,
            exposure=None,
            evidence=None,
            features=None,
            quality=None,
            findings=None,
        )
    )
    assert_self_contained(text)
    for expected in (
        "No test window is complete yet.",
        "Contributions by asset were not recorded.",
        "Cost sensitivity was not recorded.",
        "Exposure and turnover were not recorded.",
        "Training histories were not recorded.",
        "The evidence on the record was not recorded.",
        "Feature selection was switched off",
        "Tuning was switched off",
        "The quality of the bars was not recorded.",
        "No check of anything behind this checkpoint found a fault.",
        "no out-of-sample days",
    ):
        assert expected in text


def test_a_tear_sheet_without_the_shipped_path_is_refused(sheet: TearSheetData) -> None:
    paths = sheet.paths.drop(columns="shipped")
    with pytest.raises(DataError, match="must hold 'shipped', found long_only, default"):
        tear_sheet(dataclasses.replace(sheet, paths=paths))


def test_contributions_add_up_by_asset_class(sheet: TearSheetData) -> None:
    frame = pd.DataFrame(
        {"asset_class": ["bond", "currency", "bond"], "contribution": [0.01, -0.02, 0.03]},
        index=["a", "b", "c"],
    )
    table = dataclasses.replace(sheet, by_asset=frame).by_class()
    assert table.index.tolist() == ["bond", "currency"]
    assert table["contribution"].tolist() == pytest.approx([0.04, -0.02])
    assert table["n_assets"].tolist() == [2, 1]


def test_flat_costs_take_basis_points_of_what_was_traded() -> None:
    daily = pd.DataFrame(
        {"path": "a", "gross": [0.01, 0.03, 0.02], "turnover": [1.0, 0.0, 2.0], "cost": 9.9}
    )
    table = cost_table(daily)
    assert table.index.tolist() == [0, 1, 3, 5, 10]
    net = np.array([0.01 - 0.001, 0.03, 0.02 - 0.002])  # ten basis points
    assert table.loc[10, "a"] == pytest.approx(net.mean() / net.std(ddof=1) * 252**0.5)


def test_the_json_has_no_number_that_json_cannot_hold(sheet: TearSheetData) -> None:
    holed = sheet.metrics.assign(sharpe_net=[np.nan, np.inf, 0.1])
    written = json.dumps(dataclasses.replace(sheet, metrics=holed).to_dict(), allow_nan=False)
    assert [row["sharpe_net"] for row in json.loads(written)["metrics"]] == [None, None, 0.1]


def test_the_yearly_table_is_of_calendar_years() -> None:
    dates = pd.to_datetime(["2019-12-30", "2019-12-31", "2020-01-02", "2020-01-03"])
    paths = pd.DataFrame({"shipped": [0.1, -0.5, 0.2, 0.1]}, dates)
    table = yearly_table(paths)
    assert list(table.index) == ["2019", "2020"]
    assert table.loc["2019", "return_total"] == pytest.approx(1.1 * 0.5 - 1)
    assert table.loc["2019", "max_drawdown"] == pytest.approx(0.5)
    expected = 0.15 / (0.1 / 2**0.5) * 252**0.5
    assert table.loc["2020", "shipped"] == pytest.approx(expected)


def test_a_drawdown_counts_from_the_start_and_from_the_peak() -> None:
    paths = pd.DataFrame({"a": [-0.1, 0.5, -0.2]}, pd.bdate_range("2020-01-01", periods=3))
    assert drawdowns(paths)["a"].tolist() == pytest.approx([-0.1, 0.0, -0.2])


def test_the_rolling_sharpe_ratio_looks_back_only() -> None:
    rng = np.random.default_rng(1)
    paths = pd.DataFrame({"a": rng.standard_normal(60)}, pd.bdate_range("2020-01-01", periods=60))
    rolled = rolling_sharpe(paths, 20)
    window = paths["a"].iloc[10:30]
    assert rolled["a"].iloc[29] == pytest.approx(window.mean() / window.std() * 252**0.5)
    assert rolled["a"].iloc[:19].isna().all()
    poisoned = paths.copy()
    poisoned.iloc[30:] = 1e6
    pd.testing.assert_frame_equal(rolling_sharpe(poisoned, 20).iloc[:30], rolled.iloc[:30])


def test_the_stability_page_says_what_to_believe() -> None:
    report = stability(4)
    assert report.verdict == "informative"
    values = np.random.default_rng(2).standard_normal((300, 12)).astype(np.float32)
    screened = cross_check(screen(values, NAMES, values[:, 11], np.arange(300)), report)
    text = stability_page(report, prefilter=prefilter(values, NAMES), screened=screened)
    outline = assert_self_contained(text)
    assert outline.tags.count("img") == 6
    assert report.sentence in html.unescape(text)
    assert "&lt;trend&gt;" in text
    assert "screens_see_it_model_does_not" in text


@pytest.mark.parametrize("n_folds", [1, 4])
def test_the_stability_page_is_whole_without_shadows_or_folds(n_folds: int) -> None:
    report = stability(n_folds, n_shadows=0)
    text = stability_page(report)
    assert_self_contained(text)
    assert report.sentence in html.unescape(text)
    assert "nan" not in text.lower().replace("data:image/png;base64", "").split("<img")[0]


def test_the_prefilter_page_tells_every_drop_and_its_stand_in() -> None:
    values = np.random.default_rng(3).standard_normal((200, 4)).astype(np.float32)
    values[:, 1] = values[:, 0]
    values[:, 2] = 5.0
    text = prefilter_page(prefilter(values, ["a", "b", "c", "d"]))
    assert_self_contained(text)
    dropped = text[text.index('id="dropped"') : text.index('id="kept"')]
    assert dropped.index("correlated") > 0
    assert "constant" in dropped
    assert ">a<" in dropped


def test_the_data_quality_page_of_features_shows_groups_and_findings() -> None:
    coverage = pd.DataFrame([[1.0, 0.0], [0.5, np.nan]], ["A", "B"], ["returns", "volume"])
    text = data_quality_page("Q", coverage=coverage, notes=["stale run in B"])
    assert_self_contained(text)
    assert "stale run in B" in text
    assert "50.0%" in text  # mean of the known cells: 1, 0, 0.5


def faulty_bars(path) -> BarsView:
    """Two symbols; S00 has a misplaced decimal, a hole of a month and a rejected row."""
    market = synthetic_market(2, 300, seed=3, holidays=False)
    own = market.index[market["symbol"] == "S00"]
    market.loc[own[100], ["open", "high", "low", "close"]] *= 100.0
    market.loc[own[150], "close"] = -1.0
    with MarketDataStore(path) as store:
        store.ingest(market.drop(own[200:222]))
        return BarsView.read(store, ("S00", "S01"), store.first_session(), store.last_session())


def test_the_data_quality_page_of_bars_tells_what_is_wrong_with_them(tmp_path) -> None:
    text = data_quality_page("Bars", bars=faulty_bars(tmp_path / "m.duckdb"))
    outline = assert_self_contained(text)
    assert outline.tags.count("img") == 5
    plain = re.sub(r"<[^>]+>", " ", text)
    assert "Look at 1 of 2 symbols" in plain
    assert re.search(r"withheld bars\s+1\b", plain)
    assert re.search(r"long gaps\s+1\b", plain)
    assert re.search(r"nonpositive_price\s+1\s+a price is zero or negative", plain)
    assert "a misplaced decimal" in plain
    sections = [plain.index(f" {name} ") for name in ("Findings", "Gaps", "Outliers", "Symbols")]
    assert sections == sorted(sections)


def test_the_page_of_features_has_the_findings_of_the_bars_without_their_portrait(tmp_path) -> None:
    coverage = pd.DataFrame([[1.0], [0.5]], ["S00", "S01"], ["returns"])
    text = data_quality_page("F", bars=faulty_bars(tmp_path / "m.duckdb"), coverage=coverage)
    outline = assert_self_contained(text)
    assert outline.tags.count("img") == 2  # coverage and large moves
    assert "decimal_spike" in text


def test_a_store_without_bars_has_a_page_that_says_so(tmp_path) -> None:
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        nothing = BarsView(store.panel(), store.findings(), {}, {})
    text = data_quality_page("Empty", bars=nothing)
    assert_self_contained(text)
    assert "No bars" in text
