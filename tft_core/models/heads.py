"""Output heads: from the decoder's state to a position, by itself or through a forecast.

PTP is the paper's "predictive to position" net: the position is learned from the forecast. The
three heads are those of §1.5 of the reference.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from tft_core.models.blocks import FFN
from tft_core.models.config import LossMode

QUANTILES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""H of X-Trend-Q (§1.5 of the reference)."""

SIGMA_FLOOR = 1e-3
"""Least standard deviation of a forecast, in daily volatilities."""


class HeadOutput(NamedTuple):
    """What a head says at every step; forecasts are of y/σ, absent ones ``None``."""

    z: Float[Tensor, "batch step"]
    """Position in (−1, 1)."""
    mu: Float[Tensor, "batch step"] | None = None
    sigma: Float[Tensor, "batch step"] | None = None
    quantiles: Float[Tensor, "batch step quantile"] | None = None
    """At the levels ``QUANTILES``; nothing keeps them from crossing."""


class PositionHead(nn.Module):
    """z = tanh(FFN(h)): X-Trend."""

    def __init__(self, d_hidden: int, dropout: float) -> None:
        super().__init__()
        self.ffn = FFN(d_hidden, d_hidden, 1, dropout=dropout)

    def forward(self, h: Float[Tensor, "batch step hidden"]) -> HeadOutput:
        return HeadOutput(z=torch.tanh(self.ffn(h)).squeeze(-1))


class GaussianHead(nn.Module):
    """(μ, σ) = FFN(h); z = PTP_G(μ, σ) = tanh(FFN(μ, σ)): X-Trend-G."""

    def __init__(self, d_hidden: int, dropout: float) -> None:
        super().__init__()
        self.ffn = FFN(d_hidden, d_hidden, 2, dropout=dropout)
        self.ptp = FFN(2, d_hidden, 1)

    def forward(self, h: Float[Tensor, "batch step hidden"]) -> HeadOutput:
        mu, raw = self.ffn(h).unbind(-1)
        sigma = F.softplus(raw) + SIGMA_FLOOR
        z = torch.tanh(self.ptp(torch.stack([mu, sigma], dim=-1))).squeeze(-1)
        return HeadOutput(z=z, mu=mu, sigma=sigma)


class QuantileHead(nn.Module):
    """13 quantiles = FFN(h); z = PTP_Q(quantiles) = tanh(FFN(quantiles)): X-Trend-Q."""

    def __init__(self, d_hidden: int, dropout: float) -> None:
        super().__init__()
        self.ffn = FFN(d_hidden, d_hidden, len(QUANTILES), dropout=dropout)
        self.ptp = FFN(len(QUANTILES), d_hidden, 1)

    def forward(self, h: Float[Tensor, "batch step hidden"]) -> HeadOutput:
        quantiles = self.ffn(h)
        return HeadOutput(z=torch.tanh(self.ptp(quantiles)).squeeze(-1), quantiles=quantiles)


def make_head(loss_mode: LossMode, d_hidden: int, dropout: float) -> nn.Module:
    """The head that a loss needs."""
    heads = {"sharpe": PositionHead, "joint_mle": GaussianHead, "joint_quantile": QuantileHead}
    return heads[loss_mode](d_hidden, dropout)
