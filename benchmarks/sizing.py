"""How large a machine for how many assets.

    python -m benchmarks.sizing [--write docs/sizing.md]

Measures what two cores can within five minutes (``sizing_cases``): the real phases ``market_data``
and ``mega_features`` on synthetic bars, the rows that a fold trains on, and training steps. What is
larger follows from those figures by the formulas of ``Job`` and ``Rates``.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.sizing_cases import CASES, INPUTS, MIN_STEPS, SEQ_LEN, TRY_YEARS, WARMUP
from tft_core.errors import ConfigError
from tft_core.schema import TRADING_DAYS_PER_YEAR

ASSETS, YEARS = (4, 50, 200), 6
TRY_ASSETS = (2, 4)
"""What ``--quick`` measures, over ``TRY_YEARS``."""
GPU_STEP_MS = {32: 4.2, 256: 6.1}
"""Batch size → ms of a step as a CUDA graph, plan() with 210 inputs (docs/BENCHMARKS.md)."""
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


# -- what a job is -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One walk-forward job with the budgets of profile ``standard``, nothing stopped early."""

    assets: int
    years: float
    """Of history, training of the first fold included."""
    folds: int
    trials: int = 40
    test_years: float = 1.0
    """Length of a fold's test window."""
    batch: int = 32
    retune_every: int = 4
    seeds: int = 3
    exploration_epochs: int = 15 + 25
    trial_epochs: int = 15 + 25
    inner_folds: int = 3
    production_epochs: int = 30 + 50

    @property
    def studies(self) -> int:
        """At the first fold, every ``retune_every`` folds, and at ``live``."""
        return math.ceil(self.folds / self.retune_every) + 1

    def train_years(self) -> list[float]:
        """Of each fold, oldest first; ``live``, on everything, is the last."""
        first = self.years - self.folds * self.test_years
        return [first + number * self.test_years for number in range(self.folds + 1)]

    def steps_per_epoch(self, train_years: float) -> int:
        """Every (asset, day) bears loss once: windows of one tile each, dealt to minibatches."""
        windows = self.assets * TRADING_DAYS_PER_YEAR * train_years / (SEQ_LEN - WARMUP)
        return max(MIN_STEPS, math.ceil(windows / self.batch))

    def steps(self) -> dict[str, int]:
        """Optimiser steps at most, by phase; validation is not counted."""
        each = [self.steps_per_epoch(years) for years in self.train_years()]
        tuned = [*each[: self.folds : self.retune_every], each[-1]]
        counted_and_refitted, tuned_and_default = 2, 2
        return {
            "exploration": self.seeds * self.exploration_epochs * sum(each),
            "tuning": self.trials * self.inner_folds * self.trial_epochs * sum(tuned),
            "production": counted_and_refitted
            * tuned_and_default
            * self.seeds
            * self.production_epochs
            * sum(each),
        }

    @property
    def asset_years(self) -> float:
        return self.assets * self.years


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Measured figures that grow with the job, and how they do."""

    store_mb_per_asset_year: float
    feature_mb_per_asset_year: float
    build_base_gb: float
    build_mb_per_asset_year: float
    """Memory of ``mega_features`` beyond the base, by the asset-years of its partition."""
    build_s_per_asset_year: dict[int, float]
    """CPU seconds, by assets: cross-sections grow faster than the number of assets."""
    rows_base_gb: float
    rows_mb_per_asset_year: float
    """Memory of a training fold beyond the base, by the asset-years of its training window."""
    cpu_step_ms: float
    """CPU milliseconds of a step with 32 windows, at the most assets measured."""

    def store_gb(self, job: Job) -> float:
        return job.asset_years * self.store_mb_per_asset_year / 1e3

    def artifacts_gb(self, job: Job) -> float:
        """Features, each row once; weights and reports are small beside them."""
        return job.asset_years * self.feature_mb_per_asset_year / 1e3

    def build_gb(self, job: Job) -> float:
        """Peak memory of the largest partition of ``mega_features``: the first fold's history."""
        largest = max(job.train_years()[0], job.test_years)
        return self.build_base_gb + job.assets * largest * self.build_mb_per_asset_year / 1e3

    def build_cpu_hours(self, job: Job) -> float:
        return job.asset_years * self._build_rate(job.assets) / 3600

    def train_gb(self, job: Job) -> float:
        """Peak memory of a process that trains the last fold."""
        return self.rows_base_gb + job.asset_years * self.rows_mb_per_asset_year / 1e3

    def cpu_core_days(self, job: Job) -> float:
        if job.batch != 32:
            raise ConfigError(f"CPU steps must have the 32 windows measured, found {job.batch}")
        return sum(job.steps().values()) * self.cpu_step_ms / 1e3 / 86_400

    def _build_rate(self, assets: int) -> float:
        """Between two measured numbers of assets, and beyond the last, a power of their number."""
        known = sorted(self.build_s_per_asset_year)
        if len(known) == 1 or assets <= known[0]:
            return self.build_s_per_asset_year[known[0]]
        upper = next((n for n in known if n >= assets), known[-1])
        lower = known[known.index(upper) - 1]
        low, high = self.build_s_per_asset_year[lower], self.build_s_per_asset_year[upper]
        power = math.log(high / low) / math.log(upper / lower)
        return high * (assets / upper) ** power


def gpu_hours(job: Job) -> float:
    """All steps one after the other on one GPU."""
    return sum(job.steps().values()) * GPU_STEP_MS[job.batch] / 1e3 / 3600


JOBS = (
    Job(assets=4, years=10, folds=4),
    Job(assets=50, years=20, folds=10),
    Job(assets=200, years=30, folds=30, test_years=0.75),
    Job(assets=500, years=30, folds=30, test_years=0.75),
)


# -- what is measured ----------------------------------------------------------------------------


def in_a_process(case: str, assets: int, years: int, home: Path) -> dict[str, Any]:
    """The figures of a case, measured by a new process whose peak memory is the case's own."""
    command = [sys.executable, "-m", "benchmarks.sizing_cases", case, str(assets), str(years)]
    command.append(str(home))
    print(f"{case}, {assets} assets", file=sys.stderr, flush=True)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(assets: tuple[int, ...], years: int) -> dict[str, dict[int, Any]]:
    """Case → assets → its figures."""
    found: dict[str, dict[int, Any]] = {case: {} for case in CASES}
    for number in assets:
        with tempfile.TemporaryDirectory() as folder:
            for case in found:
                found[case][number] = in_a_process(case, number, years, Path(folder))
    return found


def rates_of(found: dict[str, dict[int, Any]], years: int) -> Rates:
    """Sizes by the largest case, whose fixed parts weigh least; memory by the two largest."""
    *_, few, most = sorted(found["features"])
    features, rows = found["features"], found["rows"]
    asset_years = most * years

    def slope(cases: dict[int, Any]) -> float:
        return (cases[most]["peak_gb"] - cases[few]["peak_gb"]) * 1e3 / ((most - few) * years)

    return Rates(
        store_mb_per_asset_year=found["store"][most]["store_mb"] / asset_years,
        feature_mb_per_asset_year=features[most]["features_mb"] / asset_years,
        build_base_gb=features[most]["base_gb"],
        build_mb_per_asset_year=slope(features),
        build_s_per_asset_year={n: case["cpu_s"] / (n * years) for n, case in features.items()},
        rows_base_gb=rows[most]["base_gb"],
        rows_mb_per_asset_year=slope(rows),
        cpu_step_ms=found["step"][most]["cpu_ms"],
    )


# -- what is shown -------------------------------------------------------------------------------


def measured_table(found: dict[str, dict[int, Any]], years: int) -> str:
    lines = [
        "| | " + " | ".join(f"{n} assets" for n in sorted(found["features"])) + " |",
        "|---|" + "--:|" * len(found["features"]),
    ]

    def add(what: str, case: str, name: str, form: str) -> None:
        cells = [format(found[case][n][name], form) for n in sorted(found[case])]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")

    add("asset sessions", "features", "rows", ",d")
    add("market store, MB", "store", "store_mb", ".1f")
    add("its ingest, wall s", "store", "wall_s", ".1f")
    add("`market_data` + `mega_features`, wall s", "features", "wall_s", ".1f")
    add("the same, CPU s", "features", "cpu_s", ".1f")
    add("peak memory, GB", "features", "peak_gb", ".2f")
    add("of it before the build", "features", "base_gb", ".2f")
    add("`features.parquet` (292 columns), MB", "features", "features_mb", ".1f")
    add("other files of the artifact, MB", "features", "other_mb", ".1f")
    add(f"rows to train on ({INPUTS} inputs): read and laid out, wall s", "rows", "wall_s", ".1f")
    add("peak memory, GB", "rows", "peak_gb", ".2f")
    add("of it before the first read", "rows", "base_gb", ".2f")
    add("the row table itself, MB", "rows", "table_mb", ".1f")
    add("a training step (plan(), 16 contexts, batch 32, 1 thread), ms", "step", "step_ms", ".0f")
    add("the same, CPU ms", "step", "cpu_ms", ".0f")
    add("weights of one member, MB", "step", "weights_mb", ".2f")
    return f"{years} years of synthetic bars each.\n\n" + "\n".join(lines) + "\n"


def derived_table(rates: Rates, jobs: tuple[Job, ...] = JOBS) -> str:
    rows = {
        "store, GB": [f"{rates.store_gb(j):.2f}" for j in jobs],
        "features, all partitions, GB": [f"{rates.artifacts_gb(j):.2f}" for j in jobs],
        "features, CPU hours": [f"{rates.build_cpu_hours(j):.1f}" for j in jobs],
        "memory of the largest feature build, GB": [f"{rates.build_gb(j):.1f}" for j in jobs],
        "memory of training the last fold, GB": [f"{rates.train_gb(j):.1f}" for j in jobs],
        "steps: exploration / tuning / production, M": [
            " / ".join(f"{n / 1e6:.2f}" for n in j.steps().values()) for j in jobs
        ],
        "core-days on CPUs, batch 32": [f"{rates.cpu_core_days(j):.1f}" for j in jobs],
    }
    for batch in GPU_STEP_MS:
        sized = [Job(**{**asdict(j), "batch": batch}) for j in jobs]
        rows[f"GPU-hours, batch {batch}"] = [f"{gpu_hours(j):.1f}" for j in sized]
    head = [f"{j.assets} × {j.years:g} × {j.folds} × {j.trials}" for j in jobs]
    lines = ["| assets × years × folds × trials | " + " | ".join(head) + " |"]
    lines.append("|---|" + "--:|" * len(jobs))
    lines += [f"| {what} | " + " | ".join(cells) + " |" for what, cells in rows.items()]
    return "\n".join(lines) + "\n"


def conditions(wall_s: float) -> str:
    import numpy as np
    import torch

    git = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return (
        f"Commit {commit or 'unknown'}, {datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores "
        f"({platform.machine()}), load {os.getloadavg()[0]:.1f} at the end, Python "
        f"{platform.python_version()}, NumPy {np.__version__}, torch {torch.__version__}; "
        f"{wall_s:.0f} s.\n"
    )


def write(document: Path, text: str) -> None:
    head, rest = document.read_text("utf-8").split(BEGIN)
    document.write_text(f"{head}{BEGIN}\n{text}{END}{rest.split(END)[1]}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Sizes measured on this machine, and derived.")
    parser.add_argument("--quick", action="store_true", help="few assets and years, to try it")
    parser.add_argument("--write", type=Path, metavar="FILE", help="document to put the tables in")
    arguments = parser.parse_args()
    began = time.perf_counter()
    assets, years = (TRY_ASSETS, TRY_YEARS) if arguments.quick else (ASSETS, YEARS)
    found = measured(assets, years)
    text = "\n".join(
        (
            "### Measured\n",
            measured_table(found, years),
            "### Derived\n",
            derived_table(rates_of(found, years)),
            conditions(time.perf_counter() - began),
        )
    )
    print(text)
    if arguments.write:
        write(arguments.write, text)


if __name__ == "__main__":
    main()
