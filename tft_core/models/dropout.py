"""Dropout whose random numbers cost little on a CPU.

PyTorch's own dropout spends more on its Bernoulli draws than on anything else in a small
network. Here one 64-bit draw of the same generator decides over four numbers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 1 << 16
"""Equally likely values of the 16 bits that decide over one number."""
_LOW = -(1 << 63)


class Dropout(nn.Module):
    """Zeroes each number with probability ``p`` in training and scales up the rest.

    On the CPU ``p`` is rounded to 1/65536; the scale is that of the rounded value, so the
    expectation is kept exactly.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p, training=True)
        return x * keep_scale(x, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def keep_scale(like: Tensor, p: float) -> Tensor:
    """A tensor of ``like``'s shape and type: 0 with probability ``p``, else 1/(1 − p)."""
    n_kept = round((1.0 - p) * LEVELS)
    n = like.numel()
    # without bounds random_() leaves the sign bit 0
    words = torch.empty(-(-n // 4), dtype=torch.int64).random_(_LOW, None)
    bits = words.view(torch.int16)[:n].view(like.shape)
    return (bits < n_kept - LEVELS // 2).to(like.dtype).mul_(LEVELS / n_kept)
