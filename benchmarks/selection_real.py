"""What survives the selection on real data, and whether the folds agree.

``python -m benchmarks.selection_real`` builds the configuration in force up to the stability
reports ($TFT_CONFIG, $TFT_PROFILE, $TFT_HOME say which; the data must have been ingested) and
prints a row per fold. What is there already is kept, so it goes on after a kill. The page of each
fold lies beside its report; the last line names the newest.
"""

import time

import pandas as pd
import torch

from tft_core.config import load_settings
from tft_core.schema import LIVE_FOLD
from tft_core.training_pipeline.graph import SPECS, keys_of
from tft_core.training_pipeline.workspace import Workspace

ASSETS = (
    "market_data",
    "mega_features",
    "prefiltered_features",
    "exploration_fold",
    "vsn_stability_report",
)


def build(workspace: Workspace) -> None:
    """Everything that the reports need, in order."""
    for asset in ASSETS:
        for key in keys_of(SPECS[asset], workspace.plan):
            if not workspace.is_fresh(asset, key):
                started = time.perf_counter()
                workspace.build(asset, key)
                print(f"{asset} {key}: {time.perf_counter() - started:.0f} s", flush=True)


def funnel(workspace: Workspace) -> pd.DataFrame:
    """Fold × what each step left and how far runs agree."""
    rows = {}
    for key in keys_of(SPECS["vsn_stability_report"], workspace.plan):
        kept = workspace.artifacts.read("prefiltered_features", key).summary
        artifact = workspace.artifacts.read("vsn_stability_report", key)
        told, report = artifact.summary, artifact.json("report.json")
        seeds, folds = report["agreement"]["seeds_within_fold"], report["agreement"]["folds"]
        rows[key] = {
            "features": kept["n_features"],
            "low coverage": kept["n_low_coverage"],
            "constant": kept["n_constant"],
            "correlated": kept["n_correlated"],
            "pre-filtered": kept["n_kept"],
            "plan's rule": told["n_stable_plan_rule"],
            "pass ours": report["statistics"]["n_passing"],
            "recommended": told["n_recommended"],
            "flagged": told["n_flagged"],
            "verdict": told["verdict"],
            "p of chance": report["statistics"]["chance_p_value"],
            "Spearman weight-permutation": report["statistics"]["weight_permutation_spearman"],
            "τ, Φ of seeds": _pair(seeds),
            "τ, Φ of folds": _pair(folds),
        }
    return pd.DataFrame(rows).T


def _pair(agreement: dict[str, float | None]) -> str:
    told = (agreement.get("kendall"), agreement.get("nogueira"))
    return ", ".join("–" if value is None else f"{value:.2f}" for value in told)


def main() -> None:
    torch.set_num_threads(1)
    workspace = Workspace.open(load_settings())
    build(workspace)
    print(funnel(workspace).to_markdown())
    report = workspace.artifacts.read("vsn_stability_report", LIVE_FOLD)
    print(report.summary["sentence"])
    table = report.frame("table_features.parquet")
    print(table[["feature", "group", "weight", "lift", "q_value", "passes"]].head(15).to_markdown())
    print(report.path / "stability.html")


if __name__ == "__main__":
    main()
