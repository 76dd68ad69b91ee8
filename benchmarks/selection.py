"""Can the selection be believed? Data with a planted answer, ours beside the usual ways.

``python -m benchmarks.selection run --state DIR`` trains what is still missing (a killed run goes
on where it stopped; several processes may share a state), ``… table --state DIR`` prints the
table. One data set goes through the product's own tiers: pre-filter, exploration with shadows
over three folds × three seeds, stability report. Then networks are trained on what it chose.
"""

import argparse
import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.planted import N_TRUE, NETWORK, auc, planted_rows
from tft_core.feature_selection import (
    NOT_ABOVE_CHANCE,
    FeatureSelectionConfig,
    PrefilterResult,
    StabilityReport,
    prefilter,
    screen,
    stability_report,
)
from tft_core.feature_selection.chance import shadow_threshold
from tft_core.models.config import VsnForm
from tft_core.models.ensemble import Ensemble
from tft_core.sequences import RowTable
from tft_core.training.config import TrainingConfig
from tft_core.training.evaluation import diversified_sharpe
from tft_core.training.exploration import ExplorationConfig, measure, with_shadows
from tft_core.training.loop import MemberResult, train_member

FOLD_ENDS = (950, 1100, 1250)
"""Days that each fold's training window holds; its last fifth is validation."""
GAP, TEST_DAYS, PURGE, VALIDATION = 10, 2500, 2, 0.2
SEEDS = (0, 1, 2)
TRAINING = TrainingConfig(
    lr=1.5e-3,
    batch_size=32,
    pretrain_epochs=0,
    finetune_epochs=40,
    patience=12,
    cost_factor=0.0,
    threads=1,
)
EXPLORATION = ExplorationConfig(n_seeds=len(SEEDS), permutation_windows=48, ig_windows=0)
SELECTION = FeatureSelectionConfig(final_min_features=0)
FIRST_SEED = 200
"""Data sets 0 to 199 were looked at while network and rule were being chosen."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One row of the table."""

    n_features: int
    ic: float
    non_linear: bool
    data_sets: int
    plain: int = 0
    """Data sets on which the TFT's own VSN is trained too: it takes five times as long."""
    ablation: bool = True

    @property
    def name(self) -> str:
        kind = "non-linear" if self.non_linear else "linear" if self.ic else "none"
        return f"V{self.n_features}-{kind}-ic{self.ic:.2f}"


CONDITIONS = (
    Condition(60, 0.10, False, 5, plain=5),
    Condition(60, 0.0, False, 30, plain=2, ablation=False),
    Condition(210, 0.10, False, 5, plain=2),
    Condition(60, 0.35, False, 5, plain=2),
    Condition(60, 0.35, True, 5, plain=2),
    Condition(210, 0.0, False, 5, ablation=False),
    Condition(210, 0.35, False, 5),
    Condition(210, 0.35, True, 5),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--only", default="", help="conditions whose name holds this")
    options = parser.parse_args()
    conditions = [c for c in CONDITIONS if options.only in c.name]
    if options.what == "run":
        for condition, number in _by_turns(conditions):
            run(condition, number, options.state)
    else:
        print_tables(conditions, options.state)


def _by_turns(conditions: list[Condition]) -> Iterator[tuple[Condition, int]]:
    """Data set 0 of every condition first, so that a table can be read early."""
    most = max(c.data_sets for c in conditions)
    for number, condition in product(range(most), conditions):
        if number < condition.data_sets:
            yield condition, number


def run(condition: Condition, number: int, state: Path) -> None:
    """All that one data set is asked, unless it is there or another process is at it."""
    seed = FIRST_SEED + number
    folder = state / condition.name / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "result.json"
    with _claimed(folder / "lock") as mine:
        if not mine or done.exists():
            return
        started, cpu = time.perf_counter(), time.process_time()
        rows = planted_rows(
            seed,
            condition.n_features,
            condition.ic,
            FOLD_ENDS[-1] + GAP + TEST_DAYS,
            non_linear=condition.non_linear,
        )
        filtered = {end: tier_one(rows, end) for end in FOLD_ENDS}
        folds = {
            end: explore_fold(rows, end, filtered[end].kept, "identified") for end in FOLD_ENDS
        }
        sharpe = {"all + shadows": folds[FOLD_ENDS[-1]].sharpe()}
        records = pd.concat(
            [fold.records.assign(fold=f"{end:05d}") for end, fold in folds.items()],
            ignore_index=True,
        )
        records.to_parquet(folder / "records.parquet")
        kept = filtered[FOLD_ENDS[-1]]
        if number < condition.plain:
            plain = explore_fold(rows, FOLD_ENDS[-1], kept.kept, "tft")
            sharpe["plain VSN"] = plain.sharpe()
            plain.records.to_parquet(folder / "plain.parquet")
        report = stability_report(records, SELECTION, prefiltered=kept.kept)
        if condition.ablation:
            sharpe |= ablation(rows, kept.kept, report, seed)
        result = {
            "kept": list(kept.kept),
            "dropped": {name: drop.stand_in for name, drop in kept.dropped.items()},
            "sharpe": sharpe,
            "wall_s": time.perf_counter() - started,
            "cpu_s": time.process_time() - cpu,
        }
        _screened(rows, kept).to_parquet(folder / "screen.parquet")
        done.write_text(json.dumps(result))
        print(f"{condition.name} {seed}: {report.verdict}, {result['cpu_s']:.0f} CPU s", flush=True)


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def split(rows: RowTable, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that fit and rows that validate in the window of the first ``end`` days."""
    first = int(end * (1 - VALIDATION))
    day = rows.date_index
    fit = (day < first - PURGE) & rows.can_bear_loss
    return fit, (day >= first) & (day < end - PURGE) & rows.can_bear_loss


def tier_one(rows: RowTable, end: int) -> PrefilterResult:
    return prefilter(rows.features[rows.date_index < end - PURGE], rows.feature_names, SELECTION)


@dataclass(frozen=True, slots=True)
class Explored:
    """One fold's members, the rows they were trained on, and their records."""

    rows: RowTable
    members: list[MemberResult]
    records: pd.DataFrame

    def sharpe(self) -> float:
        return test_sharpe(self.rows, self.members)


def explore_fold(rows: RowTable, end: int, kept: tuple[str, ...], form: VsnForm) -> Explored:
    """Exploration of one fold: ours with shadows and permutation, others without."""
    narrow, settings = rows.select_features(kept), replace(EXPLORATION, permutation_windows=0)
    fit, validation = split(narrow, end)
    if form == "identified":
        narrow, settings = with_shadows(narrow, validation, n_shadows(rows)), EXPLORATION
    members = trained(narrow, fit, validation, form)
    records = [
        measure(member, narrow, validation, settings, seed)
        for member, seed in zip(members, SEEDS, strict=True)
    ]
    return Explored(narrow, members, pd.concat(records, ignore_index=True))


def n_shadows(rows: RowTable) -> int:
    """About as many as features where these are few; more dilute what the network learns."""
    return 64 if rows.n_features < 100 else 128


def trained(
    rows: RowTable, fit: np.ndarray, validation: np.ndarray, form: VsnForm
) -> list[MemberResult]:
    model = replace(NETWORK, n_features=rows.n_features, vsn=form)
    return [train_member(rows, fit, validation, model, TRAINING, seed) for seed in SEEDS]


def test_sharpe(rows: RowTable, members: list[MemberResult]) -> float:
    """Gross Sharpe ratio of the members' mean position over the days after all folds."""
    networks = [result.member for result in members]
    ensemble = Ensemble(networks[0].config, networks, [None] * len(networks))
    at = np.flatnonzero((rows.date_index >= FOLD_ENDS[-1] + GAP) & rows.can_bear_loss)
    return diversified_sharpe(rows, at, ensemble.predict(rows, at).z)


def ablation(
    rows: RowTable, kept: tuple[str, ...], report: StabilityReport, seed: int
) -> dict[str, float]:
    """Test Sharpe of networks trained on all, on the chosen, and on as many at random.

    On many features also on the plan's 60 and 80, by rank and at random.
    """
    rng = np.random.default_rng([seed, 3])
    ranked = [str(name) for name in report.table.index]
    sets: dict[str, tuple[str, ...]] = {"all": kept}
    if report.verdict != NOT_ABOVE_CHANCE and len(report.recommended_features) < len(kept):
        size = len(report.recommended_features)
        sets["chosen"] = report.recommended_features
        sets["as many at random"] = tuple(rng.permutation(kept)[:size])
    for size in (60, 80) if len(kept) > 100 else ():
        sets[f"top {size}"] = tuple(ranked[:size])
        sets[f"random {size}"] = tuple(rng.permutation(kept)[:size])
    return {name: trained_sharpe(rows, features) for name, features in sets.items()}


def trained_sharpe(rows: RowTable, features: tuple[str, ...]) -> float:
    narrow = rows.select_features(tuple(sorted(features)))
    return test_sharpe(narrow, trained(narrow, *split(narrow, FOLD_ENDS[-1]), "identified"))


def _screened(rows: RowTable, kept: PrefilterResult) -> pd.DataFrame:
    """The |IC| screen of the last fold's training rows, validation included."""
    known = rows.date_index < FOLD_ENDS[-1] - PURGE
    narrow = rows.select_features(kept.kept)
    return screen(
        narrow.features[known],
        kept.kept,
        narrow.scaled_label[known],
        narrow.date_index[known],
        SELECTION,
    )


RULES = (
    "ours",
    "weight, 95 % shadow line",
    "permutation, 95 % shadow line",
    "|IC|, Benjamini-Hochberg",
    "TFT's VSN, plan's rule",
)


def print_tables(conditions: list[Condition], state: Path) -> None:
    """What was picked and how well, per condition and rule; then verdicts; then Sharpe ratios."""
    picked, verdicts, sharpes = [], [], []
    for condition in conditions:
        for done in sorted((state / condition.name).glob("*/result.json")):
            told = Outcome.read(done.parent, condition)
            picked += told.rules()
            verdicts.append(told.verdict())
            sharpes += [
                {
                    "condition": condition.name,
                    "data": done.parent.name,
                    "set": name,
                    "sharpe": value,
                }
                for name, value in told.result["sharpe"].items()
            ]
    order = [c.name for c in conditions]
    by_rule = _means(pd.DataFrame(picked), ["condition", "rule"])
    print(by_rule.reindex(list(product(order, RULES))).dropna(how="all").to_markdown())
    frame = pd.DataFrame(verdicts)
    print(pd.crosstab(frame["condition"], frame["verdict"]).reindex(order).dropna().to_markdown())
    agreement = _means(frame.drop(columns="verdict"), ["condition"])
    print(agreement.reindex(order).dropna(how="all").to_markdown())
    wide = pd.DataFrame(sharpes).pivot(index=["condition", "data"], columns="set", values="sharpe")
    for name in [n for n in wide.columns if n != "all"]:
        wide[f"{name} − all"] = wide[name] - wide["all"]
    told = _means(wide.reset_index("condition"), ["condition"])
    print(told.reindex(order).T.to_markdown())


def _means(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean ± standard error over data sets, and their number."""
    groups = frame.groupby(by)
    mean, error, count = groups.mean(), groups.sem(), groups.count()
    told = {
        name: [
            _with_error(m, e, n)
            for m, e, n in zip(mean[name], error[name], count[name], strict=True)
        ]
        for name in mean.columns
    }
    return pd.DataFrame(told, index=mean.index)


def _with_error(mean: float, error: float, count: int) -> str:
    if np.isnan(mean):
        return ""
    return f"{mean:.2f} ({count})" if np.isnan(error) else f"{mean:.2f} ± {error:.2f} ({count})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One data set: its records, and every rule applied to them."""

    condition: Condition
    result: dict
    report: StabilityReport
    records: pd.DataFrame
    screened: pd.DataFrame
    plain: pd.DataFrame | None

    @classmethod
    def read(cls, folder: Path, condition: Condition) -> "Outcome":
        result = json.loads((folder / "result.json").read_text())
        records = pd.read_parquet(folder / "records.parquet")
        plain = folder / "plain.parquet"
        return cls(
            condition,
            result,
            stability_report(records, SELECTION, prefiltered=result["kept"]),
            records,
            pd.read_parquet(folder / "screen.parquet"),
            pd.read_parquet(plain) if plain.exists() else None,
        )

    def rules(self) -> list[dict[str, object]]:
        """AUC, false discoveries and power of every rule among the kept features."""
        kept = self.result["kept"]
        table = self.report.table.reindex(kept)
        shadows = self.records["is_shadow"]
        permutation = self.records.groupby("feature")["perm_dposition"].mean()
        names = self.records.loc[shadows, "feature"].unique()
        line = shadow_threshold(permutation[names].to_numpy(), SELECTION.shadow_quantile)
        screened = self.screened.reindex(kept)
        p_ic = 2.0 * stats.norm.sf(screened["ic_t"].abs())
        is_on = self.report.verdict != NOT_ABOVE_CHANCE
        rules = {
            "ours": (table["evidence"], table["passes"] & is_on),
            "weight, 95 % shadow line": (table["evidence"], table["above_shadow"]),
            "permutation, 95 % shadow line": (permutation[kept], permutation[kept] > line),
            "|IC|, Benjamini-Hochberg": (
                screened["ic"].abs(),
                stats.false_discovery_control(p_ic) <= SELECTION.max_fdr,
            ),
        }
        if self.plain is not None:
            weight = self.plain.pivot(index="seed", columns="feature", values="weight")[kept]
            rules["TFT's VSN, plan's rule"] = (
                weight.mean(),
                weight.mean() > SELECTION.vsn_weight_threshold,
            )
        is_true = self.is_true(kept)
        found = []
        for name, (score, picks) in rules.items():
            picks = np.asarray(picks, dtype=bool)
            found.append(
                {
                    "condition": self.condition.name,
                    "rule": name,
                    "AUC": auc(np.asarray(score), is_true) if is_true.any() else np.nan,
                    "FDR": float((picks & ~is_true).sum() / max(picks.sum(), 1)),
                    "power": float(picks[is_true].mean()) if is_true.any() else np.nan,
                    "picked": float(picks.sum()),
                }
            )
        return found

    def is_true(self, names: list[str]) -> np.ndarray:
        if self.condition.ic == 0.0:
            return np.zeros(len(names), dtype=bool)
        return np.array([int(name[1:]) < N_TRUE for name in names])

    def verdict(self) -> dict[str, object]:
        """The verdict and how far repeated explorations agree."""
        told, kept = self.report.agreement, self.result["kept"]
        weight = self.records[~self.records["is_shadow"]]
        last = weight[weight["fold"] == weight["fold"].max()]
        is_true = self.is_true(kept)
        by_seed = last.pivot(index="seed", columns="feature", values="weight")[kept].to_numpy()
        one = [auc(row, is_true) for row in by_seed] if is_true.any() else [np.nan]
        return {
            "condition": self.condition.name,
            "verdict": self.report.verdict,
            "AUC, one seed, newest fold": float(np.mean(one)),
            "AUC, 3 seeds, newest fold": auc(by_seed.mean(axis=0), is_true)
            if is_true.any()
            else np.nan,
            "Spearman weight-permutation": self.report.statistics["weight_permutation_spearman"],
            "τ of seeds": told["seeds_within_fold"]["kendall"],
            "Nogueira of seeds": told["seeds_within_fold"]["nogueira"],
            "τ of folds": told["folds"]["kendall"],
            "Nogueira of folds": told["folds"]["nogueira"],
            "CPU s": self.result["cpu_s"],
        }


if __name__ == "__main__":
    main()
