"""Training of one member: epochs, optimiser, early stopping, and its context bank."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from tft_core.errors import TrainingError
from tft_core.models.batching import RowTensors
from tft_core.models.config import XTrendConfig
from tft_core.models.ensemble import make_bank, predict_member
from tft_core.models.network import ContextBank, XTrend
from tft_core.positions import PositionConfig
from tft_core.sequences import (
    ContextWindows,
    RowTable,
    calendar_tile,
    choose_contexts,
    context_candidates,
    epoch_windows,
    first_loss_date,
    minibatches,
    sample_contexts,
    sample_pool,
    window_index,
)
from tft_core.training.allocator import freed_memory_kept
from tft_core.training.config import TrainingConfig
from tft_core.training.cuda_graph import GraphedStep
from tft_core.training.determinism import pinned
from tft_core.training.evaluation import diversified_sharpe, scored_rows
from tft_core.training.flat import unflatten
from tft_core.training.progress import EpochReport, Progress
from tft_core.training.step import StepScalars, StepWork, TargetColumns, TrainingStep

CLAMPED_STEPS = 50
"""Steps in which the identified VSN's weights stay above ``CLAMP_FLOOR``, at least."""
CLAMP_FLOOR = 1e-3
BANK_STREAM, EPOCH_STREAM = 1, 2
"""Streams of a member's seed: what draws its bank doesn't move what draws its epochs."""


@dataclass(slots=True)
class MemberResult:
    """A trained member."""

    member: XTrend
    bank: ContextBank | None
    best_epoch: int
    """Fine-tuning epoch of the weights kept, counted from 1."""
    val_sharpe: float
    """NaN where nothing was validated."""
    val_z: Float64[np.ndarray, " val_row"] | None
    """Positions at the validation rows that can be scored; ``None`` where none was validated."""
    optimiser_steps: int
    seconds: float
    """Wall time, validation and the context bank included."""
    reports: list[EpochReport] = field(default_factory=list)


def epoch_frame(results: Sequence[MemberResult]) -> pd.DataFrame:
    """One row per member and epoch: the fields of ``EpochReport``."""
    return pd.DataFrame([asdict(report) for result in results for report in result.reports])


def train_member(
    rows: RowTable,
    loss_rows: Bool[np.ndarray, " row"],
    val_rows: Bool[np.ndarray, " row"] | None,
    model_config: XTrendConfig,
    config: TrainingConfig,
    seed: int,
    *,
    positions: PositionConfig | None = None,
    finetune_epochs: int | None = None,
    progress: Progress | None = None,
) -> MemberResult:
    """Train one network from scratch.

    Args:
        loss_rows: Rows that bear loss (those without a label or volatility don't); contexts
            and the bank come from them too.
        val_rows: Rows of the early stopping; ``None`` trains for all epochs (the refit).
        positions: How outputs become positions. The loss smooths them so (its clip and
            turnover cap have no gradient and are left out); validation walks them whole.
            ``None``: outputs are positions.
        finetune_epochs: Replaces the configured number.

    As of:
        The last label of ``loss_rows`` and ``val_rows``; other rows only lend features to
        the warm-up of windows that end in these.

    Raises:
        TrainingError: Loss or weights stopped being numbers, or too few rows bear loss.
    """
    with pinned(seed, config.threads, config.device), freed_memory_kept():
        run = _MemberRun(rows, loss_rows, val_rows, model_config, config, seed, positions)
        return run.train(finetune_epochs or config.finetune_epochs, progress)


class _MemberRun:
    """State of one member's training."""

    def __init__(
        self,
        rows: RowTable,
        loss_rows: Bool[np.ndarray, " row"],
        val_rows: Bool[np.ndarray, " row"] | None,
        model_config: XTrendConfig,
        config: TrainingConfig,
        seed: int,
        positions: PositionConfig | None = None,
    ) -> None:
        self.rows, self.config, self.seed, self.model_config = rows, config, seed, model_config
        self.loss_rows = loss_rows & rows.can_bear_loss
        n_loss = int(self.loss_rows.sum())
        if n_loss < 2 * config.min_steps_per_epoch:
            raise TrainingError(
                f"training must be given at least {2 * config.min_steps_per_epoch} rows with "
                f"label and volatility, found {n_loss}; give a longer training window"
            )
        self.tensors = RowTensors.of(rows, model_config, config.device)
        self.rng = np.random.default_rng([seed, EPOCH_STREAM])
        self.member = XTrend(model_config).to(config.device)
        self.positions = positions
        self.step = make_step(
            self.member,
            self.tensors,
            TargetColumns.of(rows, config.device),
            config,
            1.0 if positions is None else positions.position_smooth,
        )
        self.steps = 0
        self.penalty_share = 1.0
        self.candidates = context_candidates(
            rows, self.loss_rows, model_config.ctx_len, model_config.context_mode
        )
        self.val_at: Int64[np.ndarray, " row"] | None = None
        if val_rows is not None:
            self.val_at = scored_rows(rows, val_rows)
            if not len(self.val_at):
                raise TrainingError(
                    "validation must hold rows with label and volatility, found none; "
                    "lengthen the training window or val_fraction"
                )
            self.val_index = window_index(rows, self.val_at, model_config.seq_len)
        self.bank_contexts = self._draw_bank()

    def train(self, finetune_epochs: int, progress: Progress | None) -> MemberResult:
        """All epochs; the weights of the best validated one, else of the last."""
        started = time.perf_counter()
        planned = self.config.pretrain_epochs + finetune_epochs
        reports: list[EpochReport] = []
        best_sharpe, best_epoch = -math.inf, 0
        best_state: dict[str, Tensor] | None = None
        for number in range(1, planned + 1):
            epoch_started = time.perf_counter()
            is_net = number > self.config.pretrain_epochs
            epoch = number - self.config.pretrain_epochs if is_net else number
            phase = "finetune" if is_net else "pretrain"
            steps_before = self.steps
            loss = self._epoch(self.config.cost_factor if is_net else 0.0)
            self._require_finite(loss, phase, epoch)
            sharpe = self._validate()[0] if is_net and self.val_at is not None else math.nan
            reports.append(
                EpochReport(
                    seed=self.seed,
                    stage="refit" if self.val_at is None else "select",
                    phase=phase,
                    epoch=epoch,
                    epochs_done=number,
                    epochs_planned=planned,
                    steps=self.steps - steps_before,
                    loss=loss,
                    val_sharpe=sharpe,
                    lr=self.step.optimiser.param_groups[0]["lr"],
                    features_left=self._features_left(),
                    seconds=time.perf_counter() - epoch_started,
                )
            )
            if progress is not None:
                progress(reports[-1])
            if not is_net or self.val_at is None:
                continue
            if sharpe > best_sharpe:
                best_sharpe, best_epoch = sharpe, epoch
                best_state = {k: v.clone() for k, v in self.member.state_dict().items()}
            elif epoch - best_epoch >= self.config.patience:
                break
        if self.val_at is None:
            best_epoch, best_sharpe = finetune_epochs, math.nan
        elif best_state is None:
            raise TrainingError(
                f"validation Sharpe of seed {self.seed} must be a number in some fine-tuning "
                "epoch, found NaN in all; the network holds constant positions or the "
                "validation window is too short"
            )
        else:
            self.member.load_state_dict(best_state)
        self.member.eval()
        unflatten(list(self.member.parameters()))
        return MemberResult(
            member=self.member,
            bank=self._bank(),
            best_epoch=best_epoch,
            val_sharpe=best_sharpe,
            val_z=self._validate()[1] if self.val_at is not None else None,
            optimiser_steps=self.steps,
            seconds=time.perf_counter() - started,
            reports=reports,
        )

    def _epoch(self, cost_factor: float) -> float:
        """One pass in which every loss row bears loss once; the mean loss of its steps."""
        config, model = self.config, self.model_config
        # short histories: smaller tiles make enough windows for the steps an epoch must have
        stride = max(1, min(model.seq_len - model.warmup, self._rows_per_window()))
        phase = int(self.rng.integers(stride)) if config.by_date else None
        index, bears_loss = epoch_windows(
            self.rows, self.loss_rows, model.seq_len, model.warmup, self.rng, stride, phase
        )
        together = None
        if phase is not None:
            together = calendar_tile(self.rows, index[:, -1], stride, phase)
        batches = minibatches(
            bears_loss,
            config.batch_size,
            config.min_steps_per_epoch,
            self.rng,
            together=together,
        )
        self.member.train()
        losses = torch.zeros((), dtype=torch.float64, device=config.device)
        for windows in batches:
            self._ramp_penalty(len(batches))
            losses += self._take_step(index[windows], bears_loss[windows], cost_factor)
        return float(losses) / len(batches)

    def _ramp_penalty(self, steps_per_epoch: int) -> None:
        """λ grows linearly over a share of the configured epochs, the refit's alike."""
        config = self.config
        epochs = config.penalty_ramp * (config.pretrain_epochs + config.finetune_epochs)
        ramp_steps = epochs * steps_per_epoch
        self.penalty_share = min(1.0, self.steps / ramp_steps) if ramp_steps > 0 else 1.0

    def _rows_per_window(self) -> int:
        return int(self.loss_rows.sum()) // self.config.min_steps_per_epoch

    def _take_step(
        self,
        index: Int64[np.ndarray, "window step"],
        bears_loss: Bool[np.ndarray, "window step"],
        cost_factor: float,
    ) -> Tensor:
        model = self.model_config
        pool, choice = self._contexts(index, bears_loss)
        unknown = None
        if model.entity_dropout > 0.0:
            unknown = np.flatnonzero(self.rng.random(len(self.rows.symbols)) < model.entity_dropout)
        plan = self.tensors.plan(index, pool, choice, unknown_assets=unknown)
        self.steps += 1
        may_die = self.steps >= CLAMPED_STEPS and self.penalty_share >= 1.0
        floor = 0.0 if may_die else CLAMP_FLOOR
        scalars = StepScalars(cost_factor, self.penalty_share, floor)
        return self.step(StepWork(plan, index, bears_loss, scalars))

    def _contexts(
        self, index: Int64[np.ndarray, "window step"], bears_loss: Bool[np.ndarray, "window step"]
    ) -> tuple[ContextWindows | None, np.ndarray | None]:
        model = self.model_config
        if not model.uses_context:
            return None, None
        gates = first_loss_date(self.rows, index, bears_loss)
        if not model.causal_contexts:
            gates = np.full_like(gates, len(self.rows.dates))
        pool = sample_pool(self.candidates, gates, model.pool_size(len(index)), self.rng)
        return pool, choose_contexts(pool.available, gates, model.n_context, self.rng)

    def _draw_bank(self) -> ContextWindows | None:
        model = self.model_config
        if not model.uses_context:
            return None
        before = None if self.val_at is None else int(self.rows.date_index[self.val_at].min())
        return sample_contexts(
            self.rows,
            model.n_context,
            model.ctx_len,
            model.context_mode,
            np.random.default_rng([self.seed, BANK_STREAM]),
            before_date_index=before,
            context_rows=self.loss_rows,
        )

    def _bank(self) -> ContextBank | None:
        if self.bank_contexts is None:
            return None
        return make_bank(self.member, self.tensors, self.bank_contexts, self.rows)

    def _validate(self) -> tuple[float, np.ndarray]:
        """Diversified net Sharpe and positions at the validation rows, as inference would."""
        assert self.val_at is not None
        self.member.eval()
        z = predict_member(self.member, self._bank(), self.tensors, self.val_index)[0]
        return diversified_sharpe(self.rows, self.val_at, z, self.positions), z

    def _features_left(self) -> int:
        identified = self.member.identified()
        if not identified:
            return self.model_config.n_features
        return int((identified[-1].u.detach() > 0.0).sum())

    def _require_finite(self, loss: float, phase: str, epoch: int) -> None:
        where = f"in {phase} epoch {epoch} of seed {self.seed}"
        hint = "lower the learning rate or check the features for outliers"
        if not math.isfinite(loss):
            raise TrainingError(f"training loss must be finite, found {loss} {where}; {hint}")
        for name, tensor in self.member.state_dict().items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise TrainingError(
                    f"weights must be finite, found NaN or infinity in {name} {where}; {hint}"
                )


def make_step(
    member: XTrend,
    tensors: RowTensors,
    columns: TargetColumns,
    config: TrainingConfig,
    smooth: float,
) -> TrainingStep:
    """The way steps are run on the configured device."""
    if config.device == "cuda" and config.cuda_graph:
        return GraphedStep(member, tensors, columns, config, smooth)
    return TrainingStep(member, tensors, columns, config, smooth)
