"""Coded findings of the pure checks."""

import json

import numpy as np
import pandas as pd
import pytest

from tft_core.checks import (
    Finding,
    bars_are_sane,
    costs_are_named,
    errors_among,
    features_are_covered,
    selection_is_above_chance,
    training_converged,
)
from tft_core.data.panel import MarketPanel
from tft_core.data.quality import quality_summary
from tft_core.feature_selection import FeatureSelectionConfig, stability_report


def coded(findings: list[Finding]) -> dict[str, str]:
    return {finding.code: finding.severity for finding in findings}


def figures(finding: Finding) -> dict[str, object]:
    return finding.to_dict()["values"]


def quality(**codes: str) -> pd.DataFrame:
    return pd.DataFrame({"rows": 500, "findings": pd.Series(codes)})


def test_clean_bars_have_no_finding() -> None:
    assert bars_are_sane(quality(A="", B="large_move,gap", C="short_history")) == []


def test_no_bars_block() -> None:
    assert coded(bars_are_sane(pd.DataFrame())) == {"bars_are_sane.no_bars": "error"}
    empty = quality(A="").assign(rows=0)
    assert coded(bars_are_sane(empty)) == {"bars_are_sane.no_bars": "error"}


def test_one_broken_symbol_warns_and_many_block() -> None:
    some = dict.fromkeys("ABCDEFGHI", "")
    one = bars_are_sane(quality(**some, J="does_not_trade"))
    assert coded(one) == {"bars_are_sane.does_not_trade": "warn"}
    assert figures(one[0]) == {"symbols": ["J"]}
    many = bars_are_sane(
        quality(**some, J="does_not_trade", K="does_not_trade", L="does_not_trade")
    )
    assert coded(many)["bars_are_sane.too_many_broken_symbols"] == "error"


def test_a_price_that_no_ingestion_lets_in_blocks() -> None:
    found = bars_are_sane(quality(A="invalid_price", **dict.fromkeys("BCDEFGH", "")))
    assert coded(found) == {"bars_are_sane.invalid_price": "error"}


def test_a_symbol_that_is_always_known_too_late_blocks_and_a_late_day_does_not() -> None:
    late = pd.Series({"A": 1.0, "B": 0.02, "C": 0.0})
    found = bars_are_sane(quality(A="", B="", C=""), late_share=late)
    assert coded(found) == {"bars_are_sane.known_too_late": "error"}
    assert found[0].message.startswith("bars of A become known after their session day")


def test_bars_are_judged_from_the_real_quality_summary() -> None:
    rng = np.random.default_rng(0)
    dates = pd.bdate_range("2020-01-01", periods=400)
    close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal((400, 6)), axis=0))
    close[200:, 2] *= 100.0  # pence to pounds
    bars = pd.DataFrame(close, index=dates, columns=list("ABCDEF")).stack().reset_index()
    bars.columns = ["date", "symbol", "close"]
    for name in ("open", "high", "low"):
        bars[name] = bars["close"]
    bars[["volume", "open_interest"]] = np.nan
    panel = MarketPanel.from_bars(bars, list("ABCDEF"))
    found = bars_are_sane(quality_summary(panel))
    assert coded(found) == {"bars_are_sane.unit_switch": "warn"}
    assert figures(found[0]) == {"symbols": ["C"]}


def test_coverage_is_judged_by_the_share_of_absent_features() -> None:
    full = pd.Series(1.0, index=[f"f{i}" for i in range(10)])
    assert features_are_covered(full) == []
    half = full.where(np.arange(10) < 5, 0.1)
    assert features_are_covered(half) == []
    most = full.where(np.arange(10) < 4, np.nan)
    found = features_are_covered(most)
    assert coded(found) == {"features_are_covered.low": "warn"}
    assert figures(found[0]) == {"n_absent": 6, "n_features": 10}
    assert coded(features_are_covered(full * 0)) == {"features_are_covered.none_covered": "error"}
    assert coded(features_are_covered(full[:0])) == {"features_are_covered.no_features": "error"}


def test_symbols_that_are_charged_the_default_are_named() -> None:
    assert costs_are_named([], 3, 2.0) == []
    found = costs_are_named(["B", "C"], 3, 2.0)
    assert coded(found) == {"costs_are_named.default": "warn"}
    assert found[0].message.startswith("2 of 3 symbols are charged costs.default_bps = 2: B, C;")
    assert figures(found[0]) == {"symbols": ["B", "C"]}


def history(**change: object) -> pd.DataFrame:
    rows = pd.DataFrame(
        {
            "member": np.repeat([0, 1], 4),
            "epoch": np.tile([0, 1, 2, 3], 2),
            "phase": np.tile(["pretrain", "finetune", "finetune", "refit"], 2),
            "train_loss": np.linspace(1.0, 0.2, 8),
            "val_sharpe": np.tile([0.1, 0.4, 0.3, np.nan], 2),
        }
    )
    return rows.assign(**change)


def test_a_converged_training_has_no_finding() -> None:
    assert training_converged(history()) == []


def test_a_loss_that_stops_being_a_number_blocks_and_names_the_member() -> None:
    loss = np.linspace(1.0, 0.2, 8)
    loss[5] = np.nan
    found = training_converged(history(train_loss=loss))
    assert coded(found) == {"training_converged.loss_not_finite": "error"}
    assert figures(found[0]) == {"member": "1", "epoch": 1}


def test_validation_without_any_finite_sharpe_blocks() -> None:
    sharpe = np.tile([0.1, 0.4, 0.3, np.nan], 2)
    sharpe[:3] = [np.nan, np.inf, np.nan]
    found = training_converged(history(val_sharpe=sharpe))
    assert coded(found) == {"training_converged.validation_not_finite": "error"}
    assert figures(found[0])["member"] == "0"


def test_no_epochs_block() -> None:
    assert coded(training_converged(history().iloc[:0])) == {
        "training_converged.no_epochs": "error"
    }


def selection_records(n_folds: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [[f"20{20 + k}-01-01" for k in range(n_folds)], [0, 1], [f"f{i}" for i in range(40)]],
        names=["fold", "seed", "feature"],
    )
    weight = rng.exponential(size=len(index))
    frame = index.to_frame(index=False)
    frame["is_shadow"] = frame["feature"].isin([f"f{i}" for i in range(20, 40)])
    return frame.assign(weight=weight, lift=weight, perm_dposition=weight, perm_dsharpe=0.0, ig=0.0)


def test_a_selection_at_random_level_warns_with_its_p_value() -> None:
    report = stability_report(selection_records(4), FeatureSelectionConfig())
    finding = selection_is_above_chance(report)
    assert finding is not None
    assert finding.code == "selection_is_above_chance.not_above_chance"
    assert finding.severity == "warn"
    assert figures(finding)["chance_p_value"] == report.statistics["chance_p_value"]
    json.dumps(finding.to_dict(), allow_nan=False)


def test_too_few_folds_are_no_finding() -> None:
    assert selection_is_above_chance(stability_report(selection_records(1))) is None


def test_only_errors_block() -> None:
    warn, error = Finding("a", "warn", "x"), Finding("b", "error", "y", {"v": float("nan")})
    assert errors_among([warn, error]) == (error,)
    assert figures(Finding(**error.to_dict())) == {"v": None}


@pytest.mark.parametrize("code", ["bars_are_sane", "features_are_covered", "training_converged"])
def test_codes_start_with_the_name_of_their_check(code: str) -> None:
    found = {
        "bars_are_sane": bars_are_sane(pd.DataFrame()),
        "features_are_covered": features_are_covered(pd.Series(dtype=float)),
        "training_converged": training_converged(history().iloc[:0]),
    }[code]
    assert all(finding.code.startswith(f"{code}.") for finding in found)
