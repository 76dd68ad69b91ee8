"""How often the drift guards stop a night for nothing, and what they find: two Markdown tables.

``python -m benchmarks.drift [--futures PATH]`` builds all features of the bundled sample (or of
the futures), takes training quantiles from the years before each January, and asks the guards
on the sessions of the year after as serving would, 63 sessions at a time. Then the same newest rows
with something broken in them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tft_core.data.panel import MarketPanel
from tft_core.data.sample import sample_bars
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.panel import FeaturePanel
from tft_core.inference import ServingConfig
from tft_core.inference.drift import drift_by_session
from tft_core.training_pipeline.phases.production import feature_quantiles

LIMITS = ServingConfig()
BREAKS = {
    "every feature's sign turned": lambda x, rng: -x,
    "columns one place to the right": lambda x, rng: np.roll(x, 1, axis=2),
    "columns in a random order": lambda x, rng: x[:, :, rng.permutation(x.shape[2])],
    "features 5 times as large": lambda x, rng: 5.0 * x,
    "features 5 times as small": lambda x, rng: x / 5.0,
    "shifted by one deviation": lambda x, rng: x + deviations(x),
    "frozen at the first row": lambda x, rng: np.repeat(x[:1], len(x), axis=0),
    "assets exchanged": lambda x, rng: x[:, rng.permutation(x.shape[1])],
}


def deviations(values: np.ndarray) -> np.ndarray:
    """Of each feature over time and assets; NaN for one that is never known."""
    flat = values.reshape(-1, values.shape[-1])
    known = np.isfinite(flat).any(axis=0)
    out = np.full(flat.shape[1], np.nan)
    out[known] = np.nanstd(flat[:, known], axis=0)
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--futures", type=Path, help="bars.parquet instead of the sample")
    parser.add_argument("--every", type=int, default=5, help="sessions between two questions")
    parser.add_argument("--years", type=int, default=5, help="of training")
    parser.add_argument("--since", type=int, default=0, help="year of the first bar read")
    options = parser.parse_args(arguments)
    bars = sample_bars() if options.futures is None else pd.read_parquet(options.futures)
    panel = features(bars[pd.DatetimeIndex(bars["date"]).year >= options.since])
    years = range(panel.dates[0].year + options.years + 1, panel.dates[-1].year + 1)
    rng = np.random.default_rng(0)
    quiet: list[np.ndarray] = []
    broken: dict[str, list[np.ndarray]] = {name: [] for name in BREAKS}
    for year in years:
        start = pd.Timestamp(year, 1, 1)
        training = panel.between(start - pd.DateOffset(years=options.years), start)
        table = feature_quantiles(training.values[training.has_session], panel.feature_names)
        edges = np.array([table[name] for name in panel.feature_names], dtype=np.float64)
        inside = np.flatnonzero((panel.dates >= start) & (panel.dates.year == year))
        asked = inside[:: options.every]
        quiet.append(medians(panel.values, edges, asked))
        for name, breaks in BREAKS.items():
            for row in asked[:: max(1, len(asked) // 4)]:
                newest = panel.values[row - LIMITS.drift_sessions + 1 : row + 1]
                newest = breaks(newest, rng).astype(np.float32)
                broken[name].append(medians(newest, edges, np.array([len(newest) - 1])))
    print(f"trained on {options.years} years")
    show(np.concatenate(quiet), {name: np.concatenate(made) for name, made in broken.items()})


def features(bars: pd.DataFrame) -> FeaturePanel:
    symbols = tuple(sorted(bars["symbol"].unique()))
    for name in ("open", "high", "low", "volume", "open_interest"):
        if name not in bars:
            bars = bars.assign(**{name: np.nan})
    return MegaFeatureBuilder().build_panel(MarketPanel.from_bars(bars, symbols))


def medians(values: np.ndarray, edges: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[session, 2]: median over the features of the stability index and of the KS distance."""
    drift = drift_by_session(values, edges, rows, LIMITS.drift_sessions)
    return np.stack([np.nanmedian(drift.psi, axis=1), np.nanmedian(drift.ks, axis=1)], axis=1)


def show(quiet: np.ndarray, broken: dict[str, np.ndarray]) -> None:
    limits = LIMITS.max_drift_psi, LIMITS.max_drift_ks
    print(f"{len(quiet)} sessions as they were\n")
    print("| median over features | 50 % | 95 % | 99 % | largest | limit | nights stopped |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for column, name, limit in zip((0, 1), ("stability index", "KS distance"), limits, strict=True):
        figures = quiet[:, column]
        cuts = " | ".join(f"{q:.2f}" for q in np.quantile(figures, [0.5, 0.95, 0.99, 1.0]))
        print(f"| {name} | {cuts} | {limit:g} | {np.mean(figures > limit):.2%} |")
    print("\n| broken | index, median | KS, median | found by index | by KS | by either |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, made in broken.items():
        found = made > limits
        rates = " | ".join(
            f"{rate:.0%}" for rate in (*found.mean(axis=0), found.any(axis=1).mean())
        )
        middle = " | ".join(f"{x:.2f}" for x in np.median(made, axis=0))
        print(f"| {name} ({len(made)}) | {middle} | {rates} |")


if __name__ == "__main__":
    main()
