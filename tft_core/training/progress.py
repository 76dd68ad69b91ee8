"""Progress of long training: a bar on a terminal, throttled log lines elsewhere."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tqdm import tqdm

from tft_core.logs import get_logger

LOG = get_logger("tft_core.training")


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What is known at the end of an epoch."""

    seed: int
    stage: str
    """``select`` (with validation) or ``refit``."""
    phase: str
    """``pretrain`` (gross) or ``finetune`` (net)."""
    epoch: int
    """Counted from 1 within its phase."""
    epochs_done: int
    """Within the stage, over both phases."""
    epochs_planned: int
    steps: int
    """Optimiser steps of this epoch."""
    loss: float
    val_sharpe: float
    """Diversified net Sharpe on validation rows; NaN where it isn't measured."""
    lr: float
    features_left: int
    """Features with a selection weight above zero (all of them in other VSN forms)."""
    seconds: float


Progress = Callable[[EpochReport], None]


class ConsoleProgress:
    """Shows epochs of one training as a tqdm bar, or logs at most one line per interval."""

    def __init__(self, label: str, *, interval_s: float = 10.0, bar: bool | None = None) -> None:
        self.label, self.interval_s = label, interval_s
        self.shows_bar = sys.stderr.isatty() if bar is None else bar
        self._bar: tqdm | None = None
        self._key: tuple[int, str] | None = None
        self._started = self._logged = time.monotonic()

    def __call__(self, report: EpochReport) -> None:
        if (report.seed, report.stage) != self._key:
            self.close()
            self._key, self._started = (report.seed, report.stage), time.monotonic()
            if self.shows_bar:
                title = f"{self.label} seed {report.seed} {report.stage}"
                self._bar = tqdm(total=report.epochs_planned, desc=title, unit="epoch")
        if self._bar is not None:
            self._bar.update(report.epochs_done - self._bar.n)
            self._bar.set_postfix(
                phase=report.phase,
                loss=f"{report.loss:.3f}",
                sharpe=f"{report.val_sharpe:.2f}",
                lr=f"{report.lr:.1e}",
                features=report.features_left,
            )
            return
        now = time.monotonic()
        if now - self._logged < self.interval_s:
            return
        self._logged = now
        left = report.epochs_planned - report.epochs_done
        eta_s = (now - self._started) / max(report.epochs_done - 1, 1) * left
        LOG.info(
            "%s seed %d %s %s epoch %d/%d loss %.3f val Sharpe %.2f features %d, "
            "at most %.0f s left",
            self.label,
            report.seed,
            report.stage,
            report.phase,
            report.epochs_done,
            report.epochs_planned,
            report.loss,
            report.val_sharpe,
            report.features_left,
            eta_s,
        )

    def close(self) -> None:
        """End the bar, if one is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
