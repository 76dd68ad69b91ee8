"""Tuned against default on long futures history: does the search earn anything, with what error?

    python -m benchmarks.futures prepare BARS.parquet INSTRUMENTS.csv panel.npz
    python -m benchmarks.futures_tuned run panel.npz RESULTS.parquet --trials 40 --device cuda
    python -m benchmarks.futures_tuned report RESULTS.parquet [RESULTS.parquet …]

For each five-year window a study on the newest inner windows of its training dates chooses the
parameters; then default and tuned are trained alike and walked through it. What a window ships
is decided by the windows before it (``evidence.choose_path``).
"""

import argparse
import time
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.futures import (
    PURGE_DATES,
    SLOW,
    TESTS,
    VARIANTS,
    WIDE,
    Panel,
    Variant,
    test_dates,
    traded,
    walk,
)
from tft_core.evidence import choose_path, record_evidence, search_evidence
from tft_core.hp_tuner import DailyRecord, HPTuner, SearchSpace, TunerConfig, tunable_defaults
from tft_core.metrics import sharpe_ann, sharpe_se_ann
from tft_core.models.config import XTrendConfig
from tft_core.models.rivals import rival
from tft_core.positions import portfolio_returns
from tft_core.training.config import TrainingConfig

DEFAULT = "vsn_lstm"
"""The variant that did best untuned (docs/EXPERIMENTS.md) is the default to beat."""
SPACE: dict[str, Any] = {
    "d_hidden": [32, 64, 128],
    "dropout": [0.1, 0.2, 0.3, 0.4, 0.5],
    "lstm_layers": [1, 2],
    "lr": {"low": 3e-4, "high": 3e-3, "log": True},
    "batch_size": [32, 64, 128],
    "cost_factor": {"low": 0.0, "high": 1.0},
    "position_smooth": {"low": 0.03, "high": 0.5},
}
INNER_DATES = 252


@dataclass(frozen=True)
class Budget:
    """What one study and one training may spend."""

    trials: int
    folds: int
    inner_epochs: int
    epochs: int
    seeds: int
    device: str
    threads: int
    batch_size: int
    hours: float


@dataclass(frozen=True)
class Objective:
    """Trains on one inner window and walks it; plain data, for worker processes."""

    path: Path
    test: str
    budget: Budget
    space: SearchSpace = field(hash=False)

    @cached_property
    def panel(self) -> Panel:
        return Panel.read(self.path)

    def __call__(self, params: dict[str, Any], fold: int, seed: int) -> DailyRecord:
        budget, boundary = self.budget, int(test_dates(self.panel, self.test)[0]) - PURGE_DATES
        first = boundary - (budget.folds - fold) * INNER_DATES
        inside = np.arange(first, first + INNER_DATES)
        variant = with_params(self.space, params)
        z, info = walk(
            self.panel, variant, inside, budget.device, budget.inner_epochs, 1, budget.threads,
            {"batch_size": budget.batch_size}, f"study {self.test} fold {fold}", seed,
        )  # fmt: skip
        stop = int(inside[-1]) + 1
        net = net_of(self.panel, z, variant, first, stop)
        return DailyRecord(self.panel.dates[first : first + len(net)], net, info["steps"])


def build_objective(path: Path, test: str, budget: Budget, space: SearchSpace) -> Objective:
    return Objective(path, test, budget, space)


def default_space(panel: Panel, budget: Budget) -> SearchSpace:
    """The space, with the default variant's own values as the default configuration."""
    features = sum(not name.startswith(WIDE) for name in panel.names)
    paper = XTrendConfig.paper(n_features=features, n_assets=len(panel.symbols))
    model = rival(VARIANTS[DEFAULT].is_rival, paper)
    training = TrainingConfig(**{"batch_size": budget.batch_size, **VARIANTS[DEFAULT].training})
    return SearchSpace.from_table(SPACE, tunable_defaults(model, training, SLOW))


def with_params(space: SearchSpace, params: dict[str, Any]) -> Variant:
    split, base = space.split(params), VARIANTS[DEFAULT]
    return replace(
        base,
        model={**base.model, **split.model},
        training={**base.training, **split.training},
        positions=replace(base.positions, **split.positions),
    )


def net_of(
    panel: Panel, z: np.ndarray, variant: Variant, start: int, stop: int | None = None
) -> np.ndarray:
    """Daily net returns of raw outputs, at each instrument's own cost."""
    weights, labels, inside = traded(panel, z, variant.positions, start, stop)
    return portfolio_returns(weights, labels, np.nan_to_num(panel.cost_rate[inside])).net


def run(path: Path, target: Path, budget: Budget, tests: tuple[str, ...]) -> None:
    """Study, train and walk each window; rewrites ``target`` after every one."""
    panel = Panel.read(path)
    space = default_space(panel, budget)
    done: list[pd.DataFrame] = []
    for test in tests:
        started = time.perf_counter()
        config = TunerConfig(
            n_trials=budget.trials, n_folds_per_trial=budget.folds, pretrain_epochs=0,
            finetune_epochs=budget.inner_epochs, inner_test_sessions=INNER_DATES, space=SPACE,
            timeout_seconds=budget.hours * 3600.0,
        )  # fmt: skip
        tuner = HPTuner(
            config, partial(build_objective, path, test, budget, space),
            f"sqlite:///{target.with_suffix('.db').resolve()}", f"futures-{test}",
            defaults=space.defaults, identity={"panel": path.stat().st_size, "default": DEFAULT},
        )  # fmt: skip
        study = tuner.tune(
            lambda number, total, value, best, test=test: print(
                f"{test}: trial {number + 1} of {total}, {value:.2f}, best {best:.2f}", flush=True
            )
        )
        study.daily.set_axis(study.daily.columns.astype(str), axis=1).to_parquet(
            trials_file(target, test)
        )
        print(test, study.budget.sentence, study.best_params, sep="\n  ", flush=True)
        inside = test_dates(panel, test)
        for name, params in (("default", study.default_params), ("tuned", study.best_params)):
            if name == "tuned" and params == study.default_params:  # the same model
                done.append(done[-1].assign(path="tuned"))
                continue
            variant = with_params(space, params)
            z, info = walk(
                panel, variant, inside, budget.device, budget.epochs, budget.seeds,
                budget.threads, {"batch_size": budget.batch_size}, f"{name} {test}",
            )  # fmt: skip
            net = net_of(panel, z, variant, int(inside[0]), int(inside[-1]) + 1)
            done.append(
                pd.DataFrame(
                    {
                        "date": panel.dates[inside[0] : inside[0] + len(net)],
                        "path": name,
                        "net": net,
                        "test": test,
                        "params": str(params),
                        "trials": study.n_finished,
                        "pruned": study.n_pruned,
                        "best": study.best_number,
                        **info,
                    }
                )
            )
        pd.concat(done, ignore_index=True).to_parquet(target, compression="zstd")
        print(f"{test}: {time.perf_counter() - started:.0f} s", flush=True)


def trials_file(results: Path, test: str) -> Path:
    """Where the trials' daily net returns of one study lie: day × number of the trial."""
    return results.with_suffix(f".{test}.parquet")


def report(results: list[Path]) -> str:
    """Markdown: both pure paths and the shipped one by window, and what may be said of them.

    Args:
        results: Files of runs that walked different windows.
    """
    frame = pd.concat([pd.read_parquet(path).assign(file=str(path)) for path in results])
    frame = frame.sort_values("test", kind="stable")
    wide = {
        str(test): part.pivot(index="date", columns="path", values="net")
        for test, part in frame.groupby("test")
    }
    rows, shipped, searches = {}, [], []
    for position, (test, paths) in enumerate(wide.items()):
        path = choose_path(list(wide.values())[:position])
        shipped.append(paths[path])
        one = frame[frame["test"] == test].iloc[0]
        daily = pd.read_parquet(trials_file(Path(one["file"]), test))
        worth = search_evidence(daily.set_axis(daily.columns.astype(int), axis=1), one["best"])
        searches.append(f"- {test}: {' '.join(worth.sentences)}")
        rows[test] = {
            "ships": path,
            "trials": f"{one['trials']}, {one['pruned']} pruned",
            **{
                name: f"{sharpe_ann(paths[name].to_numpy()):.2f} ± "
                f"{sharpe_se_ann(paths[name].to_numpy()):.2f}"
                for name in ("default", "tuned")
            },
        }
    every = pd.concat(wide.values()).assign(shipped=pd.concat(shipped))
    evidence = record_evidence(every[["shipped", "tuned", "default"]])
    chosen = frame[frame["path"] == "tuned"].drop_duplicates("test").set_index("test")["params"]
    return "\n\n".join(
        [
            pd.DataFrame(rows).T.to_markdown(),
            "\n".join(searches),
            "\n".join(f"- {test}: {params}" for test, params in chosen.items()),
            *evidence.sentences,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sub = parser.add_subparsers(dest="action", required=True)
    step = sub.add_parser("run")
    step.add_argument("panel", type=Path)
    step.add_argument("target", type=Path)
    step.add_argument("--tests", nargs="+", choices=TESTS, default=list(TESTS))
    step.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    for name, value in (
        ("trials", 40), ("folds", 3), ("inner-epochs", 10), ("epochs", 25), ("seeds", 2),
        ("threads", 2), ("batch-size", 64),
    ):  # fmt: skip
        step.add_argument(f"--{name}", type=int, default=value)
    step.add_argument("--hours", type=float, default=4.0, help="wall time of one study")
    step = sub.add_parser("report")
    step.add_argument("results", type=Path, nargs="+")
    given = vars(parser.parse_args())
    if given.pop("action") == "report":
        print(report(given["results"]))
        return
    path, target, tests = given.pop("panel"), given.pop("target"), tuple(given.pop("tests"))
    run(path, target, Budget(**given), tests)


if __name__ == "__main__":
    main()
