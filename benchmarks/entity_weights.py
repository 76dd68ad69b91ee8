"""Do weights of their own per asset help the identified VSN, or cost it?

``python -m benchmarks.entity_weights`` trains the product's loop on the planted fixture, on the
same minibatches with static weights and with weights by asset, in two worlds: in ``shared`` all
assets have the same six true features and clones, in ``split`` the true columns and twelve of
noise have changed places in two of the five assets. The AUC is each asset's own weight against
its own true features, mean over assets.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.planted import N_ASSETS, N_TRUE, NETWORK, auc, planted_rows
from benchmarks.selection import FOLD_ENDS, GAP, TEST_DAYS, TRAINING, split, test_sharpe
from tft_core.sequences import RowTable
from tft_core.training.loop import MemberResult, train_member

N_FEATURES, END = 60, FOLD_ENDS[-1]
SWAPPED_ASSETS = 2
CLOSED = 1e-5
"""A share of the output that is as good as none."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="file of finished runs")
    parser.add_argument("--worlds", nargs="+", default=["shared", "split"])
    parser.add_argument("--ranges", type=float, nargs="+", default=[0.0, 1.0], help="ρ")
    parser.add_argument("--ic", type=float, default=0.10)
    parser.add_argument("--first-data", type=int, default=400)
    parser.add_argument("--data-sets", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    done = read(options.state)
    for run in runs(options):
        key = {name: run[name] for name in KEY}
        if any(all(line[k] == v for k, v in key.items()) for line in done):
            continue
        started = time.process_time()
        line = {**key, **outcome(run), "cpu_s": time.process_time() - started}
        with options.state.open("a") as file:
            file.write(json.dumps(line) + "\n")
        done.append(line)
        print({k: v for k, v in line.items() if k != "weights"}, flush=True)
    print_tables(done)


KEY = ("world", "ic", "data", "range", "seed")


def runs(options: argparse.Namespace) -> Iterator[dict]:
    """Pair by pair, so that a run that is stopped can be read."""
    for data in range(options.first_data, options.first_data + options.data_sets):
        rows = planted_rows(data, N_FEATURES, options.ic, END + GAP + TEST_DAYS)
        worlds = {"shared": rows, "split": swapped(rows)}
        for seed, world in product(range(options.seeds), options.worlds):
            for entity_range in options.ranges:
                yield {
                    "world": world,
                    "ic": options.ic,
                    "data": data,
                    "range": entity_range,
                    "seed": seed,
                    "rows": worlds[world],
                }


def swapped(rows: RowTable) -> RowTable:
    """The true columns and as many of noise change places in the first assets."""
    features, own = rows.features.copy(), rows.asset_id < SWAPPED_ASSETS
    features[own, :N_TRUE] = rows.features[own, N_TRUE : 2 * N_TRUE]
    features[own, N_TRUE : 2 * N_TRUE] = rows.features[own, :N_TRUE]
    return rows.with_features(features, rows.feature_names)


def truth(world: str) -> np.ndarray:
    """[asset, feature]: what carries each asset's next return."""
    column = np.arange(N_FEATURES)
    is_true = np.tile(column < N_TRUE, (N_ASSETS, 1))
    if world == "split":
        is_true[:SWAPPED_ASSETS] = (column >= N_TRUE) & (column < 2 * N_TRUE)
    return is_true


def outcome(run: dict) -> dict:
    """One training: its weights per asset, their AUC, and what it earns afterwards."""
    rows = run["rows"]
    model = replace(NETWORK, n_features=N_FEATURES, vsn_entity_range=run["range"])
    result = train_member(rows, *split(rows, END), model, TRAINING, run["seed"])
    weights = weights_by_asset(result)
    own = weights[:, weights.mean(axis=0) > CLOSED]
    return {
        "auc": mean_auc(weights, run["world"]),
        "sharpe": test_sharpe(rows, [result]),
        "val_sharpe": result.val_sharpe,
        "alive": own.shape[1],
        "deviation": float(np.abs(own / own.mean(axis=0) - 1.0).mean()),
        "steps": result.optimiser_steps,
        "weights": weights.round(6).tolist(),
    }


@torch.no_grad()
def weights_by_asset(result: MemberResult) -> np.ndarray:
    """[asset, feature]"""
    member, group = result.member, torch.arange(N_ASSETS)
    side = member.embedding(group + 1)
    x = torch.zeros(N_ASSETS, N_FEATURES)
    return member.main_selection.weights(x, group, side).double().numpy()


def mean_auc(weights: np.ndarray, world: str) -> float:
    pairs = zip(weights, truth(world), strict=True)
    return float(np.mean([auc(weight, is_true) for weight, is_true in pairs]))


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def print_tables(done: list[dict]) -> None:
    """Means over data sets of the seeds' means, and the paired differences from static weights."""
    frame, by = pd.DataFrame(done), ["world", "ic", "range"]
    groups = frame.groupby([*by, "data"])
    told = groups[["auc", "sharpe", "alive", "deviation", "cpu_s"]].mean()
    told["auc_of_mean"] = [
        mean_auc(np.mean([np.array(w) for w in part["weights"]], axis=0), str(key[0]))
        for key, part in groups
    ]
    told["runs"] = groups["seed"].count()
    print(told.groupby(level=by).agg(["mean", "sem"]).round(3).T.to_string())
    static = told.xs(0.0, level="range")
    for name, own in told.drop(0.0, level="range").groupby(level="range"):
        gain = (own.droplevel("range") - static)[["auc", "auc_of_mean", "sharpe"]].dropna()
        print(f"range {name} minus static, paired: mean, standard error, data sets")
        print(
            gain.groupby(level=["world", "ic"]).agg(["mean", "sem", "count"]).round(3).to_string()
        )


if __name__ == "__main__":
    main()
