"""The smallest lifecycle that has every part: four synthetic assets, three windows, tiny nets."""

from datetime import date
from pathlib import Path

import pandas as pd

from tft_core.config import Settings
from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market

SYMBOLS = ("S00", "S01", "S02", "S03")
ANCHOR = date(2018, 1, 1)

SECTIONS = {
    "universe": {"members": [{"symbols": list(SYMBOLS)}]},
    "folds": {
        "anchor": ANCHOR,
        "test_length": "3M",
        "n_windows": 3,
        "purge_sessions": 5,
        "train_length": "12M",
        "min_train_sessions": 100,
    },
    "features": {"groups": ["ret", "paper", "vol", "xs"]},
    "selection": {"final_min_features": 5, "final_max_features": 20},
    "exploration": {
        "n_seeds": 1,
        "pretrain_epochs": 0,
        "finetune_epochs": 1,
        "n_shadows": 8,
        "permutation_windows": 16,
        "ig_windows": 4,
    },
    "model": {
        "d_hidden": 8,
        "n_heads": 2,
        "lstm_layers": 1,
        "seq_len": 12,
        "warmup": 4,
        "ctx_len": 8,
        "n_context": 2,
        "vsn_hidden": 2,
        "vsn_penalty": 0.1,
    },
    "training": {
        "pretrain_epochs": 1,
        "finetune_epochs": 2,
        "n_seeds": 2,
        "threads": 1,
        "batch_size": 16,
        "lr": 3e-3,
    },
    "tuning": {
        "n_trials": 2,
        "n_folds_per_trial": 2,
        "inner_test_sessions": 25,
        "pretrain_epochs": 0,
        "finetune_epochs": 1,
        "space": {"dropout": {"low": 0.05, "high": 0.2}, "max_position": [0.2, 0.25]},
    },
    "positions": {"max_position": 0.25},
    "gate": {"min_oos_days": 30, "min_sharpe_net": -20.0, "max_drawdown_limit": 0.9},
    # two epochs make members that disagree
    "serving": {"max_drift_psi": 50.0, "min_coverage": 0.0, "max_disagreement": 2.0},
    "operations": {"first_session": ANCHOR},
}


def tiny_settings(home: Path) -> Settings:
    return Settings(path=None, profile="tiny", home=home, sections=SECTIONS)


def tiny_bars() -> pd.DataFrame:
    """From 2015 to mid 2018, so that 252-session features are known in the first window."""
    bars = synthetic_market(len(SYMBOLS), 920, seed=7, start="2015-01-01", trend_sharpe=4.0)
    return bars[bars["date"] < pd.Timestamp("2018-07-20")]


def load_store(settings: Settings, bars: pd.DataFrame) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    with MarketDataStore(settings.store_path) as store:
        store.ingest(bars)


def poisoned(bars: pd.DataFrame, start: date) -> pd.DataFrame:
    """The same bars with every price and volume from ``start`` on replaced by wild noise."""
    import numpy as np

    rng = np.random.default_rng(99)
    out = bars.copy()
    later = (out["date"] >= pd.Timestamp(start)).to_numpy()
    wild = np.exp(rng.normal(0.0, 1.0, later.sum()))
    for column in ("open", "high", "low", "close"):
        out.loc[later, column] = out.loc[later, column].to_numpy() * wild
    if out["volume"].notna().any():
        out.loc[later, "volume"] = (out.loc[later, "volume"].to_numpy() * wild).round()
    return out
