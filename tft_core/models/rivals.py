"""The simple models that X-Trend must beat, as configurations of the same network.

A rival is X-Trend with parts left out, so the training loop, ensembles, checkpoints and serving
treat it alike. Rules without training (12-month sign, MACD blend, long-only) are in
``tft_core.baselines``.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tft_core.errors import ConfigError
from tft_core.models.config import XTrendConfig
from tft_core.models.heads import HeadOutput

RIVALS: dict[str, dict[str, Any]] = {
    "vsn_lstm": {"context_mode": "none"},
    "lstm": {"context_mode": "none", "vsn": "none"},
    "linear": {
        "architecture": "linear",
        "context_mode": "none",
        "vsn": "none",
        "loss_mode": "sharpe",
    },
}
"""Rival → what it changes: the paper's baseline forecaster (decoder only), the same without
variable selection, and a linear map of each step's features."""


def rival(name: str, config: XTrendConfig) -> XTrendConfig:
    """The configuration of a rival that shares all else with ``config``.

    Raises:
        ConfigError: No rival has that name.
    """
    if name not in RIVALS:
        raise ConfigError(f"rival must be one of {', '.join(RIVALS)}, found {name!r}")
    return replace(config, **RIVALS[name])


class Memoryless(nn.Module):
    """In the decoder's place: each step as it was encoded, whatever came before."""

    def forward(
        self,
        x: Tensor,
        y: Tensor | None,
        entity: Tensor,
        n_padding: Tensor | None = None,
        *,
        last_only: bool = False,
    ) -> Tensor:
        return x[:, -1:] if last_only else x


class LinearHead(nn.Module):
    """z = tanh(h) of a state of width one."""

    def forward(self, h: Float[Tensor, "batch step 1"]) -> HeadOutput:
        return HeadOutput(z=torch.tanh(h).squeeze(-1))
