"""Losses over loss-bearing (asset, session) pairs, in float32 or better.

All returns are in units of daily volatility: the common volatility target cancels in a
Sharpe ratio.
"""

import math
from functools import cache
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tft_core.models.heads import QUANTILES, HeadOutput
from tft_core.schema import TRADING_DAYS_PER_YEAR

VARIANCE_FLOOR = 1e-9
"""Added under the root of a Sharpe ratio, in squared daily volatilities: constant returns have a
ratio and a gradient."""
LOG_2PI = math.log(2.0 * math.pi)

SharpeLevel = Literal["pooled", "portfolio"]
"""``pooled``: one ratio over all (asset, session) pairs (the paper's) · ``portfolio``: over the
dates' mean returns, so that what diversifies counts."""


class Targets(NamedTuple):
    """What a minibatch is scored with, [batch, step] each."""

    scaled_return: Float[Tensor, "batch step"]
    """y/σ; 0 where unknown."""
    inverse_sigma: Float[Tensor, "batch step"]
    """1/σ; 0 where σ is unknown, so nothing is held there."""
    cost_rate: Float[Tensor, "batch step"]
    """κ, fraction of notional."""
    bears_loss: Bool[Tensor, "batch step"]
    date: Int[Tensor, "batch step"]
    """Date index of each step, in [0, n_dates); any value where no loss is borne."""
    n_dates: int
    """Dates of the calendar that ``date`` counts in."""


class LossTerms(NamedTuple):
    """What the loss is made of beside the returns themselves."""

    cost_factor: float | Tensor = 0.0
    """γ: share of each instrument's cost that is charged; 0 leaves costs out."""
    mle_weight: float = 0.0
    """α: weight of the head's likelihood or pinball part."""
    smooth: float = 1.0
    """Share of the new output in a held position, as ``PositionConfig.position_smooth``."""
    level: SharpeLevel = "pooled"
    softmin_weight: float = 0.0
    softmin_temperature: float = 0.2
    """τ, in annualised Sharpe units."""
    block_dates: int = 21
    """Dates of one window of the SoftMin."""


def held_positions(z: Float[Tensor, "batch step"], smooth: float) -> Float[Tensor, "batch step"]:
    """p_t = p_{t−1} + s(z_t − p_{t−1}) along each window, starting flat.

    The recursion is linear, so it is one product with the matrix s(1−s)^{t−u}.
    """
    if smooth == 1.0:
        return z
    day = torch.arange(z.shape[1], device=z.device, dtype=z.dtype)
    age = day[:, None] - day[None, :]
    kernel = torch.where(age >= 0.0, smooth * (1.0 - smooth) ** age.clamp(min=0.0), 0.0)
    return z @ kernel.t()


def net_returns(
    p: Float[Tensor, "batch step"], targets: Targets, cost_factor: float | Tensor
) -> Float[Tensor, "batch step"]:
    """p_t·y_t/σ_t − γ·κ_t·|p_t/σ_t − p_{t−1}/σ_{t−1}|, the step before the window being flat.

    Source:
        Eq. 2, divided by the volatility target.
    """
    gross = p * targets.scaled_return
    if isinstance(cost_factor, float) and cost_factor == 0.0:
        return gross
    held = p * targets.inverse_sigma
    before = torch.nn.functional.pad(held[:, :-1], (1, 0))
    return gross - cost_factor * targets.cost_rate * (held - before).abs()


def masked_mean(values: Tensor, weight: Tensor, dim: int | None = None) -> Tensor:
    """Mean of the values whose weight is 1, without a shape that depends on the data (which
    would stop a GPU's queue)."""
    count = weight.sum(dim).clamp(min=1.0)
    return (values * weight).sum(dim) / count


def masked_sharpe(values: Tensor, weight: Tensor, dim: int | None = None) -> Tensor:
    """√252 · mean/std of the values whose weight is 1 (population standard deviation)."""
    mean = masked_mean(values, weight, dim)
    centred = values - (mean if dim is None else mean.unsqueeze(dim))
    spread = (masked_mean(centred.square(), weight, dim) + VARIANCE_FLOOR).sqrt()
    return TRADING_DAYS_PER_YEAR**0.5 * mean / spread


def sharpe_loss(
    returns: Float[Tensor, "batch step"], bears_loss: Bool[Tensor, "batch step"]
) -> Tensor:
    """−√252 · mean/std over all loss-bearing pairs.

    Source:
        Eq. 8, Ω being the loss-bearing pairs of the minibatch.
    """
    return -masked_sharpe(returns, bears_loss.to(returns.dtype))


def diversified_returns(
    returns: Float[Tensor, "batch step"], targets: Targets
) -> tuple[Float[Tensor, " date"], Float[Tensor, " date"]]:
    """Mean return of the minibatch's loss-bearing pairs on each date, and 1 where it has any."""
    weight = targets.bears_loss.to(returns.dtype).flatten()
    date = targets.date.flatten()
    empty = returns.new_zeros(targets.n_dates)
    total = empty.index_add(0, date, returns.flatten() * weight)
    count = empty.index_add(0, date, weight)
    return total / count.clamp(min=1.0), (count > 0).to(returns.dtype)


def softmin(values: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """−τ log mean exp(−x/τ) over the values whose weight is 1: close to the smallest of them.

    0 where no value counts: then there is nothing to lift.

    Source:
        DeePM (arXiv 2601.05975), the SoftMin over windows of its loss.
    """
    counts = weight > 0
    # an excluded value is so large that its exponential is 0, and has no gradient
    kept = torch.where(counts, values, torch.finfo(values.dtype).max / 1e6)
    total = torch.logsumexp(-kept / temperature, dim=0)
    smallest = -temperature * (total - weight.sum().clamp(min=1.0).log())
    return torch.where(counts.any(), smallest, 0.0)


def softmin_sharpe(
    portfolio: Float[Tensor, " date"], has_any: Float[Tensor, " date"], terms: LossTerms
) -> Tensor:
    """SoftMin of the Sharpe ratios of calendar blocks; blocks of one date have none."""
    n_blocks = -(-len(portfolio) // terms.block_dates)
    padding = n_blocks * terms.block_dates - len(portfolio)
    returns = torch.nn.functional.pad(portfolio, (0, padding)).view(n_blocks, -1)
    weight = torch.nn.functional.pad(has_any, (0, padding)).view(n_blocks, -1)
    by_block = masked_sharpe(returns, weight, dim=1)
    return softmin(by_block, (weight.sum(1) > 1).to(returns.dtype), terms.softmin_temperature)


def gaussian_nll(mu: Tensor, sigma: Tensor, y: Tensor) -> Tensor:
    """Negative log likelihood of N(μ, σ²) of each pair, the constant included.

    Source:
        L_MLE of X-Trend-G (§1.5 of the reference).
    """
    return 0.5 * LOG_2PI + sigma.log() + 0.5 * ((y - mu) / sigma) ** 2


@cache
def _levels(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The 13 levels, copied to a device once: a captured graph must not copy from the host."""
    return torch.tensor(QUANTILES, dtype=dtype, device=device)


def pinball(quantiles: Float[Tensor, "... quantile"], y: Float[Tensor, "..."]) -> Tensor:
    """Quantile loss of each pair, summed over the 13 quantiles.

    Source:
        L_MLE of X-Trend-Q (§1.5 of the reference).
    """
    level = _levels(quantiles.dtype, quantiles.device)
    miss = y[..., None] - quantiles
    return torch.maximum(level * miss, (level - 1.0) * miss).sum(dim=-1)


def training_loss(output: HeadOutput, targets: Targets, terms: LossTerms) -> Tensor:
    """Sharpe loss of the net returns, plus what ``terms`` adds to it.

    All sums run over fixed shapes with weights, so nothing here waits for a GPU.

    Source:
        L_Sharpe + α·L_MLE (§1.5 of the reference); costs, smoothing, the portfolio's ratio and
        the SoftMin are beyond the paper.
    """
    z = output.z if output.z.dtype == torch.float64 else output.z.float()
    # before an asset's first session nothing is held: what the network says there is no position
    held = held_positions(z * (targets.inverse_sigma > 0.0), terms.smooth)
    returns = net_returns(held, targets, terms.cost_factor)
    weight = targets.bears_loss.to(z.dtype)
    if terms.level == "portfolio" or terms.softmin_weight > 0.0:
        portfolio, has_any = diversified_returns(returns, targets)
        if terms.level == "portfolio":
            loss = -masked_sharpe(portfolio, has_any)
        else:
            loss = sharpe_loss(returns, targets.bears_loss)
        if terms.softmin_weight > 0.0:
            loss = loss - terms.softmin_weight * softmin_sharpe(portfolio, has_any, terms)
    else:
        loss = sharpe_loss(returns, targets.bears_loss)
    y = targets.scaled_return
    if output.mu is not None and output.sigma is not None:
        nll = gaussian_nll(output.mu.to(z.dtype), output.sigma.to(z.dtype), y)
        loss = loss + terms.mle_weight * masked_mean(nll, weight)
    if output.quantiles is not None:
        loss = loss + terms.mle_weight * masked_mean(
            pinball(output.quantiles.to(z.dtype), y), weight
        )
    return loss
