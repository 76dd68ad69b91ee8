"""The training step of the identified VSN as one differentiable operation.

Autograd over the same formulas gives the same numbers (a test compares them); written out,
the gradient needs one product with the covariance instead of two and fewer passes over memory.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

VARIANCE_FLOOR = 1e-6
CONSTANT_SHARE = 1e-5
"""Variance, as a share of the second moment, below which float32 cannot tell it from 0."""


def hidden_units(
    x: Float[Tensor, "variable row"],
    slope: Float[Tensor, "variable unit"],
    shift: Float[Tensor, "variable unit"],
) -> Float[Tensor, "variable unit row"]:
    """h_j = ELU(a_j x_j + c_j)."""
    return F.elu_(torch.addcmul(shift[:, :, None], slope[:, :, None], x[:, None, :]))


def contribution_scale(
    mix: Float[Tensor, "variable unit hidden"],
    mean: Float[Tensor, "variable unit"],
    cov: Float[Tensor, "variable unit unit"],
) -> Float[Tensor, " variable"]:
    """s_j = √(tr(W2_jᵀ C_j W2_j) + 1e-6); infinite for a variable that is constant.

    E[h hᵀ] − μ μᵀ of a constant is round-off, which may be negative, and dividing by it would
    turn noise into gradients. An infinite scale gives such a variable no say and no gradient.
    """
    square = ((cov @ mix) * mix).sum((1, 2))
    second_moment = cov.diagonal(dim1=1, dim2=2) + mean.square()
    power = (mix.square().sum(2) * second_moment).sum(1)
    # no second moment at all: statistics were never taken (an untrained network), or h is 0
    varies = (square > CONSTANT_SHARE * power) | (power == 0.0)
    return torch.where(varies, (F.relu(square) + VARIANCE_FLOOR).sqrt(), torch.inf)


class FoldedBatch(torch.autograd.Function):
    """out_n = Σ_j m_nj·(k_j/s_j)·W2_jᵀ(h_nj − μ_j), with μ, C, s of this batch.

    Also returns μ and C, which carry no gradient. ``shown`` is m, or ``None`` for all ones;
    rows that are not ``is_real`` (``None``: all are) count in neither μ nor C.

    Under autocast it stays in float32: a variance is a small difference of large numbers.

    Every h_nj carries a constant 1 as one more unit. Then one product of h with itself holds
    μ beside E[h hᵀ], the centring is one more row of the folded weights, and what flows back
    through μ and C is one product: fewer passes over h, which are what a step spends on.
    """

    @staticmethod
    @custom_fwd(device_type="cuda", cast_inputs=torch.float32)
    def forward(  # type: ignore[override]
        ctx: Any,
        x: Float[Tensor, "variable row"],
        slope: Float[Tensor, "variable unit"],
        shift: Float[Tensor, "variable unit"],
        mix: Float[Tensor, "variable unit hidden"],
        gain: Float[Tensor, " variable"],
        shown: Float[Tensor, "variable row"] | None,
        is_real: Bool[Tensor, " row"] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        h = x.new_empty(len(x), slope.shape[1] + 1, x.shape[1])
        torch.addcmul(shift[:, :, None], slope[:, :, None], x[:, None], out=h[:, :-1])
        F.elu_(h[:, :-1])
        h[:, -1] = 1.0
        n_rows = x.shape[1] if is_real is None else is_real.sum()
        counted = h if is_real is None else h * is_real
        moments = torch.bmm(counted, h.transpose(1, 2)) / n_rows
        mean = moments[:, :-1, -1].contiguous()
        cov = moments[:, :-1, :-1] - mean[:, :, None] * mean[:, None, :]
        scale = contribution_scale(mix, mean, cov)
        scaled = mix * (gain / scale)[:, None, None]
        folded = torch.cat([scaled, -(mean[:, None] @ scaled)], dim=1)
        seen = h if shown is None else h * shown[:, None]
        out = seen.flatten(0, 1).t() @ folded.flatten(0, 1)
        ctx.save_for_backward(x, h, seen, mix, gain, shown, is_real, mean, cov, scale, folded)
        ctx.mark_non_differentiable(mean, cov)
        return out, mean, cov

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cuda")
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, h, seen, mix, gain, shown, is_real, mean, cov, scale, folded = ctx.saved_tensors
        n_rows = h.shape[2] if is_real is None else is_real.sum()
        ratio = gain / scale
        # Σ_n m_nj h_nj g_nᵀ, whose last row is Σ_n m_nj g_n
        sums = (seen.flatten(0, 1) @ g.contiguous()).view_as(folded)
        g_shown = sums[:, -1:]
        t = sums[:, :-1] - mean[:, :, None] * g_shown
        d_ratio = (t * mix).sum((1, 2))
        d_square = -0.5 * d_ratio * ratio / scale.square()  # by s²
        d_mix = ratio[:, None, None] * t + 2.0 * d_square[:, None, None] * (cov @ mix)
        # through C = E[h hᵀ] − μ μᵀ and through the centring
        d_cov = (2.0 * d_square / n_rows)[:, None, None] * (mix @ mix.transpose(1, 2))
        d_mean = (folded[:, :-1] @ g_shown.transpose(1, 2)) / -n_rows - d_cov @ mean[:, :, None]
        through = torch.cat([d_cov, d_mean], dim=2)
        # through m h, one GEMM
        dh = (folded[:, :-1].flatten(0, 1) @ g.t()).view(*mix.shape[:2], h.shape[2])
        if shown is not None:
            dh.mul_(shown[:, None])
        if is_real is None:
            dh.baddbmm_(through, h)
        else:
            dh.add_(torch.bmm(through, h).mul_(is_real))
        dh = torch.ops.aten.elu_backward(dh, 1.0, 1.0, 1.0, True, h[:, :-1])
        line = torch.stack([x, torch.ones_like(x)], dim=2)
        d_slope, d_shift = torch.bmm(dh, line).unbind(2)
        return None, d_slope, d_shift, d_mix, d_ratio / scale, None, None
