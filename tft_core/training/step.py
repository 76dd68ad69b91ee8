"""One optimiser step: objective, gradient, clip, update.

The same code runs eagerly and inside a captured CUDA graph: nothing in it depends on a
value that lies on the device.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tft_core.models.batching import BatchPlan, RowTensors
from tft_core.models.losses import LossTerms, Targets, training_loss
from tft_core.models.network import XTrend
from tft_core.sequences import RowTable
from tft_core.training.config import TrainingConfig
from tft_core.training.flat import flattened


class StepWork(NamedTuple):
    """What one step works on, on the host."""

    plan: BatchPlan
    target_rows: Int64[np.ndarray, "window step"]
    """Rows of the table; −1 is padding."""
    bears_loss: Bool[np.ndarray, "window step"]
    scalars: "StepScalars"


class StepScalars(NamedTuple):
    """Numbers that change from step to step: floats, or tensors inside a CUDA graph."""

    cost_factor: float | Tensor
    penalty_share: float | Tensor
    """Share of λ that is in force."""
    floor: float | Tensor
    """Least u of the identified VSN after the step."""


@dataclass(frozen=True, slots=True)
class TargetColumns:
    """Loss columns of all rows, with one more entry for padding; see ``losses.Targets``."""

    scaled_return: Float[Tensor, " row_and_padding"]
    inverse_sigma: Float[Tensor, " row_and_padding"]
    cost_rate: Float[Tensor, " row_and_padding"]
    date: Int64[Tensor, " row_and_padding"]
    n_dates: int

    @classmethod
    def of(cls, rows: RowTable, device: str) -> "TargetColumns":
        """The columns of a table on a device; what is unknown is 0 and bears no loss."""

        def column(values: np.ndarray) -> Tensor:
            padded = np.append(np.nan_to_num(values), 0.0).astype(np.float32)
            return torch.from_numpy(padded).to(device)

        return cls(
            scaled_return=column(rows.scaled_label),
            inverse_sigma=column(1.0 / rows.sigma),
            cost_rate=column(rows.cost_rate),
            date=torch.from_numpy(np.append(rows.date_index, 0)).to(device),
            n_dates=len(rows.dates),
        )

    def take(
        self, rows: Int64[Tensor, "window step"], bears_loss: Bool[Tensor, "window step"]
    ) -> Targets:
        """Targets of some rows; −1, padding, is the last entry."""
        return Targets(
            scaled_return=self.scaled_return[rows],
            inverse_sigma=self.inverse_sigma[rows],
            cost_rate=self.cost_rate[rows],
            bears_loss=bears_loss,
            date=self.date[rows],
            n_dates=self.n_dates,
        )


class TrainingStep:
    """Runs steps of one member, one after another."""

    def __init__(
        self,
        member: XTrend,
        tensors: RowTensors,
        columns: TargetColumns,
        config: TrainingConfig,
        smooth: float,
    ) -> None:
        self.member, self.tensors, self.columns = member, tensors, columns
        self.config, self.smooth = config, smooth
        self.identified = member.identified()
        self.optimiser = make_optimiser(member, config)
        self.parameters = [p for group in self.optimiser.param_groups for p in group["params"]]

    def __call__(self, work: StepWork) -> Tensor:
        """Run one step; its loss, penalty included, on the device."""
        device = self.tensors.features.device
        rows, bears_loss = (torch.from_numpy(a).to(device) for a in work[1:3])
        return self.run(work.plan.to(device), rows, bears_loss, work.scalars, is_full=True)

    def run(
        self,
        plan: BatchPlan,
        target_rows: Tensor,
        bears_loss: Tensor,
        scalars: StepScalars,
        *,
        is_full: bool,
    ) -> Tensor:
        """The step on tensors of the device (see ``RowTensors.gather`` for ``is_full``)."""
        # on the CPU the gradients of all parameters are views of one (see ``flattened``)
        self.optimiser.zero_grad(set_to_none=self.config.device != "cpu")
        total = self.objective(plan, target_rows, bears_loss, scalars, is_full=is_full)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.grad_clip)
        self.optimiser.step()
        for selection in self.identified:
            selection.clamp(scalars.floor)
        return total.detach()

    def objective(
        self,
        plan: BatchPlan,
        target_rows: Tensor,
        bears_loss: Tensor,
        scalars: StepScalars,
        *,
        is_full: bool,
    ) -> Tensor:
        """Loss plus penalty of one minibatch."""
        config, model = self.config, self.member.config
        batch = self.tensors.gather(plan, is_full=is_full)
        with self._precision():
            states = self.member.states(batch)[0]
        output = self.member.head(states.to(self.tensors.features.dtype))
        terms = LossTerms(
            cost_factor=scalars.cost_factor,
            mle_weight=model.mle_weight,
            smooth=self.smooth,
            level=config.sharpe_level,
            softmin_weight=config.softmin_weight,
            softmin_temperature=config.softmin_temperature,
            block_dates=model.seq_len - model.warmup,
        )
        loss = training_loss(output, self.columns.take(target_rows, bears_loss), terms)
        penalty = self.member.penalty()
        return loss if penalty is None else loss + scalars.penalty_share * penalty

    def _precision(self) -> nullcontext[None] | torch.autocast:
        if not self.config.amp:
            return nullcontext()
        return torch.autocast(self.config.device, dtype=torch.bfloat16)


def make_optimiser(member: XTrend, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW; the identified VSN's u in a group of its own: faster, without decay.

    On the CPU each group is one vector that the member's parameters become views of.
    """
    chosen = [m.u for m in member.identified()]
    selected = {id(u) for u in chosen}
    others = [p for p in member.parameters() if id(p) not in selected]
    groups = [{"params": others, "lr": config.lr, "weight_decay": config.weight_decay}]
    if chosen:
        groups.append({"params": chosen, "lr": config.selection_lr, "weight_decay": 0.0})
    if config.device == "cpu":
        groups = [{**group, "params": [flattened(group["params"])]} for group in groups]
    return torch.optim.AdamW(groups, fused=True, capturable=config.device == "cuda")
