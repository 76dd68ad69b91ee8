"""Rows to train on, and steps timed through ``train_member``: what the step benchmarks share."""

import resource
import time
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from tft_core.models.batching import BatchPlan
from tft_core.models.config import XTrendConfig
from tft_core.sequences import RowTable
from tft_core.training.config import TrainingConfig
from tft_core.training.loop import train_member
from tft_core.training.progress import EpochReport
from tft_core.training.step import StepWork, TrainingStep

SEED = 7
WARM_UP_EPOCHS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCase:
    """One training step to measure; plain values, so that it can be sent to a process."""

    label: str
    preset: str = "plan"
    n_features: int = 210
    n_context: int = 0
    seq_len: int = 63
    batch_size: int = 32
    vsn: str = "identified"
    vsn_hidden: int = 8
    share_rows: bool = True
    """True: minibatches as training makes them on ``n_assets`` histories. False: every window
    has rows of its own, and an asset of its own."""
    every_day: bool = False
    """A window ends at every (asset, day) and bears loss there alone, as windows of the other
    libraries' data sets do. False: windows overlap in their warm-up only."""
    n_assets: int = 30
    threads: int = 2
    steps: int = 16
    """Steps of an epoch, about: as few as training allows, since rows are shared the more the
    fewer minibatches the windows are dealt to."""
    epochs: int = 2
    """Epochs measured, after one of warm-up."""

    @property
    def warmup(self) -> int:
        return self.seq_len - 1 if self.every_day else self.seq_len // 3

    def model(self) -> XTrendConfig:
        n_assets = self.n_assets if self.share_rows else self.steps * self.batch_size
        shape = {"n_features": self.n_features, "n_assets": n_assets}
        if self.preset == "paper":
            return XTrendConfig.paper(**shape)
        return XTrendConfig.plan(
            **shape,
            seq_len=self.seq_len,
            warmup=self.warmup,
            n_context=self.n_context,
            context_mode="random" if self.n_context else "none",
            vsn=self.vsn,
            vsn_hidden=self.vsn_hidden,
        )

    def training(self) -> TrainingConfig:
        return TrainingConfig(
            pretrain_epochs=0,
            finetune_epochs=WARM_UP_EPOCHS + self.epochs,
            batch_size=self.batch_size,
            min_steps_per_epoch=self.steps,
            threads=self.threads,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """What one process measured."""

    step_ms: tuple[float, ...]
    """Mean of each epoch's steps."""
    cpu_ms: tuple[float, ...]
    """CPU time of the same steps, all threads: what a busy machine leaves comparable."""
    windows_per_s: tuple[float, ...]
    """The same epochs, counted in target windows."""
    windows_per_step: float
    unique_rows: float
    """Share of different rows among the rows of a minibatch's target windows."""
    pool: float
    """Contexts that a minibatch encodes and shares."""
    peak_mib: float
    """Highest resident set of the process less that before the first step."""
    library: str


def measure(case: StepCase) -> StepTimes:
    """Train for a few epochs; times as the training itself reports them."""
    model, training = case.model(), case.training()
    rows, loss_rows = make_rows(case, model)
    seen = _Seen()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    take_step = TrainingStep.__call__

    def look_and_step(step: TrainingStep, work: StepWork) -> torch.Tensor:
        seen.look(work.plan)
        return take_step(step, work)

    with patch.object(TrainingStep, "__call__", look_and_step):
        train_member(rows, loss_rows, None, model, training, SEED, progress=seen.end_epoch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    epochs = list(zip(seen.reports, seen.windows, strict=True))[WARM_UP_EPOCHS:]
    cpu_seconds = np.diff(seen.cpu_clock)[WARM_UP_EPOCHS - 1 :]
    return StepTimes(
        step_ms=tuple(1e3 * report.seconds / report.steps for report, _ in epochs),
        cpu_ms=tuple(
            1e3 * float(cpu) / report.steps
            for cpu, (report, _) in zip(cpu_seconds, epochs, strict=True)
        ),
        windows_per_s=tuple(sum(windows) / report.seconds for report, windows in epochs),
        windows_per_step=float(np.mean([np.mean(windows) for _, windows in epochs])),
        unique_rows=float(np.mean(seen.unique_rows)),
        pool=float(np.mean(seen.pools)),
        peak_mib=(peak - before) / 1024,
        library=f"torch {torch.__version__}",
    )


class _Seen:
    """Counts what training really puts into its minibatches."""

    def __init__(self) -> None:
        self.reports: list[EpochReport] = []
        self.windows: list[list[int]] = []
        self.cpu_clock: list[float] = []
        self.unique_rows: list[float] = []
        self.pools: list[int] = []

    def look(self, plan: BatchPlan) -> None:
        if len(self.windows) == len(self.reports):
            self.windows.append([])
        self.windows[-1].append(len(plan.index))
        if len(self.reports) < WARM_UP_EPOCHS:  # not while time is taken
            self.unique_rows.append(len(plan.target_part) / (plan.index < len(plan.rows)).sum())
            self.pools.append(len(plan.pool_group))

    def end_epoch(self, report: EpochReport) -> None:
        self.reports.append(report)
        self.cpu_clock.append(time.process_time())


def make_rows(case: StepCase, model: XTrendConfig) -> tuple[RowTable, np.ndarray]:
    """Noise of the right shape, and which rows bear loss.

    Without shared rows an asset is as long as a window and its last row alone bears loss, as
    in the other libraries' one-step forecasts; positions are computed at all its steps. With a
    window at every day the first of them is a whole one.
    """
    tile = model.seq_len - model.warmup
    if case.share_rows:
        n_assets = case.n_assets
        # an asset's random phase cuts (rows + tile - 1) / tile windows on average; a little
        # fewer than the steps can hold, so that few epochs spill over into one step more
        n_windows = 0.97 * case.steps * case.batch_size / n_assets
        n_days = round(n_windows * tile) - (tile - 1) + 2
        n_days += model.warmup if case.every_day else 0
    else:
        n_assets, n_days = case.steps * case.batch_size, model.seq_len + 2
    rows = noise_rows(n_assets, n_days, case.n_features)
    loss_rows = rows.can_bear_loss.copy()
    by_asset = loss_rows.reshape(n_assets, n_days)
    if not case.share_rows:
        by_asset[:, :-3] = False
    elif case.every_day:
        by_asset[:, : model.warmup] = False
    return rows, loss_rows


def noise_rows(n_assets: int, n_days: int, n_features: int) -> RowTable:
    """Noise of the given size: what a step costs doesn't depend on what is in it."""
    rng = np.random.default_rng(SEED)
    n = n_assets * n_days
    label = rng.normal(0.0, 0.01, (n_assets, n_days))
    label[:, -2:] = np.nan  # not yet known
    return RowTable(
        features=rng.standard_normal((n, n_features), dtype=np.float32),
        coverage=np.ones(n, np.float32),
        asset_id=np.repeat(np.arange(n_assets), n_days),
        date_index=np.tile(np.arange(n_days), n_assets),
        label=label.ravel(),
        sigma=np.full(n, 0.01),
        cost_rate=np.full(n, 1e-4),
        dates=pd.bdate_range("2000-01-03", periods=n_days),
        symbols=tuple(f"A{i:04d}" for i in range(n_assets)),
        feature_names=tuple(f"f{i:03d}" for i in range(n_features)),
        asset_start=np.arange(n_assets + 1) * n_days,
    )
