"""The exploration pass: train with shadow features beside the real ones, then ask the model
which features it uses: selection weight, permutation, integrated gradients.

One call is one fold; it makes the long record that the stability report reads.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float64, Int64

from tft_core.errors import ConfigError
from tft_core.limits import require_at_least
from tft_core.models.batching import RowTensors
from tft_core.models.config import XTrendConfig
from tft_core.models.ensemble import integrated_gradients
from tft_core.models.network import XTrend
from tft_core.models.variable_selection import IdentifiedSelection
from tft_core.positions import PositionConfig
from tft_core.sequences import RowTable, window_index
from tft_core.training.config import TrainingConfig
from tft_core.training.determinism import pinned
from tft_core.training.evaluation import scored_rows
from tft_core.training.loop import MemberResult, epoch_frame, train_member
from tft_core.training.permutation import permutation_importance
from tft_core.training.progress import Progress
from tft_core.training.shadows import SHADOW_PREFIX, with_shadows

PROBE_STREAM = 13
"""Stream of a member's seed that draws the windows of its gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationConfig:
    """Budgets of the exploration pass; the rest of the training is the configured one."""

    n_seeds: int = 3
    pretrain_epochs: int = 15
    finetune_epochs: int = 25
    n_shadows: int = 64
    """Time-shifted copies of real features; at most ``shadows.SHIFTS`` of each."""
    permutation_windows: int = 256
    """Validation windows that permutation is measured on; 0 leaves it out (NaN)."""
    ig_windows: int = 64
    """Validation windows whose integrated gradients are averaged; 0 leaves them out (NaN)."""
    ig_steps: int = 4
    """Gauss–Legendre nodes of the integral."""

    def __post_init__(self) -> None:
        require_at_least(
            self,
            "exploration",
            n_seeds=1,
            pretrain_epochs=0,
            finetune_epochs=1,
            n_shadows=0,
            permutation_windows=0,
            ig_windows=0,
            ig_steps=1,
        )

    def training(self, base: TrainingConfig) -> TrainingConfig:
        """The training configuration with this pass's budgets."""
        return replace(
            base,
            n_seeds=self.n_seeds,
            pretrain_epochs=self.pretrain_epochs,
            finetune_epochs=self.finetune_epochs,
        )


@dataclass(frozen=True, slots=True)
class ExplorationResult:
    """One fold's exploration."""

    records: pd.DataFrame
    """``feature_selection.evidence.RUN_COLUMNS``, one row per seed and feature, shadows included;
    the caller adds the fold."""
    histories: pd.DataFrame
    val_sharpe_members: tuple[float, ...]
    best_epochs: tuple[int, ...]
    seconds_training: float
    seconds_measuring: float
    optimiser_steps: int


def explore(
    rows: RowTable,
    fit_rows: Bool[np.ndarray, " row"],
    val_rows: Bool[np.ndarray, " row"],
    model_config: XTrendConfig,
    training_config: TrainingConfig,
    config: ExplorationConfig,
    *,
    positions: PositionConfig | None = None,
    progress: Progress | None = None,
) -> ExplorationResult:
    """Train the exploration members and measure what each uses.

    Args:
        model_config: Its ``n_features`` is that of ``rows``; shadows are added here.
        positions: How outputs become positions (see ``train_member``).

    As of:
        The last label of ``val_rows``.

    Raises:
        ConfigError: The network has no VSN.
    """
    if model_config.vsn == "none":
        raise ConfigError(
            "exploration must have a variable selection network to look at, found model.vsn none; "
            "run with --skip-feature-selection"
        )
    training = config.training(training_config)
    results, records = [], []
    measuring = 0.0
    shadowed = with_shadows(rows, val_rows, config.n_shadows)
    wide = replace(model_config, n_features=shadowed.n_features)
    for seed in training.seeds:
        result = train_member(
            shadowed,
            fit_rows,
            val_rows,
            wide,
            training,
            seed,
            positions=positions,
            progress=progress,
        )
        started = time.perf_counter()
        with pinned(seed, training.threads, training.device):
            records.append(measure(result, shadowed, val_rows, config, seed, training.device))
        measuring += time.perf_counter() - started
        results.append(result)
    return ExplorationResult(
        records=pd.concat(records, ignore_index=True),
        histories=epoch_frame(results),
        val_sharpe_members=tuple(r.val_sharpe for r in results),
        best_epochs=tuple(r.best_epoch for r in results),
        seconds_training=sum(r.seconds for r in results),
        seconds_measuring=measuring,
        optimiser_steps=sum(r.optimiser_steps for r in results),
    )


def measure(
    result: MemberResult,
    rows: RowTable,
    val_rows: Bool[np.ndarray, " row"],
    config: ExplorationConfig,
    seed: int,
    device: str = "cpu",
) -> pd.DataFrame:
    """One member's record: weight, lift, permutation and gradients of every feature."""
    member, bank = result.member.eval(), result.bank
    tensors = RowTensors.of(rows, member.config, device)
    at = scored_rows(rows, val_rows)
    is_shadow = np.array([name.startswith(SHADOW_PREFIX) for name in rows.feature_names])
    weight = mean_weights(member, tensors, at)
    weight = weight / weight[~is_shadow].sum() if weight[~is_shadow].sum() > 0 else weight * np.nan
    dposition, dsharpe = permutation_importance(
        member, bank, rows, val_rows, config.permutation_windows, seed, device
    )
    gradients = np.full(rows.n_features, np.nan)
    if config.ig_windows:
        rng = np.random.default_rng([seed, PROBE_STREAM])
        probe = np.sort(rng.choice(at, size=min(config.ig_windows, len(at)), replace=False))
        index = window_index(rows, probe, member.config.seq_len)
        parts = integrated_gradients(member, bank, tensors, index, config.ig_steps)
        gradients = np.abs(parts).mean(axis=0)
    return pd.DataFrame(
        {
            "seed": seed,
            "feature": list(rows.feature_names),
            "is_shadow": is_shadow,
            "weight": weight,
            "lift": weight * int((~is_shadow).sum()),
            "perm_dposition": dposition,
            "perm_dsharpe": dsharpe,
            "ig": gradients,
        }
    )


@torch.no_grad()
def mean_weights(
    member: XTrend, tensors: RowTensors, at: Int64[np.ndarray, " row"]
) -> Float64[np.ndarray, " feature"]:
    """Selection weights of the decoder's VSN, averaged over rows with their own entity."""
    selection = member.main_selection
    if isinstance(selection, IdentifiedSelection):
        return selection.static_weights().double().cpu().numpy()
    batch = tensors.batch(at[:, None])
    weights = member.selection_weights(batch)
    return weights.double().mean(dim=0).cpu().numpy()
