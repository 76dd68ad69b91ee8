"""Attention over contexts: self-attention among them, then each target step attends to them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tft_core.models.blocks import FFN
from tft_core.models.dropout import Dropout


class MultiHeadAttention(nn.Module):
    """Att(Q, K, V): scaled dot-product attention in ``n_heads`` heads of d/n_heads each.

    A query that may attend to nothing gets weight 0 everywhere.

    Source:
        Vaswani et al. 2017, eq. 1 and §3.2.2.
    """

    def __init__(self, d_hidden: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.d_head = n_heads, d_hidden // n_heads
        self.query = nn.Linear(d_hidden, d_hidden)
        self.key = nn.Linear(d_hidden, d_hidden)
        self.value = nn.Linear(d_hidden, d_hidden)
        self.out = nn.Linear(d_hidden, d_hidden)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        q: Float[Tensor, "batch query hidden"],
        k: Float[Tensor, "batch context hidden"],
        v: Float[Tensor, "batch context hidden"],
        may_attend: Bool[Tensor, "batch context"],
    ) -> tuple[Float[Tensor, "batch query hidden"], Float[Tensor, "batch head query context"]]:
        """The mixed values, and the weights they were mixed with (before dropout)."""
        queries, keys = self._heads(self.query(q)), self._heads(self.key(k))
        scores = queries @ keys.transpose(-1, -2) * self.d_head**-0.5
        allowed = may_attend[:, None, None, :]
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1) * allowed
        mixed = self.dropout(weights) @ self._heads(self.value(v))
        return self.out(mixed.transpose(1, 2).flatten(2)), weights

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, self.d_head)).transpose(1, 2)


class ContextMixer(nn.Module):
    """V' = FFN₁∘Att₁(V, V, V): the contexts' values look at one another.

    Source:
        Eq. 17.
    """

    def __init__(self, d_hidden: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_hidden, n_heads, dropout)
        self.ffn = FFN(d_hidden, d_hidden, d_hidden, dropout=dropout)

    def forward(
        self,
        values: Float[Tensor, "batch context hidden"],
        may_attend: Bool[Tensor, "batch context"],
    ) -> Float[Tensor, "batch context hidden"]:
        """``may_attend`` is False where a target has fewer contexts: what stands there is void."""
        return self.ffn(self.attention(values, values, values, may_attend)[0])


class CrossAttention(nn.Module):
    """y = LN∘FFN₂∘Att₂(q, K, V'); 0 for a target with no eligible context.

    Source:
        Eq. 18.
    """

    def __init__(self, d_hidden: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_hidden, n_heads, dropout)
        self.ffn = FFN(d_hidden, d_hidden, d_hidden, dropout=dropout)
        self.norm = nn.LayerNorm(d_hidden)

    def forward(
        self,
        q: Float[Tensor, "batch query hidden"],
        keys: Float[Tensor, "batch context hidden"],
        values: Float[Tensor, "batch context hidden"],
        may_attend: Bool[Tensor, "batch context"],
    ) -> tuple[Float[Tensor, "batch query hidden"], Float[Tensor, "batch head query context"]]:
        """y, and the attention weights of each head.

        Args:
            values: V', after the contexts' self-attention.
        """
        mixed, weights = self.attention(q, keys, values, may_attend)
        y = self.norm(self.ffn(mixed))
        has_any = may_attend.any(dim=1)[:, None, None]
        return y * has_any, weights
