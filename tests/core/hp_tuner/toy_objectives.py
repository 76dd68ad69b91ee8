"""Objectives that answer at once, importable by spawned workers."""

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tft_core.errors import TrainingError
from tft_core.hp_tuner import DailyRecord, Evaluate

FOLD_DAYS = 30
SPACE: dict[str, Any] = {
    "d_hidden": [8, 16, 32],
    "lr": {"low": 3e-4, "high": 6e-3, "log": True},
    "loss_mode": ["sharpe", "joint_mle"],
    "mle_weight": {"low": 0.01, "high": 0.2},
}
DEFAULTS: dict[str, Any] = {
    "d_hidden": 16,
    "n_heads": 2,
    "lr": 1e-3,
    "loss_mode": "sharpe",
    "mle_weight": 0.1,
    "seq_len": 42,
    "warmup": 21,
}


def fold_dates(fold: int) -> pd.DatetimeIndex:
    days = pd.bdate_range("2020-01-01", periods=20 * FOLD_DAYS)
    return days[fold * FOLD_DAYS : (fold + 1) * FOLD_DAYS]


def hill(params: dict[str, Any], fold: int, seed: int, *, best_lr: float = 3e-3) -> DailyRecord:
    """Returns whose mean has one peak, in ``lr``; the same noise for every trial."""
    noise = np.random.default_rng([fold, seed]).normal(0.0, 0.01, FOLD_DAYS)
    mean = 0.002 - 0.002 * np.log(params["lr"] / best_lr) ** 2
    return DailyRecord(fold_dates(fold), noise + mean, optimiser_steps=5)


def build_hill() -> Evaluate:
    return hill


def slow_hill(params: dict[str, Any], fold: int, seed: int, *, delay: float) -> DailyRecord:
    time.sleep(delay)
    return hill(params, fold, seed)


def build_slow_hill(delay: float) -> Evaluate:
    return partial(slow_hill, delay=delay)


def deadly_hill(params: dict[str, Any], fold: int, seed: int, *, marker: Path) -> DailyRecord:
    """Kills its own process, uncatchably, in the second fold, while ``marker`` allows it."""
    if fold == 1 and marker.exists():
        marker.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return hill(params, fold, seed)


def build_deadly_hill(marker: Path) -> Evaluate:
    return partial(deadly_hill, marker=marker)


def lethal(params: dict[str, Any], fold: int, seed: int) -> DailyRecord:
    """Kills its process for every wide network: out of memory, each time."""
    if params["d_hidden"] == 32:
        os.kill(os.getpid(), signal.SIGKILL)
    return hill({"lr": 1e-3}, fold, seed)


def build_lethal() -> Evaluate:
    return lethal


def broken(params: dict[str, Any], fold: int, seed: int) -> DailyRecord:
    raise KeyError("no such column: px_ret_1d")


def build_broken() -> Evaluate:
    return broken


def diverging(params: dict[str, Any], fold: int, seed: int) -> DailyRecord:
    if params["d_hidden"] == 8:
        raise TrainingError("loss must stay a number, found nan in epoch 2")
    return hill(params, fold, seed)


def build_diverging() -> Evaluate:
    return diverging


def flat(params: dict[str, Any], fold: int, seed: int) -> DailyRecord:
    """Never trades, unless it is as narrow as can be."""
    if params["d_hidden"] == 8:
        return hill(params, fold, seed)
    return DailyRecord(fold_dates(fold), np.zeros(FOLD_DAYS), optimiser_steps=5)


def build_flat() -> Evaluate:
    return flat


def uneven(params: dict[str, Any], fold: int, seed: int) -> DailyRecord:
    """Wider networks lose the first days: dates then differ between trials."""
    start = params["d_hidden"] // 8
    return DailyRecord(fold_dates(fold)[start:], np.full(FOLD_DAYS - start, 0.001), 5)


def build_uneven() -> Evaluate:
    return uneven
