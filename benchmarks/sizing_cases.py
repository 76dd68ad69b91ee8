"""What ``benchmarks.sizing`` measures, each case in a process whose peak memory is its own.

    python -m benchmarks.sizing_cases CASE ASSETS YEARS HOME

The last line printed is the case's figures as JSON. The cases of one number of assets share a
state directory: ``store`` fills it, the others read what was made before them.
"""

import argparse
import json
import resource
import time
from datetime import date
from pathlib import Path
from typing import Any

START = date(2010, 1, 4)
INPUTS = 210
"""Features that a network reads at most: what a pre-filter keeps of 292."""
SEQ_LEN, WARMUP = 42, 21
MIN_STEPS = 16
TRY_YEARS = 2
"""History of a try: enough to see that it works."""


def measure_store(assets: int, years: int, home: Path) -> dict[str, Any]:
    """Ingest of synthetic bars; the later cases of these assets read them."""
    from tft_core.data.store import MarketDataStore
    from tft_core.data.synthetic import synthetic_market

    settings = synthetic_settings(assets, years, home)
    bars = synthetic_market(assets, years * 261, seed=1, start=START)
    wall, cpu = time.perf_counter(), time.process_time()
    with MarketDataStore(settings.store_path) as store:
        store.ingest(bars)
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "store_mb": settings.store_path.stat().st_size / 1e6,
    }


def measure_features(assets: int, years: int, home: Path) -> dict[str, Any]:
    """One partition with all the history, as Dagster or ``tft run`` makes it."""
    from tft_core.training_pipeline import Workspace

    workspace = Workspace.open(synthetic_settings(assets, years, home))
    key, base = workspace.plan.keys[0], peak_gb()
    wall, cpu = time.perf_counter(), time.process_time()
    workspace.build("market_data", key)
    made = workspace.build("mega_features", key)
    return {
        "rows": made.summary["n_rows"],
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "base_gb": base,
        "peak_gb": peak_gb(),
        "features_mb": made.file("features.parquet").stat().st_size / 1e6,
        "other_mb": sum(made.file(n).stat().st_size for n in made.files if n[:9] != "features.")
        / 1e6,
    }


def measure_rows(assets: int, years: int, home: Path) -> dict[str, Any]:
    """What a fold does before its first step: read partitions, fit the scaler, lay out rows."""
    from tft_core.folds import FoldConfig
    from tft_core.training_pipeline import Workspace
    from tft_core.training_pipeline.rows import load_training_data, training_rows

    workspace = Workspace.open(synthetic_settings(assets, years, home))
    key = workspace.plan.keys[0]
    features = workspace.builder().feature_names[:INPUTS]
    base = peak_gb()
    wall, cpu = time.perf_counter(), time.process_time()
    data = load_training_data(workspace, key, features)
    config = workspace.settings.build(FoldConfig, "folds")
    made = training_rows(data, workspace.plan.fold(key), config, features)
    return {
        "rows": len(made.rows),
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "base_gb": base,
        "peak_gb": peak_gb(),
        "table_mb": made.rows.features.nbytes / 1e6,
    }


def measure_step(assets: int, years: int, home: Path) -> dict[str, Any]:
    """Training steps of the plan's network with 16 contexts, and the size of its weights.

    On noise, so history doesn't matter: two years mean a try, of few steps.
    """
    from benchmarks.measure import StepCase, measure
    from tft_core.models.backbone import XTrendBackbone

    case = StepCase(
        label="",
        n_features=INPUTS,
        n_context=16,
        seq_len=SEQ_LEN,
        n_assets=assets,
        steps=MIN_STEPS if years > TRY_YEARS else 2,
        threads=1,  # as folds and trials side by side have it: a step's time is a core's time
    )
    seen = measure(case)
    model = XTrendBackbone(case.model(), [f"f{i:03d}" for i in range(INPUTS)])
    return {
        "step_ms": min(seen.step_ms),
        "cpu_ms": min(seen.cpu_ms),
        "windows": seen.windows_per_step,
        "weights_mb": sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6,
    }


CASES = {
    "store": measure_store,
    "features": measure_features,
    "rows": measure_rows,
    "step": measure_step,
}


def synthetic_settings(assets: int, years: int, home: Path) -> Any:
    """The first window begins where the bars end, so its partition holds all of them."""
    from tft_core.config import Settings
    from tft_core.data.synthetic import synthetic_market

    symbols = sorted(synthetic_market(assets, 2, seed=1, start=START)["symbol"].unique())
    sections = {
        "universe": {"members": [{"symbols": symbols}]},
        "folds": {"anchor": date(START.year + years, 1, 4), "test_length": "12M", "n_windows": 2},
    }
    return Settings(path=None, profile="sizing", home=home, sections=sections)


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=tuple(CASES))
    parser.add_argument("assets", type=int)
    parser.add_argument("years", type=int)
    parser.add_argument("home", type=Path)
    given = parser.parse_args()
    print(json.dumps(CASES[given.case](given.assets, given.years, given.home)))


if __name__ == "__main__":
    main()
