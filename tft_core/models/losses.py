"""Losses over loss-bearing (asset, session) pairs, in float32 or better.

All returns are in units of daily volatility: the common volatility target cancels in a
Sharpe ratio.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tft_core.models.heads import QUANTILES, HeadOutput
from tft_core.schema import TRADING_DAYS_PER_YEAR

VARIANCE_FLOOR = 1e-9
LOG_2PI = 1.8378770664093453


class Targets(NamedTuple):
    """What a minibatch is scored with, [batch, step] each."""

    scaled_return: Float[Tensor, "batch step"]
    """y/σ; 0 where unknown."""
    inverse_sigma: Float[Tensor, "batch step"]
    """1/σ; 0 where σ is unknown, so nothing is held there."""
    cost_rate: Float[Tensor, "batch step"]
    """κ, fraction of notional."""
    bears_loss: Bool[Tensor, "batch step"]


def net_returns(
    z: Float[Tensor, "batch step"], targets: Targets, cost_factor: float
) -> Float[Tensor, "batch step"]:
    """z_t·y_t/σ_t − γ·κ_t·|z_t/σ_t − z_{t−1}/σ_{t−1}|, the step before the window being flat.

    Source:
        Eq. 2, divided by the volatility target.
    """
    gross = z * targets.scaled_return
    if cost_factor == 0.0:
        return gross
    held = z * targets.inverse_sigma
    before = torch.nn.functional.pad(held[:, :-1], (1, 0))
    return gross - cost_factor * targets.cost_rate * (held - before).abs()


def sharpe_loss(returns: Float[Tensor, " pair"]) -> Tensor:
    """−√252 · mean/std over all pairs (population standard deviation).

    Source:
        Eq. 8, Ω being the loss-bearing pairs of the minibatch.
    """
    spread = (returns.var(correction=0) + VARIANCE_FLOOR).sqrt()
    return -(TRADING_DAYS_PER_YEAR**0.5) * returns.mean() / spread


def gaussian_nll(
    mu: Float[Tensor, " pair"], sigma: Float[Tensor, " pair"], y: Float[Tensor, " pair"]
) -> Tensor:
    """Mean negative log likelihood of N(μ, σ²), the constant included."""
    return (0.5 * LOG_2PI + sigma.log() + 0.5 * ((y - mu) / sigma) ** 2).mean()


def pinball(quantiles: Float[Tensor, "pair quantile"], y: Float[Tensor, " pair"]) -> Tensor:
    """Quantile loss, summed over the 13 quantiles, averaged over pairs."""
    level = torch.tensor(QUANTILES, dtype=quantiles.dtype, device=quantiles.device)
    miss = y[:, None] - quantiles
    return torch.maximum(level * miss, (level - 1.0) * miss).sum(dim=1).mean()


def training_loss(
    output: HeadOutput, targets: Targets, *, cost_factor: float, mle_weight: float
) -> Tensor:
    """Sharpe loss of the net returns, plus α times the likelihood part of the head."""
    where = targets.bears_loss
    z = output.z if output.z.dtype == torch.float64 else output.z.float()
    loss = sharpe_loss(net_returns(z, targets, cost_factor)[where])
    y = targets.scaled_return[where]
    if output.mu is not None and output.sigma is not None:
        loss = loss + mle_weight * gaussian_nll(output.mu[where], output.sigma[where], y)
    if output.quantiles is not None:
        loss = loss + mle_weight * pinball(output.quantiles[where], y)
    return loss
