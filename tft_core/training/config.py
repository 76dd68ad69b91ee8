"""How a network is trained: budgets, optimiser, seeds, threads."""

from dataclasses import dataclass
from typing import get_args

from tft_core.errors import ConfigError
from tft_core.limits import (
    require_at_least,
    require_not_negative,
    require_one_of,
    require_positive,
    require_share,
)
from tft_core.models.losses import SharpeLevel

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Budgets and optimiser of one ensemble."""

    pretrain_epochs: int = 30
    """Epochs on gross returns (γ = 0), before costs enter the loss."""
    finetune_epochs: int = 50
    """Most epochs on net returns; early stopping counts these."""
    lr: float = 1e-3
    """AdamW's learning rate, the same in all epochs."""
    weight_decay: float = 1e-5
    """Share of a parameter that a step takes off, per unit of the learning rate (AdamW)."""
    selection_lr: float = 1e-2
    """Adam rate of the identified VSN's weights u."""
    penalty_ramp: float = 0.33
    """Share of all configured epochs over which the identified VSN's penalty λ grows from 0:
    a network that has learned nothing yet must not lose its features."""
    batch_size: int = 32
    """Windows in a minibatch, at most."""
    patience: int = 15
    """Fine-tuning epochs without a better validation Sharpe before a member stops."""
    grad_clip: float = 1.0
    """Largest Euclidean norm of a step's gradient over all parameters."""
    cost_factor: float = 0.5
    """γ: share of each instrument's cost that the fine-tuning loss carries."""
    sharpe_level: SharpeLevel = "pooled"
    """``portfolio`` makes minibatches of many assets on few dates, and takes the Sharpe ratio
    of the dates' mean returns."""
    softmin_weight: float = 0.0
    """Weight of the SoftMin over calendar blocks of their portfolio Sharpe ratios."""
    softmin_temperature: float = 0.2
    """τ of the SoftMin, in annualised Sharpe units."""
    n_seeds: int = 3
    """Members of the ensemble, each trained from its own seed."""
    seed: int = 42
    """First of the ``n_seeds`` consecutive seeds."""
    threads: int = 2
    """Threads PyTorch may use; results are equal only for an equal count."""
    device: str = "cpu"
    """``cpu`` or ``cuda``."""
    amp: bool = False
    """On CUDA: encoders, attention and the paper's and TFT's variable selection in bfloat16;
    the identified one, head and loss stay in float32."""
    cuda_graph: bool = True
    """On CUDA: replay each training step as one graph, in minibatches of a fixed shape."""
    min_steps_per_epoch: int = 16
    """Optimiser steps an epoch has at least; minibatches shrink to reach it."""

    def __post_init__(self) -> None:
        require_at_least(
            self,
            "training",
            pretrain_epochs=0,
            finetune_epochs=1,
            batch_size=1,
            patience=1,
            n_seeds=1,
            threads=1,
            min_steps_per_epoch=1,
            seed=0,
        )
        require_positive(self, "training", "lr", "selection_lr", "grad_clip", "softmin_temperature")
        require_one_of(self, "training", sharpe_level=get_args(SharpeLevel), device=DEVICES)
        if self.amp and self.device == "cpu":
            raise ConfigError(
                'training.amp must be false on device "cpu", found true; set training.device to '
                '"cuda", or leave amp out'
            )
        require_share(self, "training", "penalty_ramp")
        require_not_negative(self, "training", "weight_decay", "cost_factor", "softmin_weight")

    @property
    def by_date(self) -> bool:
        """Whether the loss looks at dates, so that minibatches must hold many assets on each."""
        return self.sharpe_level == "portfolio" or self.softmin_weight > 0.0

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.n_seeds))
