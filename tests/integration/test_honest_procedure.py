"""The whole procedure on markets with nothing to find, and with a feature that cheats.

Poison (replace the future, nothing made before it moves) is in ``test_lifecycle.py`` for outer
windows and ``test_study_objective.py`` for inner ones. Here: a market whose days are shuffled must
show no skill; a planted leak must be refused, wherever it leaks; and were the audit blind, the leak
would be seen in the record, so the quiet of the shuffled market is no deafness.
"""

import numpy as np
import pytest

from tests.support.honesty import LEAK, with_leak, without_memory
from tests.support.tiny import load_store, tiny_bars, tiny_settings
from tft_core.config import Settings
from tft_core.errors import ArtifactError
from tft_core.training_pipeline import TrainingPipeline, TrainingPipelineConfig, Workspace
from tft_core.training_pipeline.phases import market


@pytest.fixture(scope="module")
def shuffled():
    """Bars of the tiny lifecycle whose order tells nothing."""
    return without_memory(tiny_bars())


def sheet_of(settings: Settings, bars, config: TrainingPipelineConfig | None = None) -> dict:
    load_store(settings, bars)
    pipeline = TrainingPipeline(config, settings=settings)
    pipeline.run()
    return pipeline.workspace.artifacts.read("production_checkpoint", "all").json("tear_sheet.json")


def test_shuffling_keeps_every_day_and_loses_their_order(shuffled):
    before, after = (frame[frame["symbol"] == "S01"] for frame in (tiny_bars(), shuffled))
    assert list(after["date"]) == list(before["date"])
    returns = [frame["close"].pct_change().dropna() for frame in (before, after)]
    assert sorted(returns[0].round(10)) == sorted(returns[1].round(10))
    assert not returns[0].reset_index(drop=True).equals(returns[1].reset_index(drop=True))
    assert (after["low"] <= after[["open", "close"]].min(axis=1) * (1 + 1e-12)).all()
    # the trend that the synthetic market has is gone: months no longer follow months
    assert persistence(tiny_bars()) > 0.3
    assert persistence(shuffled) < 0.1


def persistence(bars) -> float:
    """Correlation of a month's return with the month's before it, mean over symbols."""
    found = []
    for _, own in bars.groupby("symbol"):
        monthly = own["close"].pct_change(21).dropna().to_numpy()
        found.append(np.corrcoef(monthly[:-21], monthly[21:])[0, 1])
    return float(np.mean(found))


def test_a_market_without_memory_shows_no_skill(shuffled, tmp_path):
    sheet = sheet_of(tiny_settings(tmp_path), shuffled)
    for row in sheet["metrics"]:
        if row["path"] in ("shipped", "tuned", "default"):
            assert abs(row["sharpe_gross"]) < 3.0 * row["sharpe_se"]
    assert sheet["features"]["verdict"] != "informative"
    assert sheet["evidence"]["tuned_against_default"]["verdict"] == "not_distinguishable"
    assert sheet["evidence"]["superior_ability"]["default"]["p_value"] > 0.05


def test_the_same_market_with_a_leak_that_no_audit_saw_is_too_good_for_the_gate(
    shuffled, tmp_path, monkeypatch
):
    monkeypatch.setattr(market, "_audit", lambda *arguments: [])
    settings = with_leak(tmp_path, training={"finetune_epochs": 6}, gate={"max_sharpe_net": 5.0})
    # neither selection nor search is needed to see this one
    short = TrainingPipelineConfig(skip_tuning=True, skip_feature_selection=True)
    sheet = sheet_of(settings, shuffled, short)
    assert sheet["study"] is None and sheet["features"] is None
    shipped = next(row for row in sheet["metrics"] if row["path"] == "shipped")
    assert shipped["sharpe_gross"] > 3.0 * shipped["sharpe_se"]
    assert [rule["code"] for rule in sheet["gate"]["reasons"]] == ["sharpe_is_believable"]


@pytest.mark.parametrize(
    ("first", "last", "caught_at"),
    [
        ("1970-01-01", "2100-01-01", "2018-01-01"),  # always
        ("2018-01-01", "2100-01-01", "2018-04-01"),  # in test windows only
        ("2018-01-08", "2018-02-05", "2018-04-01"),  # in one month of one test window only
        ("2018-03-01", "2018-03-20", "2018-04-01"),
    ],
    ids=["always", "test_windows", "january", "march"],
)
def test_a_planted_leak_is_refused_wherever_it_leaks(shuffled, tmp_path, first, last, caught_at):
    settings = with_leak(tmp_path, first=first, last=last)
    load_store(settings, shuffled)
    workspace = Workspace.open(settings)
    for key in workspace.plan.keys:
        workspace.build("market_data", key)
        made = workspace.build("mega_features", key)
        leaks = [f for f in made.findings if f.code == "features_are_causal"]
        if key == caught_at:
            break
        assert not leaks, "nothing leaks before the planted days"
    assert [finding.values["features"] for finding in leaks] == [[LEAK]]
    with pytest.raises(ArtifactError, match="must have passed its checks, found features_are_caus"):
        workspace.artifacts.read("mega_features", caught_at)


def test_a_run_with_a_leak_ends_before_anything_is_trained(shuffled, tmp_path):
    settings = with_leak(tmp_path)
    load_store(settings, shuffled)
    pipeline = TrainingPipeline(settings=settings)
    with pytest.raises(ArtifactError, match=f"features_are_causal: 1 features fail, first {LEAK}"):
        pipeline.run()
    assert pipeline.workspace.artifacts.current("exploration_fold", "2018-01-01") is None
    assert pipeline.workspace.registry.list_checkpoints() == []
