"""The training step of the identified VSN as one differentiable operation.

Autograd over the same formulas gives the same numbers (a test compares them); written out,
the gradient needs one product with the covariance instead of two and fewer passes over memory.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

VARIANCE_FLOOR = 1e-6
CONSTANT_SHARE = 1e-5
"""Variance, as a share of the second moment, below which float32 cannot tell it from 0."""
CACHED_BYTES = 1 << 20
"""Hidden units worked on in one go on a CPU: what a core's cache holds."""


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


@dataclass(frozen=True, slots=True)
class Shown:
    """Which variables each group of rows shows: m, one draw per variable and group.

    No tuple: autocast would take one apart.
    """

    keep: Bool[Tensor, "group variable"]
    share: float
    """1 − p: what is kept is scaled by its inverse."""
    group: Int[Tensor, " row"]

    def by_row(self, dtype: torch.dtype) -> Float[Tensor, "variable row"]:
        """m/(1−p) of every row."""
        return (self.keep.to(dtype) / self.share).t().index_select(1, self.group)

    def pieces(self) -> "list[Piece] | None":
        """The rows of each group with the variables they show; ``None`` where groups are not
        runs of rows, or where looking would make a GPU wait."""
        if self.group.device.type != "cpu" or bool((self.group[1:] < self.group[:-1]).any()):
            return None
        counts = torch.bincount(self.group, minlength=len(self.keep)).tolist()
        found, first = [], 0
        for keep, count in zip(self.keep, counts, strict=True):
            if count:
                rows = slice(first, first + count)
                found.append(Piece(rows, torch.nonzero(keep).squeeze(1)))
            first += count
        return found


class Piece(NamedTuple):
    """Rows of one group and the variables they show."""

    rows: slice
    variables: Int[Tensor, " some_variable"]


class FoldedBatch(torch.autograd.Function):
    """out_n = Σ_j m_nj·(k_j/s_j)·W2_jᵀ(h_nj − μ_j), with μ, C, s of this batch.

    Also returns μ and C, which carry no gradient. ``shown`` is m, or ``None`` for all ones;
    rows that are not ``is_real`` (``None``: all are) count in neither μ nor C.

    Under autocast it stays in float32: a variance is a small difference of large numbers.

    Every h_nj carries a constant 1 as one more unit. Then one product of h with itself holds
    μ beside E[h hᵀ], the centring is one more row of the folded weights, and what flows back
    through μ and C is one product: fewer passes over h, which are what a step spends on.

    Where the rows of a group lie together, the products run group by group over the
    variables that it shows: with p = ½ that is half of their arithmetic, and no masked copy.
    """

    @staticmethod
    @custom_fwd(device_type="cuda", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        x: Float[Tensor, "variable row"],
        slope: Float[Tensor, "variable unit"],
        shift: Float[Tensor, "variable unit"],
        mix: Float[Tensor, "variable unit hidden"],
        gain: Float[Tensor, " variable"],
        shown: Shown | None,
        is_real: Bool[Tensor, " row"] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        h = x.new_empty(len(x), slope.shape[1] + 1, x.shape[1])
        moments = x.new_empty(len(x), h.shape[1], h.shape[1])
        line = F.pad(torch.stack([slope, shift], dim=2), (0, 0, 0, 1))
        line[:, -1, 1] = 1.0  # of the constant unit: ELU(0·x + 1)
        x_and_one = torch.stack([x, torch.ones_like(x)], dim=1)
        for some in _blocks(h):
            own = torch.bmm(line[some], x_and_one[some], out=h[some])
            _elu_(own)
            counted = own if is_real is None else own * is_real
            torch.bmm(counted, own.transpose(1, 2), out=moments[some])
        n_rows = x.shape[1] if is_real is None else is_real.sum()
        moments /= n_rows
        mean = moments[:, :-1, -1].contiguous()
        cov = moments[:, :-1, :-1] - mean[:, :, None] * mean[:, None, :]
        scale = contribution_scale(mix, mean, cov)
        scaled = mix * (gain / scale)[:, None, None]
        folded = torch.cat([scaled, -(mean[:, None] @ scaled)], dim=1)
        ctx.shown, ctx.pieces = None, None if shown is None else shown.pieces()
        if shown is None or ctx.pieces is None:
            ctx.shown = None if shown is None else shown.by_row(h.dtype)
            seen = [h if ctx.shown is None else h * ctx.shown[:, None]]
            out = seen[0].flatten(0, 1).t() @ folded.flatten(0, 1)
        else:
            ctx.share = shown.share
            seen = [h[:, :, p.rows].index_select(0, p.variables) for p in ctx.pieces]
            out = x.new_empty(x.shape[1], mix.shape[2])
            for p, part in zip(ctx.pieces, seen, strict=True):
                weights = folded.index_select(0, p.variables).flatten(0, 1)
                torch.mm(part.flatten(0, 1).t(), weights, out=out[p.rows])
            out.div_(ctx.share)
        ctx.save_for_backward(x_and_one, h, mix, gain, is_real, mean, cov, scale, folded, *seen)
        ctx.mark_non_differentiable(mean, cov)
        return out, mean, cov

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cuda")
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - torch names no arguments
        ctx: Any, g: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, ...]:
        x_and_one, h, mix, gain, is_real, mean, cov, scale, folded, *seen = ctx.saved_tensors
        n_rows = h.shape[2] if is_real is None else is_real.sum()
        ratio = gain / scale
        if ctx.pieces is not None:
            g = g / ctx.share
        # Σ_n m_nj h_nj g_nᵀ, whose last row is Σ_n m_nj g_n
        sums = _sums(seen, g, ctx.pieces, folded)
        g_shown = sums[:, -1:]
        t = sums[:, :-1] - mean[:, :, None] * g_shown
        d_ratio = (t * mix).sum((1, 2))
        d_square = -0.5 * d_ratio * ratio / scale.square()  # by s²
        d_mix = ratio[:, None, None] * t + 2.0 * d_square[:, None, None] * (cov @ mix)
        # through C = E[h hᵀ] − μ μᵀ and through the centring
        d_cov = (2.0 * d_square / n_rows)[:, None, None] * (mix @ mix.transpose(1, 2))
        d_mean = (folded[:, :-1] @ g_shown.transpose(1, 2)) / -n_rows - d_cov @ mean[:, :, None]
        through = torch.cat([d_cov, d_mean], dim=2)
        d_line = mix.new_empty(len(mix), 2, mix.shape[1])
        for some in _blocks(h):
            dh = torch.bmm(through[some], h[some])
            if is_real is not None:
                dh.mul_(is_real)
            if ctx.pieces is None:
                back = (folded[some, :-1].flatten(0, 1) @ g.t()).view_as(dh)
                dh.add_(back if ctx.shown is None else back.mul_(ctx.shown[some, None]))
            d_line[some] = _through_units(dh, h[some], x_and_one[some])
        if ctx.pieces is not None:
            for p, part in zip(ctx.pieces, seen, strict=True):
                weights = folded[:, :-1].index_select(0, p.variables)
                back = (weights.flatten(0, 1) @ g[p.rows].t()).view(
                    *weights.shape[:2], part.shape[2]
                )
                own = x_and_one[:, :, p.rows].index_select(0, p.variables)
                d_line.index_add_(0, p.variables, _through_units(back, part, own))
        d_slope, d_shift = d_line.unbind(1)
        return None, d_slope, d_shift, d_mix, d_ratio / scale, None, None


def _elu_(z: Tensor) -> None:
    """ELU in place. On a CPU as max(z, e^min(z, 0) − 1), which is within 6e-8 of it (float32)
    and takes a third of the time of ``F.elu_``, whose kernel computes expm1."""
    if z.device.type != "cpu":
        F.elu_(z)
        return
    torch.maximum(z, torch.clamp(z, max=0.0).exp_().sub_(1.0), out=z)


def _blocks(h: Float[Tensor, "variable unit row"]) -> list[slice]:
    """Variables whose hidden units stay in a core's cache from one operation to the next."""
    n, size = len(h), len(h)
    if h.device.type == "cpu":
        size = max(1, CACHED_BYTES // max(1, h.element_size() * h.shape[1] * h.shape[2]))
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]


def _sums(
    seen: list[Tensor], g: Float[Tensor, "row hidden"], pieces: list[Piece] | None, like: Tensor
) -> Float[Tensor, "variable unit hidden"]:
    """Σ_n m_nj h_nj g_nᵀ for every variable."""
    if pieces is None:
        return (seen[0].flatten(0, 1) @ g.contiguous()).view_as(like)
    total = torch.zeros_like(like)
    for p, part in zip(pieces, seen, strict=True):
        added = (part.flatten(0, 1) @ g[p.rows]).view(len(p.variables), *like.shape[1:])
        total.index_add_(0, p.variables, added)
    return total


def _through_units(
    dh: Float[Tensor, "variable unit row"],
    h: Float[Tensor, "variable unit_and_one row"],
    x_and_one: Float[Tensor, "variable 2 row"],
) -> Float[Tensor, "variable 2 unit"]:
    """Gradients of slope and shift from that of the hidden units, which is overwritten."""
    torch.ops.aten.elu_backward.grad_input(dh, 1.0, 1.0, 1.0, True, h[:, :-1], grad_input=dh)
    return torch.bmm(x_and_one, dh.transpose(1, 2))
