"""The plan's whole job on this machine's cores: ``make bench-plan``.

Four assets, 530 sessions, walk-forward windows 150/42/42, 292 features, pre-filter, exploration,
stability, 40 trials × 3 inner folds, production, out-of-sample record, checkpoint: the same
phases that ``tft run`` and Dagster build, on a store of its own. Folds are built in ``WORKERS``
processes of one thread each, as a Dagster backfill would; the studies use as many workers.

What is done beyond the plan, because the lifecycle never trains without it: a study for the
first window and one for ``live``, default *and* tuned ensembles in every fold, refits.

``--quick`` cuts trials and epochs so that everything runs once, and says what the full
budgets would cost at most at the speed just measured.
"""

import argparse
import multiprocessing as mp
import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tft_core.config import Settings, load_settings
from tft_core.data.sample import load_sample
from tft_core.data.store import MarketDataStore
from tft_core.hp_tuner import TunerConfig
from tft_core.schema import LIVE_FOLD
from tft_core.training.config import TrainingConfig
from tft_core.training.exploration import ExplorationConfig
from tft_core.training_pipeline.graph import LIFECYCLE, SPECS, UNPARTITIONED_KEY, keys_of
from tft_core.training_pipeline.phases.production import PATHS
from tft_core.training_pipeline.pipeline import PHASE_OF
from tft_core.training_pipeline.workspace import Workspace

WORKERS = 2
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
"""The sample's assets with open, high, low and volume: the most of the 292 features exist."""
LAST_SESSION = date(2013, 3, 1)
"""Where these assets end in the sample."""
N_WINDOWS = 9
TRAIN_LENGTH, TEST_LENGTH = "156B", "44B"
"""Weekdays that hold 150 and 42 sessions of the New York calendar on average."""
INNER_TEST_SESSIONS = 21
"""Three inner tests and 60 sessions to train on must fit into 150 sessions less two purges."""
SERIAL = ("optuna_study", "production_checkpoint")
"""Assets built in this process: one starts workers of its own, the other is a single key."""
QUICK: dict[str, dict[str, Any]] = {
    "exploration": {"n_seeds": 1, "pretrain_epochs": 1, "finetune_epochs": 3},
    "training": {"n_seeds": 1, "pretrain_epochs": 1, "finetune_epochs": 3},
    "tuning": {"n_trials": 4, "pretrain_epochs": 1, "finetune_epochs": 3},
}


@dataclass(slots=True)
class PhaseCost:
    """What one phase has cost so far."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    optimiser_steps: int = 0
    training_seconds: float = 0.0
    """Wall time inside trainings, validation included. They run on one thread each, so it is part
    of ``cpu_seconds`` unless the cores are shared with others."""
    n_trainings: int = 0
    """Members trained, a trial's inner folds and refits counted one by one."""

    def at_most(self, steps: int, n_trainings: int) -> float:
        """CPU seconds of more steps and trainings: a step costs what it did; everything else
        (processes, rows, permutation) is taken to grow with the trainings."""
        trained = min(self.training_seconds, self.cpu_seconds)
        rest = self.cpu_seconds - trained
        return rest * n_trainings / self.n_trainings + trained / self.optimiser_steps * steps


class Budget(NamedTuple):
    """What a phase may spend at most: no early stopping, no pruning."""

    steps: int
    n_trainings: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 trials, 4 epochs, one seed")
    parser.add_argument(
        "--home", type=Path, help="state directory to keep: a second run goes on there"
    )
    options = parser.parse_args()
    with _home(options.home) as home:
        settings = plan_settings(home, quick=options.quick)
        n_sessions = fill_store(settings)
        _describe(settings, n_sessions)
        costs = run(settings)
        _report(costs)
        _report_outcome(Workspace.open(settings))
        if options.quick:
            _extrapolate(costs, Workspace.open(plan_settings(home, quick=False)))


def plan_settings(home: Path, *, quick: bool) -> Settings:
    """The ``standard`` profile on the plan's assets and windows."""
    first_test = np.busday_offset(
        np.datetime64(LAST_SESSION) + 1, -N_WINDOWS * int(TEST_LENGTH[:-1]), roll="forward"
    )
    first = np.busday_offset(first_test, -int(TRAIN_LENGTH[:-1]))
    base = load_settings(profile="standard", home=home)
    changes: dict[str, dict[str, Any]] = {
        "store": {"start": first.astype(date), "end": LAST_SESSION},
        "universe": {"members": [{"symbols": list(SYMBOLS)}]},
        "folds": {
            "anchor": first_test.astype(date),
            "train_length": TRAIN_LENGTH,
            "test_length": TEST_LENGTH,
            "n_windows": N_WINDOWS,
        },
        "training": {"threads": 1},
        "tuning": {
            "n_jobs": WORKERS,
            "retune_every": N_WINDOWS + 1,
            "inner_test_sessions": INNER_TEST_SESSIONS,
        },
    }
    sections = {name: dict(values) for name, values in base.sections.items()}
    for layer in (changes, QUICK if quick else {}):
        for name, values in layer.items():
            sections[name] = {**sections.get(name, {}), **values}
    return replace(base, sections=sections)


def fill_store(settings: Settings) -> int:
    """Load the bundled sample; sessions inside the job's span."""
    span = settings.sections["store"]
    with MarketDataStore(settings.store_path) as store:
        load_sample(store)
        answer = store.sql(
            "SELECT count(DISTINCT date) AS n FROM bars "
            f"WHERE symbol = '{SYMBOLS[0]}' AND date BETWEEN '{span['start']}' AND '{span['end']}'"
        )
    return int(answer["n"].iloc[0])


def run(settings: Settings) -> dict[str, PhaseCost]:
    """Build every asset of the lifecycle in order; costs by phase."""
    workspace = Workspace.open(settings)
    costs: dict[str, PhaseCost] = {}
    context = mp.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context, initializer=_start_worker) as pool:
        list(pool.map(_warm, range(WORKERS)))
        for asset in LIFECYCLE:
            all_keys = keys_of(SPECS[asset], workspace.plan)
            keys = [key for key in all_keys if not workspace.is_fresh(asset, key)]
            if len(keys) < len(all_keys):
                print(f"  {asset}: {len(all_keys) - len(keys)} partitions were there already")
            cost = costs.setdefault(PHASE_OF[asset], PhaseCost())
            started = time.perf_counter()
            if asset in SERIAL:
                cpu = sum(_build_here(workspace, asset, key) for key in keys)
            else:
                cpu = sum(pool.map(partial(_build, settings, asset), keys))
            wall = time.perf_counter() - started
            cost.wall_seconds += wall
            cost.cpu_seconds += cpu
            for key in keys:
                summary = workspace.artifacts.read(asset, key).summary
                for name in ("", "_default", "_tuned"):
                    cost.optimiser_steps += int(summary.get(f"optimiser_steps{name}") or 0)
                for name in ("_training", "", "_default", "_tuned"):
                    cost.training_seconds += float(summary.get(f"seconds{name}") or 0.0)
            cost.n_trainings += _trainings(workspace, asset, keys)
            print(f"  {asset}: {len(keys)} partitions, {wall:.1f} s", flush=True)
    return costs


def _start_worker() -> None:
    torch.set_num_threads(1)


def _warm(_: int) -> None:
    """Pay for the imports before any phase is timed."""
    import tft_core.training_pipeline.phases  # noqa: F401

    time.sleep(0.5)  # so that each worker gets one


def _build(settings: Settings, asset: str, key: str) -> float:
    """Build one partition in a worker; CPU seconds."""
    started = time.process_time()
    Workspace.open(settings).build(asset, key)
    return time.process_time() - started


def _build_here(workspace: Workspace, asset: str, key: str) -> float:
    started = _own_cpu_seconds()
    wall = time.perf_counter()
    workspace.build(asset, key)
    wall = time.perf_counter() - wall
    if asset == "optuna_study" and not workspace.artifacts.read(asset, key).summary["is_pointer"]:
        print(f"    study {key}: {wall:.1f} s", flush=True)
    return _own_cpu_seconds() - started


def _own_cpu_seconds() -> float:
    """CPU of this process and of its ended children (the studies' workers)."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@contextmanager
def _home(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _describe(settings: Settings, n_sessions: int) -> None:
    plan = Workspace.open(settings).plan
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, {WORKERS} "
        f"workers of 1 thread\n{len(SYMBOLS)} assets, {n_sessions} sessions, windows of "
        f"{TRAIN_LENGTH} / {TEST_LENGTH}, folds {', '.join(plan.keys)}",
        flush=True,
    )


def _report(costs: dict[str, PhaseCost]) -> None:
    print(
        "\n| phase | wall s | CPU s | optimiser steps | ms per step in training |\n"
        "|---|--:|--:|--:|--:|"
    )
    for phase, cost in costs.items():
        steps = cost.optimiser_steps
        each = f"{1e3 * cost.training_seconds / steps:.1f}" if steps else "–"
        print(
            f"| {phase} | {cost.wall_seconds:.1f} | {cost.cpu_seconds:.1f} | "
            f"{steps or '–'} | {each} |"
        )
    wall = sum(cost.wall_seconds for cost in costs.values())
    cpu = sum(cost.cpu_seconds for cost in costs.values())
    steps = sum(cost.optimiser_steps for cost in costs.values())
    print(f"| **all** | **{wall:.1f}** ({wall / 60:.1f} min) | {cpu:.1f} | {steps} | |")


def _report_outcome(workspace: Workspace) -> None:
    print()
    for key in (workspace.plan.keys[0], LIVE_FOLD):
        study = workspace.artifacts.read("optuna_study", key).summary
        share = study["n_pruned"] / study["n_finished"]
        print(
            f"study {key}: {study['n_finished']} trials, {study['n_pruned']} pruned ({share:.0%}), "
            f"{study['optimiser_steps']} steps, {study['seconds']:.0f} worker seconds"
        )
    kept = workspace.artifacts.read("prefiltered_features", LIVE_FOLD).summary
    report = workspace.artifacts.read("vsn_stability_report", LIVE_FOLD).summary
    verdict = workspace.artifacts.read("production_checkpoint", UNPARTITIONED_KEY)
    print(
        f"features: {kept['n_features']} → {kept['n_kept']} → {report['n_recommended']} "
        f"({report['verdict']}); promoted: {verdict.json('verdict.json')['promoted']}"
    )


def _trainings(workspace: Workspace, asset: str, keys: Sequence[str]) -> int:
    """Members trained for some partitions of an asset."""
    build, total = workspace.settings.build, 0
    for key in keys:
        summary = workspace.artifacts.read(asset, key).summary
        if asset == "exploration_fold":
            total += summary["n_seeds"]
        elif asset == "optuna_study" and not summary.get("is_pointer", True):
            tuning = build(TunerConfig, "tuning")
            total += tuning.n_trials * tuning.n_folds_per_trial * tuning.n_seeds_per_trial
        elif asset == "production_fold":
            n_seeds = build(TrainingConfig, "training").n_seeds
            total += sum(2 * n_seeds for path in PATHS if f"seconds_{path}" in summary)
    return total


def _budgets(full: Workspace, n_studies: int) -> dict[str, Budget]:
    """Most steps and trainings of the phases that train."""
    build = full.settings.build
    training, tuning = build(TrainingConfig, "training"), build(TunerConfig, "tuning")
    exploration = build(ExplorationConfig, "exploration")
    n_folds = len(full.plan.keys)
    epochs = {
        "2 exploration": exploration.pretrain_epochs + exploration.finetune_epochs,
        "4 tuning": tuning.pretrain_epochs + tuning.finetune_epochs,
        "5 production": training.pretrain_epochs + training.finetune_epochs,
    }
    per_study = tuning.n_trials * tuning.n_folds_per_trial * tuning.n_seeds_per_trial
    n_trainings = {
        "2 exploration": n_folds * exploration.n_seeds,
        "4 tuning": n_studies * per_study,
        "5 production": n_folds * len(PATHS) * 2 * training.n_seeds,  # early-stopped, refitted
    }
    return {
        phase: Budget(n * epochs[phase] * training.min_steps_per_epoch, n)
        for phase, n in n_trainings.items()
    }


def _extrapolate(costs: dict[str, PhaseCost], full: Workspace) -> None:
    """Upper bounds of the full job, with the two studies of this job and the plan's one."""
    print("\nAt most, at this speed, without early stopping and pruning:")
    for n_studies in (2, 1):
        budgets = _budgets(full, n_studies)
        if not all(costs[phase].optimiser_steps for phase in budgets):
            print("  nothing to tell: a phase was not built here")
            return
        total = sum(cost.cpu_seconds for phase, cost in costs.items() if phase not in budgets)
        told = []
        for phase, budget in budgets.items():
            busy = costs[phase].at_most(*budget)
            total += busy
            told.append(f"{phase} {budget.steps} steps, {busy / 60:.0f} CPU min")
        print(
            f"  {n_studies} {'studies' if n_studies > 1 else 'study'}: {'; '.join(told)}; all "
            f"phases, {WORKERS} cores kept busy: {total / WORKERS / 60:.0f} min"
        )


if __name__ == "__main__":
    main()
