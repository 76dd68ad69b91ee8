"""Variable selection networks: from a row of V features to one hidden vector.

Three forms behind one interface; all are static-shape sums over variables in a folded form
that never holds a [row, variable, hidden] tensor of width d. A linear projection stands in
where a network is to do without.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tft_core.errors import ModelError
from tft_core.models.blocks import FFN, GRN
from tft_core.models.config import VsnForm
from tft_core.models.dropout import Dropout
from tft_core.models.folded import FoldedBatch, Shown, contribution_scale, hidden_units

MOMENTUM = 0.05


class VariableSelection(nn.Module, ABC):
    """Rows come in groups, one per asset of the minibatch: group g has the entity ``side[g]``."""

    n_variables: int
    reads_entity: bool
    """Whether a row's output depends on its asset's embedding."""

    @abstractmethod
    def forward(
        self,
        x: Float[Tensor, "row variable"],
        group: Int[Tensor, " row"],
        side: Float[Tensor, "group hidden"],
        is_real: Bool[Tensor, " row"] | None = None,
    ) -> Float[Tensor, "row hidden"]:
        """``is_real`` is False for rows that count in no statistic; ``None``: all count."""

    @abstractmethod
    def weights(
        self,
        x: Float[Tensor, "row variable"],
        group: Int[Tensor, " row"],
        side: Float[Tensor, "group hidden"],
    ) -> Float[Tensor, "row variable"]:
        """Selection weights of each row; they sum to one over the variables."""

    def penalty(self) -> Tensor | None:
        """What the form adds to the loss, before λ; ``None`` for nothing."""
        return None


class IdentifiedSelection(VariableSelection):
    """Static weights on normalised contributions, so that a weight is a share of the output.

        h_j = ELU(a_j x_j + c_j),  μ_j = E[h_j],  C_j = Cov[h_j]  (batch; running in evaluation)
        s_j = √(tr(W2_jᵀ C_j W2_j) + 1e-6),  f̂_j = W2_jᵀ(h_j − μ_j)/s_j
        w_j = relu(u_j),  z = Σ_j (w_j/√V)·m_j/(1−p)·f̂_j + b,  m_j ~ Bernoulli(1−p) per group
        penalty = max(0, mean_j w_j − 1/√V)

    Running averages use momentum .05, and the plain average of the first 20 batches.

    Source:
        ``reference/vsn.md`` of the project's notes, with four changes, each measured in
        ``docs/EXPERIMENTS.md``. Masks are drawn per variable and asset of a minibatch instead
        of per sequence, so that a row shared by windows is encoded once. The scale is 1/√V in
        place of 1/V: z starts with unit norm whatever V, where 1/V leaves it so small that
        weights died before anything was learned. The penalty lets go once Σw is down to √V,
        so that on data without a signal it cannot close every gate. And slopes and shifts start
        in U(−½, ½) instead of U(−1, 1), which makes units nearly linear at first: a useless
        variable then finds fewer accidents of the sample to fit.
    """

    reads_entity = False

    def __init__(self, n_variables: int, hidden: int, d_out: int, dropout: float) -> None:
        super().__init__()
        self.n_variables, self.dropout = n_variables, dropout
        self.slope = nn.Parameter(torch.empty(n_variables, hidden).uniform_(-0.5, 0.5))
        self.shift = nn.Parameter(torch.empty(n_variables, hidden).uniform_(-0.5, 0.5))
        bound = hidden**-0.5
        self.mix = nn.Parameter(torch.empty(n_variables, hidden, d_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(d_out))
        self.u = nn.Parameter(torch.ones(n_variables))
        self.running_mean: Tensor
        self.running_cov: Tensor
        self.n_batches: Tensor
        self.register_buffer("running_mean", torch.zeros(n_variables, hidden))
        self.register_buffer("running_cov", torch.zeros(n_variables, hidden, hidden))
        self.register_buffer("n_batches", torch.zeros((), dtype=torch.int64))

    def forward(
        self, x: Tensor, group: Tensor, side: Tensor, is_real: Tensor | None = None
    ) -> Tensor:
        alive = self._alive()
        slope, shift, mix, gain = self.slope, self.shift, self.mix, self._gain()
        mean, cov, xt = self.running_mean, self.running_cov, x.t()
        if alive is not None:
            slope, shift, mix, gain = slope[alive], shift[alive], mix[alive], gain[alive]
            mean, cov, xt = mean[alive], cov[alive], xt[alive]
        xt = xt.contiguous()
        if self.training and len(x):  # a minibatch without eligible contexts has no statistics
            shown = self._draw(group, len(side), alive)
            out, mean, cov = FoldedBatch.apply(xt, slope, shift, mix, gain, shown, is_real)
            self._update(mean, cov, alive)
        else:
            h = hidden_units(xt, slope, shift)
            folded = mix * (gain / contribution_scale(mix, mean, cov))[:, None, None]
            centre = (folded * mean[:, :, None]).sum((0, 1))
            out = h.flatten(0, 1).t() @ folded.flatten(0, 1) - centre
        return out + self.bias

    def weights(self, x: Tensor, group: Tensor, side: Tensor) -> Tensor:
        return self.static_weights().expand(len(x), -1)

    def static_weights(self) -> Float[Tensor, " variable"]:
        """v_j = w_j/Σw; NaN when every weight has been driven to zero."""
        w = F.relu(self.u.detach())
        return w / w.sum()

    def contribution(self, x: Float[Tensor, " row"], variable: int) -> Float[Tensor, "row hidden"]:
        """What one variable adds to the output in evaluation: (w_j/√V)·f̂_j(x)."""
        one = slice(variable, variable + 1)
        mix, mean, cov = self.mix[one], self.running_mean[one], self.running_cov[one]
        h = hidden_units(x[None], self.slope[one], self.shift[one])[0]
        gain = self._gain()[variable]
        return gain / contribution_scale(mix, mean, cov) * ((h - mean[0][:, None]).t() @ mix[0])

    def penalty(self) -> Tensor:
        """max(0, mean_j w_j − 1/√V)."""
        return F.relu(F.relu(self.u).mean() - self.n_variables**-0.5)

    @torch.no_grad()
    def clamp(self, floor: float | Tensor) -> None:
        """Keep u at or above a floor: relu(0) has no gradient and never comes back."""
        self.u.clamp_(min=floor)

    def _gain(self) -> Float[Tensor, " variable"]:
        """w/√V."""
        return F.relu(self.u) / self.n_variables**0.5

    def _alive(self) -> Tensor | None:
        """Variables whose weight isn't zero, when leaving out the rest pays.

        A weight at zero has zero output and zero gradient for good, so this changes no result.
        """
        if self.u.device.type != "cpu":
            return None
        alive = torch.nonzero(self.u.detach() > 0.0).squeeze(1)
        return alive if len(alive) < 0.9 * self.n_variables else None

    def _draw(
        self, group: Int[Tensor, " row"], n_groups: int, alive: Tensor | None
    ) -> Shown | None:
        """m of every row: one draw per variable and group."""
        if self.dropout == 0.0:
            return None
        share = 1.0 - self.dropout
        drawn = torch.rand(n_groups, self.n_variables, device=group.device) < share
        return Shown(drawn if alive is None else drawn[:, alive], share, group)

    @torch.no_grad()
    def _update(self, mean: Tensor, cov: Tensor, alive: Tensor | None) -> None:
        self.n_batches += 1
        momentum = torch.clamp(1.0 / self.n_batches, min=MOMENTUM).to(mean.dtype)
        for running, now in ((self.running_mean, mean), (self.running_cov, cov)):
            if alive is None:
                running.lerp_(now, momentum)
            else:
                running[alive] = running[alive].lerp(now, momentum)


class PaperSelection(VariableSelection):
    """w = Softmax(FFN(x, s)), VSN(x) = Σ_j w_j FFN_j(x_j), FFN_j: R → R^d without side input.

    Folded: hidden units are scaled by w and meet one GEMM of [row, V·h] × [V·h, d].

    Source:
        X-Trend eq. 13; the fold is xtrend.md §4.3.
    """

    reads_entity = True

    def __init__(
        self, n_variables: int, hidden: int, d_out: int, d_side: int, dropout: float
    ) -> None:
        super().__init__()
        self.n_variables = n_variables
        self.weight_net = FFN(n_variables, d_out, n_variables, d_side=d_side, dropout=dropout)
        self.slope = nn.Parameter(torch.empty(n_variables, hidden).uniform_(-1.0, 1.0))
        self.shift = nn.Parameter(torch.empty(n_variables, hidden).uniform_(-1.0, 1.0))
        bound = hidden**-0.5
        self.mix = nn.Parameter(torch.empty(n_variables, hidden, d_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_variables, d_out))

    def forward(
        self, x: Tensor, group: Tensor, side: Tensor, is_real: Tensor | None = None
    ) -> Tensor:
        w = self.weights(x, group, side)
        xt = x.t().contiguous()
        h = hidden_units(xt, self.slope, self.shift)
        scaled = (h * w.t()[:, None]).flatten(0, 1)
        return scaled.t() @ self.mix.flatten(0, 1) + w @ self.bias

    def weights(self, x: Tensor, group: Tensor, side: Tensor) -> Tensor:
        return torch.softmax(self.weight_net(x, side.index_select(0, group)), dim=-1)


class GrnSelection(VariableSelection):
    """One GRN per variable, weights from a GRN over all embedded variables and the entity.

    The V networks run as batched products, not as a loop.

    Source:
        Lim et al. 2021, Temporal Fusion Transformers, §4.2 (eq. 6–8).
    """

    reads_entity = True

    def __init__(
        self, n_variables: int, hidden: int, d_out: int, d_side: int, dropout: float
    ) -> None:
        super().__init__()
        self.n_variables = n_variables

        def uniform(*shape: int, fan_in: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-(fan_in**-0.5), fan_in**-0.5))

        v, h, d = n_variables, hidden, d_out
        self.embed_slope, self.embed_shift = uniform(v, 1, h, fan_in=1), uniform(v, 1, h, fan_in=1)
        self.fc1, self.fc1_bias = uniform(v, h, h, fan_in=h), uniform(v, 1, h, fan_in=h)
        self.fc2, self.fc2_bias = uniform(v, h, h, fan_in=h), uniform(v, 1, h, fan_in=h)
        self.gate, self.gate_bias = uniform(v, h, 2 * d, fan_in=h), uniform(v, 1, 2 * d, fan_in=h)
        self.skip, self.skip_bias = uniform(v, h, d, fan_in=h), uniform(v, 1, d, fan_in=h)
        self.gain = nn.Parameter(torch.ones(v, 1, d))
        self.offset = nn.Parameter(torch.zeros(v, 1, d))
        self.weight_net = GRN(v * h, d, v, d_side=d_side, dropout=dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, group: Tensor, side: Tensor, is_real: Tensor | None = None
    ) -> Tensor:
        e = self._embed(x)
        inner = F.elu(torch.baddbmm(self.fc1_bias, e, self.fc1))
        inner = self.dropout(torch.baddbmm(self.fc2_bias, inner, self.fc2))
        gated = F.glu(torch.baddbmm(self.gate_bias, inner, self.gate), dim=-1)
        summed = torch.baddbmm(self.skip_bias, e, self.skip) + gated
        xi = F.layer_norm(summed, summed.shape[-1:])
        w = self._weights(e, group, side)
        return torch.einsum("nv,vnd->nd", w, xi * self.gain + self.offset)

    def weights(self, x: Tensor, group: Tensor, side: Tensor) -> Tensor:
        return self._weights(self._embed(x), group, side)

    def _embed(self, x: Tensor) -> Float[Tensor, "variable row unit"]:
        return torch.addcmul(self.embed_shift, self.embed_slope, x.t()[:, :, None])

    def _weights(self, e: Tensor, group: Tensor, side: Tensor) -> Tensor:
        flat = e.transpose(0, 1).flatten(1)
        return torch.softmax(self.weight_net(flat, side.index_select(0, group)), dim=-1)


class LinearProjection(VariableSelection):
    """W x + b: what the rivals without variable selection have in its place."""

    reads_entity = False

    def __init__(self, n_variables: int, d_out: int) -> None:
        super().__init__()
        self.n_variables = n_variables
        self.linear = nn.Linear(n_variables, d_out)

    def forward(
        self, x: Tensor, group: Tensor, side: Tensor, is_real: Tensor | None = None
    ) -> Tensor:
        return self.linear(x)

    def weights(self, x: Tensor, group: Tensor, side: Tensor) -> Tensor:
        """Refused: a coefficient is no selection weight.

        Raises:
            ModelError: Always.
        """
        raise ModelError(
            "selection weights must come from a variable selection network, found vsn none; ask "
            "for integrated gradients, or set model.vsn to identified, paper or tft"
        )


def make_selection(
    form: VsnForm,
    n_variables: int,
    hidden: int,
    d_hidden: int,
    *,
    dropout: float,
    variable_dropout: float,
) -> VariableSelection:
    """The selection network of a form."""
    if form == "none":
        return LinearProjection(n_variables, d_hidden)
    if form == "identified":
        return IdentifiedSelection(n_variables, hidden, d_hidden, variable_dropout)
    if form == "paper":
        return PaperSelection(n_variables, hidden, d_hidden, d_hidden, dropout)
    return GrnSelection(n_variables, hidden, d_hidden, d_hidden, dropout)
