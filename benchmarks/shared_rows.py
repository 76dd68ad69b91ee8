"""Do minibatches of neighbouring windows, which share rows, cost skill or selection?

A minibatch keeps ``run`` neighbouring windows of an asset together. The longer the runs, the
more rows windows share and the fewer are encoded, and the fewer different assets and dates a
minibatch sees. Paired: each data set and seed is trained once with every length of a run.
``python -m benchmarks.shared_rows --first 0 --data-sets 24`` trains and appends to ``--state``
(several processes may share one); ``--table`` prints what is there.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

from benchmarks.planted import BETA, N_TRUE, NETWORK, auc, planted_rows
from benchmarks.selection import TRAINING
from tft_core.models.ensemble import Ensemble
from tft_core.models.variable_selection import IdentifiedSelection
from tft_core.sequences import minibatches
from tft_core.training import loop
from tft_core.training.evaluation import diversified_sharpe

RUNS = (1, 4, 8)
N_FEATURES, GAP = 60, 10


@dataclass(frozen=True, slots=True)
class Panel:
    """What is traded. So many days to fit that 16 steps an epoch have 32 windows each."""

    n_assets: int
    common: float
    fit_days: int
    validation_days: int
    test_days: int


PANELS = {
    "5 assets": Panel(5, 0.0, 2150, 350, 2500),
    "30 assets, half of the noise in common": Panel(30, 0.5, 360, 120, 1500),
}
IS_TRUE = np.arange(N_FEATURES) < N_TRUE


@dataclass(frozen=True, slots=True)
class Outcome:
    """One network."""

    data_set: int
    panel: str
    ic: float
    run: int
    sharpe: float
    """Gross, diversified, annualised, on the test days."""
    auc: float
    """Of the selection weights: a true feature or clone above a noise feature."""
    separated: bool
    """The weakest pair of planted feature and clone outweighs the strongest noise feature."""
    noise_share: float
    """Share of all selection weight that lies on noise."""
    steps: int
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, default=Path("shared_rows.jsonl"))
    parser.add_argument("--first", type=int, default=0, help="first data set")
    parser.add_argument("--data-sets", type=int, default=24)
    parser.add_argument("--panel", choices=PANELS, default="5 assets")
    parser.add_argument("--ic", type=float, nargs="+", default=[0.10, 0.05])
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
    options = parser.parse_args()
    if not options.table:
        for outcome in outcomes(options):
            with options.state.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
    print(table(pd.read_json(options.state, lines=True)))


def outcomes(options: argparse.Namespace) -> Iterator[Outcome]:
    numbers = range(options.first, options.first + options.data_sets)
    for data_set, ic, run in product(numbers, options.ic, RUNS):
        yield trained(data_set, options.panel, ic, run)


def trained(data_set: int, panel: str, ic: float, run: int) -> Outcome:
    """One training on one data set."""
    started = time.process_time()
    size = PANELS[panel]
    fit_to, validate_to = size.fit_days, size.fit_days + size.validation_days
    test_from = validate_to + GAP
    rows = planted_rows(
        data_set,
        N_FEATURES,
        ic,
        test_from + size.test_days,
        n_assets=size.n_assets,
        common=size.common,
    )
    day, known = rows.date_index, rows.can_bear_loss
    fit = (day < fit_to - 2) & known
    validation = (day >= fit_to) & (day < validate_to - 2) & known
    model = replace(NETWORK, n_features=N_FEATURES, n_assets=size.n_assets)
    with patch.object(loop, "minibatches", partial(minibatches, run_length=run)):
        result = loop.train_member(rows, fit, validation, model, TRAINING, data_set)
    selection = result.member.main_selection
    assert isinstance(selection, IdentifiedSelection)
    weight = selection.static_weights().numpy()
    pair = np.maximum(weight[: len(BETA)], weight[len(BETA) : N_TRUE])
    at = np.flatnonzero((day >= test_from) & known)
    z = Ensemble(model, [result.member], [None]).predict(rows, at).z
    return Outcome(
        data_set=data_set,
        panel=panel,
        ic=ic,
        run=run,
        sharpe=diversified_sharpe(rows, at, z),
        auc=auc(weight, IS_TRUE),
        separated=bool(pair.min() > weight[N_TRUE:].max()),
        noise_share=float(weight[N_TRUE:].sum()),
        steps=result.optimiser_steps,
        cpu_s=time.process_time() - started,
    )


def table(found: pd.DataFrame) -> str:
    """Means ± standard errors over data sets, and differences to runs of one, paired."""
    lines = [
        "| panel | IC | run | sets | Sharpe | paired | AUC | paired | separated | noise | paired |",
        "|---" + "|--:" * 10 + "|",
    ]
    for (panel, ic), part in found.groupby(["panel", "ic"]):
        wide = part.drop_duplicates(["data_set", "run"]).pivot(index="data_set", columns="run")
        wide = wide.dropna()
        for run in RUNS:
            cells = [str(panel), f"{ic:.2f}", str(run), str(len(wide))]
            for name in ("sharpe", "auc", "noise_share"):
                values = wide[name].astype(float)
                if name == "noise_share":
                    cells.append(f"{int(wide['separated'][run].sum())}")
                cells += [_mean(values[run]), "–" if run == 1 else _mean(values[run] - values[1])]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(values: pd.Series) -> str:
    return f"{values.mean():+.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


if __name__ == "__main__":
    main()
