"""Where the time of the lifecycle goes, on the bundled sample: ``make bench``.

Prints one table: features of all history and of the last day, one training epoch of the demo
network, one prediction and a batch of them.
"""

import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tft_core.config import load_settings
from tft_core.data.sample import load_sample
from tft_core.data.store import MarketDataStore
from tft_core.data.universe import Universe, UniverseConfig
from tft_core.features.as_known import session_risk, wealth
from tft_core.features.builder import FeatureConfig, MegaFeatureBuilder
from tft_core.features.normalization import Scaler
from tft_core.models.config import XTrendConfig
from tft_core.sequences import RowTable
from tft_core.training.config import TrainingConfig
from tft_core.training.walk_forward import train_ensemble

REPEATS = 3


def main() -> None:
    settings = load_settings(profile="demo")
    universe_config = settings.build(UniverseConfig, "universe")
    builder = MegaFeatureBuilder(settings.build(FeatureConfig, "features"), universe_config)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as home, MarketDataStore(Path(home) / "m.duckdb") as store:
        show("load the sample", lambda: load_sample(store), repeats=1)
        symbols = Universe.resolve(universe_config, store.symbols()).symbols
        last = store.last_session()
        show("292 features, all history", lambda: builder.build(store, symbols), repeats=1)
        show("292 features, last day", lambda: builder.build(store, symbols, start=last))
        start = store.history_start(symbols, last, 900)
        panel = builder.build(store, symbols, start=start)
        risk = session_risk(store, symbols, start, last)
    offset = risk.dates.get_indexer(panel.dates)
    returns, sigma = risk.returns[offset], risk.sigma_daily[offset]
    scaler = Scaler.fit(panel.values[np.isfinite(returns)])
    rows = RowTable.build(panel, wealth(returns), sigma, np.full_like(sigma, 1e-4), scaler)
    model = settings.build(
        XTrendConfig, "model", n_features=rows.n_features, n_assets=len(rows.symbols)
    )
    training = settings.build(TrainingConfig, "training", pretrain_epochs=0, finetune_epochs=1)
    split = rows.dates[int(len(rows.dates) * 0.8)]
    early = rows.between(None, split) & rows.can_bear_loss
    late = rows.between(split, None) & rows.can_bear_loss

    def train():
        return train_ensemble(
            rows, early, late, early | late, model, training, seeds=[1], refit=False
        )

    show(f"one epoch, {int(early.sum())} rows × {rows.n_features} features", train)
    ensemble = train().ensemble
    newest = np.flatnonzero(rows.date_index == len(rows.dates) - 1)
    batch = np.flatnonzero(rows.date_index >= len(rows.dates) - 250)
    show(f"outputs of {len(newest)} assets", lambda: ensemble.predict(rows, newest))
    show(f"outputs of {len(batch)} asset days", lambda: ensemble.predict(rows, batch))


def show(label: str, work: Callable[[], object], repeats: int = REPEATS) -> None:
    """Print the least wall time of a few repeats, in milliseconds."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    print(f"{label:<48} {min(seconds) * 1e3:10.1f} ms")


if __name__ == "__main__":
    main()
