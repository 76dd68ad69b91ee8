"""Can the selection be believed? Data with a planted answer, ours beside the usual ways.

``python -m benchmarks.selection --state DIR`` trains what is still missing (a killed run goes on
where it stopped; several processes may share a state); ``python -m benchmarks.selection_table
--state DIR`` prints the tables of what is there. One data set goes through the product's own
tiers: pre-filter, exploration with shadows over three folds × three seeds, stability report.
Then networks are trained on what it chose.
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

from benchmarks.planted import NETWORK, planted_rows
from tft_core.feature_selection import (
    NOT_ABOVE_CHANCE,
    FeatureSelectionConfig,
    PrefilterResult,
    StabilityReport,
    prefilter,
    screen,
    stability_report,
)
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
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--only", default="", help="conditions whose name holds this")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of the data sets")
    parser.add_argument(
        "--bare", action="store_true", help="exploration alone: no other VSN, no ablation"
    )
    options = parser.parse_args()
    conditions = [c for c in CONDITIONS if options.only in c.name]
    if options.bare:
        conditions = [replace(c, plain=0, ablation=False) for c in conditions]
    for condition, number in _by_turns(conditions):
        run(condition, options.first_seed + number, options.state, number < condition.plain)


def _by_turns(conditions: list[Condition]) -> Iterator[tuple[Condition, int]]:
    """Data set 0 of every condition first, so that a table can be read early."""
    most = max(c.data_sets for c in conditions)
    for number, condition in product(range(most), conditions):
        if number < condition.data_sets:
            yield condition, number


def run(condition: Condition, seed: int, state: Path, with_plain: bool) -> None:
    """All that one data set is asked, unless it is there or another process is at it."""
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
        if with_plain:
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


if __name__ == "__main__":
    main()
