"""The training step beside other libraries' TFTs, and how it grows: ``make bench-train``.

Same shapes, same run, same threads, float32, CPU. Every measurement is a process of its own,
so that peak memory is its own too; rounds go through all cases in turn, so that a busy spell of
the machine falls on all alike. Figures are medians over all timed steps (ours: epochs of
steps, as the training reports them, minibatches assembled and contexts drawn in the time).

What a window is: all look at the same ``seq_len`` days of inputs. Ours answers with a position at
every one of them, of which those after the warm-up bear loss; the others with one forecast.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median

import torch

from benchmarks import rivals
from benchmarks.measure import StepCase, StepTimes, measure

BASELINE = "pytorch-forecasting"
LIBRARIES = (BASELINE, "neuralforecast")
RIVAL_STEPS = {BASELINE: (4, 12), "neuralforecast": (1, 2)}
"""Steps of warm-up and timed steps in each process: pytorch-forecasting's first two take half
as long again as those after; one of neuralforecast takes many seconds."""

INDEPENDENT = StepCase(
    label="no contexts, independent windows", share_rows=False, steps=6, epochs=4
)
SHARED = StepCase(
    label="no contexts, a window at every day of 4 × 150", n_assets=4, every_day=True, steps=19
)
"""The plan's training window, as the other libraries' data sets would cut it."""
TRAINING = StepCase(label="no contexts, training's minibatches")
IN_CONTEXT = replace(TRAINING, label="16 contexts, training's minibatches", n_context=16)
COMPARED = (
    INDEPENDENT,
    SHARED,
    TRAINING,
    IN_CONTEXT,
    replace(INDEPENDENT, label="independent windows, paper's VSN", vsn="paper"),
    replace(TRAINING, label="no contexts, paper's VSN", vsn="paper"),
    replace(IN_CONTEXT, label="16 contexts, paper's VSN", vsn="paper"),
    replace(TRAINING, label="`paper()`: 126 steps, 20 segments", preset="paper", seq_len=126,
            vsn="paper", vsn_hidden=64, n_context=20, steps=4, epochs=1),
)  # fmt: skip
TARGETS = ((INDEPENDENT, 20.0), (SHARED, 40.0), (IN_CONTEXT, 5.0))
"""Least windows per second in multiples of pytorch-forecasting's (design §6)."""

GROWTH: dict[str, tuple[str, tuple[int, ...], StepCase]] = {
    "variables": ("n_features", (50, 100, 200, 300), IN_CONTEXT),
    "contexts": ("n_context", (0, 8, 16, 32), IN_CONTEXT),
    "steps of a window": ("seq_len", (21, 42, 63, 126), IN_CONTEXT),
    "windows in a minibatch": ("batch_size", (16, 32, 64, 128), IN_CONTEXT),
}


@dataclass(slots=True)
class Pooled:
    """All rounds of one case."""

    rounds: list[StepTimes] = field(default_factory=list)

    @property
    def step_ms(self) -> float:
        return median(ms for r in self.rounds for ms in r.step_ms)

    @property
    def cpu_ms(self) -> float:
        return median(ms for r in self.rounds for ms in r.cpu_ms)

    @property
    def windows_per_s(self) -> float:
        return median(self._rates())

    @property
    def best_windows_per_s(self) -> float:
        return max(self._rates())

    @property
    def peak_mib(self) -> float:
        return max(r.peak_mib for r in self.rounds)

    def _rates(self) -> list[float]:
        return [rate for r in self.rounds for rate in r.windows_per_s]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a few steps each: does it run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-growth", action="store_true", help="only the comparison")
    parser.add_argument("--only-growth", action="store_true", help="only how time grows")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(asdict(_measure_here(json.loads(options.child)))))
        return
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, float32, "
        f"torch {torch.__version__}, load {os.getloadavg()[0]:.1f} at the start\n"
    )
    if not options.only_growth:
        compare(options)
    if not options.no_growth:
        for name in GROWTH:
            grow(name, options)


def compare(options: argparse.Namespace) -> None:
    """Ours beside the others, 210 inputs, 32 windows of 63 steps, hidden 64."""
    absent = rivals.missing()
    if absent:
        print(
            f"{' and '.join(absent)} must be installed to compare with, found them missing; "
            "`make bench-train` installs the extra [bench] into .venv-bench. Only ours is run.\n"
        )
    jobs = [(library, replace(INDEPENDENT, label=library)) for library in LIBRARIES]
    jobs = [job for job in jobs if job[0] not in absent] + [("", case) for case in COMPARED]
    measured = _rounds(jobs, options)
    base = None if BASELINE in absent else measured[0]
    _table(
        (
            "step",
            "ms",
            "CPU ms",
            "windows/s",
            "best",
            f"× {BASELINE}",
            "different rows",
            "peak MiB",
        ),
        [_compared_row(job, pooled, base) for job, pooled in zip(jobs, measured, strict=True)],
    )
    if base is not None:
        by_case = {case: pooled for (_, case), pooled in zip(jobs, measured, strict=True)}
        for case, least in TARGETS:
            reached = by_case[case].windows_per_s / base.windows_per_s
            word = "reached" if reached >= least else "missed"
            print(f"- {case.label}: {reached:.1f}×, at least {least:.0f}× {word}")
        print()


def _compared_row(job: tuple[str, StepCase], pooled: Pooled, base: Pooled | None) -> list[str]:
    library, case = job
    last = pooled.rounds[-1]
    return [
        last.library if library else case.label,
        f"{pooled.step_ms:.1f}",
        f"{pooled.cpu_ms:.1f}",
        f"{pooled.windows_per_s:.1f}",
        f"{pooled.best_windows_per_s:.1f}",
        "–" if base is None else f"{pooled.windows_per_s / base.windows_per_s:.1f}",
        f"{last.unique_rows:.0%}",
        f"{pooled.peak_mib:.0f}",
    ]


def grow(name: str, options: argparse.Namespace) -> None:
    """Time and memory of ``plan()`` with one of its sizes varied."""
    attribute, values, base = GROWTH[name]
    cases = [replace(base, label=str(v), **{attribute: v}) for v in values]
    measured = _rounds([("", case) for case in cases], options)
    rows = [
        [
            case.label,
            f"{pooled.step_ms:.1f}",
            f"{pooled.cpu_ms:.1f}",
            f"{pooled.windows_per_s:.1f}",
            f"{pooled.rounds[-1].windows_per_step:.1f}",
            f"{pooled.rounds[-1].pool:.0f}",
            f"{pooled.peak_mib:.0f}",
        ]
        for case, pooled in zip(cases, measured, strict=True)
    ]
    _table(
        (name, "ms", "CPU ms", "windows/s", "windows/step", "contexts encoded", "peak MiB"), rows
    )


def _rounds(jobs: Sequence[tuple[str, StepCase]], options: argparse.Namespace) -> list[Pooled]:
    cut = {"steps": 8, "epochs": 1} if options.quick else {}
    pooled = [Pooled() for _ in jobs]
    for _ in range(options.rounds):
        for (library, case), into in zip(jobs, pooled, strict=True):
            asked = asdict(replace(case, threads=options.threads, **cut))
            steps = (1, 1) if options.quick else RIVAL_STEPS.get(library, (0, 0))
            into.rounds.append(_in_process({"library": library, "case": asked, "steps": steps}))
    return pooled


def _in_process(job: dict) -> StepTimes:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.train_step", "--child", json.dumps(job)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(job["case"]["threads"])}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if answer.returncode:
        raise SystemExit(f"{job['case']['label']} failed:\n{answer.stderr[-3000:]}")
    values = json.loads(answer.stdout.splitlines()[-1])
    lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
    return StepTimes(**{**values, **lists})


def _measure_here(job: dict) -> StepTimes:
    case = StepCase(**job["case"])
    if job["library"]:
        return rivals.measure(job["library"], case, *job["steps"])
    return measure(case)


def _table(header: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    header = list(header)
    print("| " + " | ".join(header) + " |")
    print("|---" + "|--:" * (len(header) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print()


if __name__ == "__main__":
    main()
