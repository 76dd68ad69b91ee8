"""Building blocks of X-Trend: FFN with side information, encoder, decoder, gated residual.

Equation numbers are those of arXiv 2310.10500v2.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from tft_core.models.dropout import Dropout


class FFN(nn.Module):
    """FFN(h, s) = Linear₃ ∘ ELU(Linear₁(h) + Linear₂(Embedding(s))).

    Source:
        Eq. 12. Without side information Linear₂ is absent.
    """

    def __init__(
        self,
        d_in: int,
        d_hidden: int,
        d_out: int,
        *,
        d_side: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.linear1 = nn.Linear(d_in, d_hidden)
        self.linear2 = None if d_side is None else nn.Linear(d_side, d_hidden, bias=False)
        self.linear3 = nn.Linear(d_hidden, d_out)
        self.dropout = Dropout(dropout)

    def forward(
        self, h: Float[Tensor, "*row d_in"], side: Float[Tensor, "*row_or_one d_side"] | None = None
    ) -> Float[Tensor, "*row d_out"]:
        """``side`` is the embedded entity, broadcast against ``h``."""
        a = self.linear1(h)
        if self.linear2 is not None and side is not None:
            a = a + self.linear2(side)
        return self.linear3(self.dropout(F.elu(a)))


class EntityLSTM(nn.Module):
    """LSTM whose first state is made from the entity: (h₀, c₀) = (FFN₃∘Emb(s), FFN₄∘Emb(s)).

    A sequence shorter than its window starts from that state at its first real step: padding
    in front of it is skipped, not read.

    Source:
        The LSTM of eq. 14 and its first state (§1.3 of the reference).
    """

    def __init__(self, d_hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers, self.d_hidden = layers, d_hidden
        self.initial_h = FFN(d_hidden, d_hidden, layers * d_hidden)
        self.initial_c = FFN(d_hidden, d_hidden, layers * d_hidden)
        self.lstm = nn.LSTM(
            d_hidden, d_hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0
        )
        self.dropout = Dropout(self.lstm.dropout)

    def forward(
        self,
        x: Float[Tensor, "batch step hidden"],
        entity: Float[Tensor, "batch hidden"],
        n_padding: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch step hidden"]:
        """``n_padding`` steps stand before each sequence's first; ``None``: before none's."""
        shape = (len(x), self.layers, self.d_hidden)
        h0 = self.initial_h(entity).view(shape).transpose(0, 1).contiguous()
        c0 = self.initial_c(entity).view(shape).transpose(0, 1).contiguous()
        if n_padding is None:
            return self._run(x, h0, c0)
        # the LSTM is causal: move the real steps to the front, then put their states back
        return _moved(self._run(_moved(x, n_padding), h0, c0), -n_padding)

    def _run(self, x: Tensor, h0: Tensor, c0: Tensor) -> Float[Tensor, "batch step hidden"]:
        """The LSTM; in training on a CPU layer by layer, for the sake of our own dropout."""
        if not self.training or self.layers == 1 or x.device.type != "cpu":
            return self.lstm(x, (h0, c0))[0]
        h = x.transpose(0, 1)
        for layer, weights in enumerate(self.lstm.all_weights):
            first = (h0[layer : layer + 1], c0[layer : layer + 1])
            h = h if layer == 0 else self.dropout(h)
            h = torch.lstm(h, first, tuple(weights), True, 1, 0.0, True, False, False)[0]
        return h.transpose(0, 1)


def _moved(
    x: Float[Tensor, "batch step hidden"], by: Int[Tensor, " batch"]
) -> Float[Tensor, "batch step hidden"]:
    """Step k of the result is step k + by of each sequence; the nearest one beyond the ends."""
    n_batch, length, _ = x.shape
    step = torch.arange(length, device=x.device) + by[:, None]
    start = torch.arange(n_batch, device=x.device)[:, None] * length
    return F.embedding(step.clamp(0, length - 1) + start, x.flatten(0, 1))


class SequenceBlock(nn.Module):
    """x' ↦ LN(FFN₂(a, s) + a) with a = LN(LSTM(x') + x'): the body of encoder and decoder.

    Source:
        Eq. 14, and the second half of eq. 19.
    """

    def __init__(self, d_hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.lstm = EntityLSTM(d_hidden, layers, dropout)
        self.ffn = FFN(d_hidden, d_hidden, d_hidden, d_side=d_hidden, dropout=dropout)
        self.norm_lstm = nn.LayerNorm(d_hidden)
        self.norm_ffn = nn.LayerNorm(d_hidden)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch step hidden"],
        entity: Float[Tensor, "batch hidden"],
        n_padding: Int[Tensor, " batch"] | None = None,
        *,
        last_only: bool = False,
    ) -> Float[Tensor, "batch step hidden"]:
        """``last_only`` returns the last step alone, at the cost of one."""
        h = self.lstm(x, entity, n_padding)
        if last_only:
            h, x = h[:, -1:], x[:, -1:]
        a = self.norm_lstm(self.dropout(h) + x)
        return self.norm_ffn(self.ffn(a, entity[:, None]) + a)


class Decoder(nn.Module):
    """x' = LN∘FFN₁∘Concat(VSN(x), y), then the sequence block.

    Without contexts there is no y: x' = LN∘FFN₁∘VSN(x).

    Source:
        Eq. 19.
    """

    def __init__(self, d_hidden: int, layers: int, dropout: float, *, has_context: bool) -> None:
        super().__init__()
        d_in = 2 * d_hidden if has_context else d_hidden
        self.merge = FFN(d_in, d_hidden, d_hidden, dropout=dropout)
        self.norm_merge = nn.LayerNorm(d_hidden)
        self.body = SequenceBlock(d_hidden, layers, dropout)

    def forward(
        self,
        x: Float[Tensor, "batch step hidden"],
        y: Float[Tensor, "batch step hidden"] | None,
        entity: Float[Tensor, "batch hidden"],
        n_padding: Int[Tensor, " batch"] | None = None,
        *,
        last_only: bool = False,
    ) -> Float[Tensor, "batch step hidden"]:
        """Ξ_Dec of every step; see ``SequenceBlock.forward`` for the other arguments.

        Args:
            x: VSN and side path of the target's steps.
            y: What the target found in its contexts (eq. 18); ``None`` without contexts.
        """
        joined = x if y is None else torch.cat([x, y], dim=-1)
        merged = self.norm_merge(self.merge(joined))
        return self.body(merged, entity, n_padding, last_only=last_only)


class GRN(nn.Module):
    """Gated residual network: LN(skip(x) + GLU(W₁ ELU(W₂ x + W₃ c))).

    Source:
        Lim et al. 2021, Temporal Fusion Transformers, eq. 2–4.
    """

    def __init__(
        self, d_in: int, d_hidden: int, d_out: int, *, d_side: int, dropout: float
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(d_in, d_hidden)
        self.side = nn.Linear(d_side, d_hidden, bias=False)
        self.fc2 = nn.Linear(d_hidden, d_hidden)
        self.gate = nn.Linear(d_hidden, 2 * d_out)
        self.skip = nn.Linear(d_in, d_out) if d_in != d_out else nn.Identity()
        self.norm = nn.LayerNorm(d_out)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "row d_in"], side: Float[Tensor, "row d_side"]
    ) -> Float[Tensor, "row d_out"]:
        inner = self.fc2(F.elu(self.fc1(x) + self.side(side)))
        return self.norm(self.skip(x) + F.glu(self.gate(self.dropout(inner)), dim=-1))
