"""The training step of the identified VSN as one differentiable operation.

Autograd over the same formulas gives the same numbers (a test compares them); written out,
the gradient needs one product with the covariance instead of two and reuses its buffers,
which takes a quarter off the step.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
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
    """

    @staticmethod
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
        h = hidden_units(x, slope, shift)
        counted = h if is_real is None else h * is_real
        n_rows = x.shape[1] if is_real is None else is_real.sum()
        mean = counted.sum(dim=2) / n_rows
        cov = torch.bmm(counted, h.transpose(1, 2)) / n_rows
        cov.sub_(mean[:, :, None] * mean[:, None, :])
        scale = contribution_scale(mix, mean, cov)
        folded = mix * (gain / scale)[:, None, None]
        centre = (folded * mean[:, :, None]).sum(1)
        seen = h if shown is None else h * shown[:, None]
        out = seen.flatten(0, 1).t() @ folded.flatten(0, 1)
        out -= centre.sum(0) if shown is None else shown.t() @ centre
        ctx.save_for_backward(x, h, mix, gain, shown, is_real, mean, cov, scale)
        ctx.mark_non_differentiable(mean, cov)
        return out, mean, cov

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, h, mix, gain, shown, is_real, mean, cov, scale = ctx.saved_tensors
        n_rows = h.shape[2] if is_real is None else is_real.sum()
        g = g.contiguous()
        ratio = gain / scale
        folded = mix * ratio[:, None, None]
        # ∂/∂(m h), one GEMM
        dh = (folded.flatten(0, 1) @ g.t()).view_as(h)
        if shown is None:
            seen, g_shown = h, g.sum(0)[None].expand(len(h), -1)
        else:
            seen, g_shown = h * shown[:, None], shown @ g
            dh.mul_(shown[:, None])
        # T_j = Σ_n m_nj (h_nj − μ_j) g_nᵀ
        t = (seen.flatten(0, 1) @ g).view_as(mix) - mean[:, :, None] * g_shown[:, None]
        d_ratio = (t * mix).sum((1, 2))
        d_gain = d_ratio / scale
        d_square = -0.5 * d_ratio * ratio / scale.square()  # by s²
        d_mix = ratio[:, None, None] * t + 2.0 * d_square[:, None, None] * (cov @ mix)
        # through C = E[h hᵀ] − μ μᵀ and through the centring
        d_cov = (2.0 * d_square / n_rows)[:, None, None] * (mix @ mix.transpose(1, 2))
        d_mean = -(folded * g_shown[:, None]).sum(2) / n_rows - (d_cov @ mean[:, :, None])[..., 0]
        if is_real is None:
            torch.baddbmm(dh, d_cov, h, out=dh)
            dh.add_(d_mean[:, :, None])
        else:
            dh.add_(torch.baddbmm(d_mean[:, :, None], d_cov, h).mul_(is_real))
        # ELU' = 1 where h > 0, else h + 1
        dh.mul_(torch.clamp(h, max=0.0).add_(1.0))
        d_slope = torch.bmm(dh, x[:, :, None])[..., 0]
        return None, d_slope, dh.sum(2), d_mix, d_gain, None, None
