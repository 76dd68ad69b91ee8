"""Training of one fold's ensemble: early-stopped members, then the refit."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool

from tft_core.errors import TrainingError
from tft_core.models.config import XTrendConfig
from tft_core.models.ensemble import Ensemble, RawOutput
from tft_core.models.io import weight_hash
from tft_core.positions import PositionConfig
from tft_core.sequences import RowTable
from tft_core.training.config import TrainingConfig
from tft_core.training.evaluation import diversified_sharpe, scored_rows, validation_frame
from tft_core.training.loop import epoch_frame, train_member
from tft_core.training.progress import Progress


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """A trained ensemble and how it came about."""

    ensemble: Ensemble
    best_epochs: tuple[int, ...]
    """Best fine-tuning epoch of each early-stopped member."""
    refit_epochs: int | None
    """Fine-tuning epochs of the refit: the median of ``best_epochs``; ``None`` without one."""
    histories: pd.DataFrame
    """One row per epoch: the fields of ``EpochReport``."""
    val_sharpe: float
    """Diversified net Sharpe of the early-stopped members' mean position."""
    val_sharpe_members: tuple[float, ...]
    validation: pd.DataFrame
    """Rows of that validation (see ``validation_frame``): what calibrates confidence."""
    optimiser_steps: int
    seconds: float
    threads: int
    torch_version: str
    weight_hash: str


def train_ensemble(
    rows: RowTable,
    fit_rows: Bool[np.ndarray, " row"],
    val_rows: Bool[np.ndarray, " row"],
    train_rows: Bool[np.ndarray, " row"],
    model_config: XTrendConfig,
    training_config: TrainingConfig,
    *,
    positions: PositionConfig | None = None,
    seeds: Sequence[int] | None = None,
    refit: bool,
    progress: Progress | None = None,
) -> EnsembleResult:
    """Train the members of one fold.

    Args:
        fit_rows: Rows that bear loss while early stopping watches ``val_rows``.
        train_rows: Rows that bear loss in the refit: fit, purge and validation.
        positions: How outputs become positions in loss and validation (see
            ``train_member``); ``None``: outputs are positions.
        seeds: One per member; default the configured ones.
        refit: Train each member again from scratch on ``train_rows``, for the median best
            epoch; without it the early-stopped members make the ensemble.

    As of:
        The last label of ``train_rows`` (of ``val_rows`` without refit).

    Raises:
        TrainingError: A member's loss or weights stopped being numbers, or rows are too few.
    """
    started = time.perf_counter()
    chosen = training_config.seeds if seeds is None else tuple(seeds)
    if not chosen:
        raise TrainingError("an ensemble must have at least one seed, found none")
    if (fit_rows & val_rows).any():
        raise TrainingError(
            f"fit and validation rows must be apart, found {int((fit_rows & val_rows).sum())} "
            "rows in both"
        )
    selected = [
        train_member(
            rows,
            fit_rows,
            val_rows,
            model_config,
            training_config,
            seed,
            positions=positions,
            progress=progress,
        )
        for seed in chosen
    ]
    best_epochs = tuple(result.best_epoch for result in selected)
    refit_epochs, final = None, selected
    if refit:
        refit_epochs = int(np.median(best_epochs))
        final = [
            train_member(
                rows,
                train_rows,
                None,
                model_config,
                training_config,
                seed,
                positions=positions,
                finetune_epochs=refit_epochs,
                progress=progress,
            )
            for seed in chosen
        ]
    ensemble = Ensemble(model_config, [r.member for r in final], [r.bank for r in final])
    val_at = scored_rows(rows, val_rows)
    outputs = RawOutput(np.stack([r.val_z for r in selected if r.val_z is not None]))
    everything = selected + (final if refit else [])
    return EnsembleResult(
        ensemble=ensemble,
        best_epochs=best_epochs,
        refit_epochs=refit_epochs,
        histories=epoch_frame(everything),
        val_sharpe=diversified_sharpe(rows, val_at, outputs.z, positions),
        val_sharpe_members=tuple(result.val_sharpe for result in selected),
        validation=validation_frame(rows, val_at, outputs, positions),
        optimiser_steps=sum(result.optimiser_steps for result in everything),
        seconds=time.perf_counter() - started,
        threads=training_config.threads,
        torch_version=torch.__version__,
        weight_hash=weight_hash(ensemble.state_dict()),
    )
