"""Tuned or default, promoted or kept: each outcome forced on a whole lifecycle's artifacts.

The lifecycle is the shared one; each case works on a copy of its state, in which the stored
records of the reported windows are replaced.
"""

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from tests.support.tiny import tiny_bars
from tft_core.config import Settings
from tft_core.errors import ConfigError
from tft_core.evidence import EvidenceLedger
from tft_core.reports.page import cell_text, label
from tft_core.training_pipeline import TrainingPipeline, Workspace

CHECKPOINT = ("production_checkpoint", "all")


@pytest.fixture
def state(lifecycle, tmp_path) -> Settings:
    """A copy of the finished lifecycle's state with nothing in production yet."""
    original = lifecycle[0].workspace.settings
    home = tmp_path / "home"
    shutil.copytree(original.home, home)
    for record in home.glob("checkpoints/**/promotions.json"):
        record.unlink()
    shutil.rmtree(home / "artifacts" / "production_checkpoint")
    return replace(original, home=home)


def with_edge(settings: Settings, edge: float, *, level: float = 0.0) -> None:
    """Store records in which tuned earns ``edge`` a day more than default, and both ``level``."""
    workspace = Workspace.open(settings)
    for number, key in enumerate(workspace.plan.reported_keys):
        artifact = workspace.artifacts.read("out_of_sample", key)
        daily = artifact.frame("daily.parquet")
        n = int((daily["path"] == "default").sum())
        rng = np.random.default_rng(number)
        default = level + 0.002 * rng.standard_normal(n)
        tuned = default + edge + 0.0005 * rng.standard_normal(n)
        for path, net in (("default", default), ("tuned", tuned)):
            rows = daily["path"] == path
            daily.loc[rows, "gross"] = net + daily.loc[rows, "cost"].to_numpy()
            daily.loc[rows, "net"] = net
        fingerprint = workspace.fingerprint("out_of_sample")
        with workspace.artifacts.draft("out_of_sample", key, fingerprint) as draft:
            draft.made_from.update(artifact.made_from)
            draft.summary.update(artifact.summary)
            for name in artifact.files:
                shutil.copy(artifact.path / name, draft.path / name)
            draft.write_frame("daily.parquet", daily)


def judge(settings: Settings, **overrides):
    workspace = Workspace.open(settings)
    artifact = workspace.build(*CHECKPOINT, overrides)
    return workspace, artifact, artifact.json("verdict.json")


@pytest.mark.parametrize(
    ("edge", "verdict", "shipped"),
    [
        (0.001, "better", "tuned"),
        (0.0, "not_distinguishable", "default"),
        (-0.001, "worse", "default"),
    ],
)
def test_what_ships_follows_from_the_windows_before(state, edge, verdict, shipped):
    with_edge(state, edge)
    workspace, _, found = judge(state)
    first, second = workspace.plan.reported_keys
    assert found["evidence"]["tuned_against_default"]["verdict"] == verdict
    # nothing is known before the first window; the second and the live model know the first
    assert found["path_by_fold"] == {first: "default", second: shipped}
    assert found["path"] == shipped


def test_a_window_s_own_record_does_not_choose_its_path(state):
    """The same windows, but tuned is better in the last one only."""
    with_edge(state, 0.001)
    workspace = Workspace.open(state)
    first, second = workspace.plan.reported_keys
    better_last = workspace.artifacts.read("out_of_sample", second).frame("daily.parquet")
    with_edge(state, -0.001)
    artifact = workspace.artifacts.read("out_of_sample", second)
    with workspace.artifacts.draft("out_of_sample", second, artifact.fingerprint) as draft:
        draft.made_from.update(artifact.made_from)
        for name in artifact.files:
            shutil.copy(artifact.path / name, draft.path / name)
        draft.write_frame("daily.parquet", better_last)
    _, _, found = judge(state)
    assert found["path_by_fold"] == {first: "default", second: "default"}


def gated(state: Settings, **rules) -> Settings:
    sections = {**state.sections, "gate": {**state.sections["gate"], **rules}}
    return replace(state, sections=sections)


def test_a_refused_candidate_is_kept_with_its_verdict_and_not_promoted(state):
    workspace, artifact, found = judge(gated(state, min_oos_days=10_000))
    assert not found["promoted"] and not found["gate"]["passed"]
    assert [rule["code"] for rule in found["gate"]["reasons"]] == ["enough_days"]
    assert workspace.registry.production_history() == []
    kept = workspace.registry.root / found["checkpoint"]
    assert workspace.registry.verify(kept) == []
    metadata = workspace.registry.load_metadata(kept)
    assert metadata.status == "refused"
    assert metadata.gate["reasons"] == found["gate"]["reasons"]
    assert artifact.summary["gate"] == "refused"
    assert artifact.passed  # a warning: the record is whole, only the candidate is not promoted


@pytest.mark.parametrize(
    ("rules", "level", "reason"),
    [
        ({"max_drawdown_limit": 0.01}, -0.002, "max_drawdown"),
        ({"min_sharpe_net": 0.0}, -0.002, "sharpe_net"),
        ({"max_sharpe_net": 5.0}, 0.004, "sharpe_is_believable"),
    ],
)
def test_each_rule_of_the_file_closes_the_gate(state, rules, level, reason):
    with_edge(state, 0.0, level=level)
    _, _, found = judge(gated(state, **rules))
    assert [rule["code"] for rule in found["gate"]["reasons"]] == [reason]
    assert not found["promoted"]


def test_a_candidate_worse_than_production_beyond_its_error_is_refused(state):
    with_edge(state, 0.0, level=0.002)
    workspace, _, good = judge(gated(state, max_sharpe_net=50.0))
    assert good["promoted"]
    # another model with a clearly worse record: other seeds, so other weights
    workspace.build("production_fold", "live", {"seed": 77})
    with_edge(state, 0.0, level=-0.001)
    _, _, bad = judge(gated(state, max_sharpe_net=50.0))
    codes = [rule["code"] for rule in bad["gate"]["reasons"]]
    assert codes == ["not_worse_than_production"]
    assert not bad["promoted"] and bad["checkpoint"] != good["checkpoint"]
    served = workspace.registry.production_path()
    assert str(served.relative_to(workspace.registry.root)) == good["checkpoint"]


def test_a_refusal_does_not_close_the_gate_for_the_candidates_after_it(state):
    """Production's record is found however many candidates were refused since."""
    open_to_all = gated(state, max_sharpe_net=50.0)
    with_edge(state, 0.0, level=0.002)
    workspace, _, good = judge(open_to_all)
    assert good["promoted"]
    for seed in (77, 78):
        workspace.build("production_fold", "live", {"seed": seed})
        with_edge(state, 0.0, level=-0.001)
        _, _, bad = judge(open_to_all)
        assert [rule["code"] for rule in bad["gate"]["reasons"]] == ["not_worse_than_production"]
        (rule,) = bad["gate"]["reasons"]
        assert "in common" not in rule["message"] and rule["value"] < 0
    workspace.build("production_fold", "live", {"seed": 79})
    with_edge(state, 0.0, level=0.003)
    _, _, better = judge(open_to_all)
    assert better["gate"]["reasons"] == []
    assert better["promoted"] and better["checkpoint"] != good["checkpoint"]


def test_force_needs_a_reason_and_records_it(state):
    refused = gated(state, min_oos_days=10_000)
    pipeline = TrainingPipeline(settings=refused)
    with pytest.raises(ConfigError, match="must have a reason, found an empty one"):
        pipeline.run(force_reason="  ")
    assert not pipeline.run().promoted
    result = pipeline.run(force_reason="reviewed by the committee on Monday")
    assert result.promoted and not result.gate["passed"]
    (event,) = pipeline.workspace.registry.production_history()
    assert event.overridden
    assert event.reason == "forced: reviewed by the committee on Monday"
    found = pipeline.workspace.artifacts.read(*CHECKPOINT).json("verdict.json")
    assert found["force_reason"] == "reviewed by the committee on Monday"


def test_every_look_is_counted_and_repeating_the_same_procedure_is_not_another_one(state):
    ledger = EvidenceLedger.under(state.home)
    judge(state)
    looks, procedures = ledger.counts().looks, ledger.procedures("production_checkpoint")
    judge(state)
    assert ledger.counts().looks == looks + 1
    assert ledger.procedures("production_checkpoint") == procedures
    Workspace.open(state).build("production_fold", "2018-01-01", {"seed": 5})
    with_edge(state, 0.0)  # its record stands for the one that other weights would walk
    judge(state)
    assert ledger.procedures("production_checkpoint") == procedures + 1


class Tables(HTMLParser):
    """Section → its tables as rows of cell texts, header first; cards and definitions too."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.pairs: dict[str, str] = {}
        self._section, self._cell, self._name = "", None, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "section":
            self._section = dict(attrs)["id"]
            self.tables[self._section] = []
        elif tag == "table":
            self.tables[self._section].append([])
        elif tag == "tr":
            self.tables[self._section][-1].append([])
        elif tag in ("td", "th", "dt", "dd"):
            self._cell = ""

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[self._section][-1][-1].append(self._cell)
            self._cell = None
        elif tag == "dt":
            self._name, self._cell = self._cell, None
        elif tag == "dd":
            self.pairs[self._name], self._cell = self._cell, None


def shown(records: list[dict]) -> list[dict[str, str]]:
    """Rows of the JSON as the page would write them, by the column's words."""
    return [{label(k): cell_text(v, k) for k, v in row.items()} for row in records]


def rows_of(table: list[list[str]]) -> list[dict[str, str]]:
    return [dict(zip(table[0], row, strict=True)) for row in table[1:]]


def test_the_page_says_the_numbers_of_the_json_beside_it(lifecycle):
    artifact = lifecycle[0].workspace.artifacts.read(*CHECKPOINT)
    sheet = artifact.json("tear_sheet.json")
    text = (artifact.path / "tear_sheet.html").read_text("utf-8")
    page = Tables(text)
    tables = {name: [rows_of(t) for t in found] for name, found in page.tables.items()}
    assert tables["gate"][0] == shown(sheet["gate"]["rules"])
    metrics = [{**row, "n_days": int(row["n_days"])} for row in sheet["metrics"]]
    assert tables["performance"][0] == shown(metrics)
    assert [row["path"] for row in metrics][:3] == ["shipped", "tuned", "default"]
    assert tables["windows-and-years"] == [shown(sheet["by_fold"]), shown(sheet["by_year"])]
    assert tables["assets"] == [shown(sheet["by_class"]), shown(sheet["by_asset"])]
    costs = shown(
        [
            {**{k: v for k, v in row.items() if k != "cost_bps"}, "flat cost": f"{bps:g} bps"}
            for row in sheet["cost_sensitivity"]
            for bps in [row["cost_bps"]]
        ]
    )
    assert tables["trading-and-costs"][0] == costs
    assert [row["cost_bps"] for row in sheet["cost_sensitivity"]] == [0, 1, 3, 5, 10]
    assert tables["data-quality"] == [shown(sheet["data_quality"])]
    assert tables["features"] == [shown(sheet["features"]["top"])]
    differences, superior = tables["is-it-more-than-luck"]
    compared = sheet["evidence"]["tuned_against_default"]
    for name in ("difference", "low", "high", "p_value"):
        assert differences[0][label(name)] == cell_text(compared[name], "")
    for row in superior:
        test = sheet["evidence"]["superior_ability"][row["does anything beat"]]
        assert row["p value"] == cell_text(test["p_value"], "")
    trials = tables["hyper-parameters"][-1]
    for row, trial in zip(trials, sheet["study"]["trials"], strict=True):
        assert row["objective"] == cell_text(trial["value"], "")
        assert row["pruned reason"] == cell_text(trial["pruned_reason"], "")
        assert row["dropout"] == cell_text(trial["params_dropout"], "")
    for name, value in sheet["provenance"].items():
        assert page.pairs[label(name)] == cell_text(value, "")
    for sentence in sheet["evidence"]["sentences"] + sheet["study"]["evidence"]["sentences"]:
        assert sentence in text.replace("&#39;", "'")


def test_the_json_s_numbers_follow_from_the_daily_returns_beside_it(lifecycle):
    workspace = lifecycle[0].workspace
    artifact = workspace.artifacts.read(*CHECKPOINT)
    sheet = artifact.json("tear_sheet.json")
    net = artifact.frame("daily.parquet").set_index("date")
    for row in sheet["metrics"]:
        path = net[row["path"]].to_numpy()
        if path.std() == 0.0:  # it never traded
            assert row["sharpe_net"] is None
            continue
        assert row["sharpe_net"] == pytest.approx(path.mean() / path.std(ddof=1) * 252**0.5)
        assert row["return_total"] == pytest.approx(np.prod(1 + path) - 1)
        wealth = np.cumprod(np.r_[1.0, 1.0 + path])
        fall = 1 - wealth / np.maximum.accumulate(wealth)
        assert row["max_drawdown"] == pytest.approx(fall.max())
    # contributions of all assets are the shipped path's whole net return
    total = sum(row["contribution"] for row in sheet["by_asset"])
    assert total == pytest.approx(net["shipped"].sum(), abs=1e-12)
    assert total == pytest.approx(sum(row["contribution"] for row in sheet["by_class"]))
    daily = pd.concat(
        [
            workspace.artifacts.read("out_of_sample", key).frame("daily.parquet")
            for key in workspace.plan.reported_keys
        ]
    )
    held = daily[daily["path"] == "long_only"]
    for row in sheet["cost_sensitivity"]:
        at_cost = (held["gross"] - held["turnover"] * row["cost_bps"] / 1e4).to_numpy()
        expected = at_cost.mean() / at_cost.std(ddof=1) * 252**0.5
        assert row["long_only"] == pytest.approx(expected)


def test_baselines_have_their_history_though_the_network_trains_on_a_short_one(lifecycle):
    """12 months of training are too few for the MACD blend; the store has three years more."""
    workspace = lifecycle[0].workspace
    first = workspace.plan.reported_keys[0]
    positions = workspace.artifacts.read("out_of_sample", first).frame("positions.parquet")
    n_days = positions.loc[positions["path"] == "default", "date"].nunique()
    for name in ("tsmom_12m", "macd_blend"):
        rows = positions[positions["path"] == name]
        assert rows["date"].nunique() == n_days
    # the sign of the return over 252 own sessions, from the bars themselves
    bars = tiny_bars()
    own = bars[bars["symbol"] == "S00"].set_index("date")["close"]
    day = positions["date"].min()
    expected = np.sign(own.asof(day) - own[:day].iloc[-253])
    told = positions[(positions["path"] == "tsmom_12m") & (positions["date"] == day)]
    assert told.loc[told["symbol"] == "S00", "raw"].tolist() == [expected]


def test_the_provenance_names_what_can_be_looked_up(lifecycle):
    workspace = lifecycle[0].workspace
    sheet = workspace.artifacts.read(*CHECKPOINT).json("tear_sheet.json")
    metadata = workspace.registry.load_metadata(
        workspace.registry.root / sheet["provenance"]["checkpoint"]
    )
    told = sheet["provenance"]
    assert told["seeds"] == list(metadata.seeds) and told["threads"] == metadata.threads
    assert told["torch version"] == metadata.library_versions["torch"]
    assert len(told["data hash"]) == len(told["configuration hash"]) == 64
    assert told["searched"].startswith("4 trials")  # 2 studies of 2 in the shared lifecycle
    assert json.dumps(sheet, allow_nan=False)
