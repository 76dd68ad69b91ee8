"""The X-Trend network on flat rows: encode each row once, gather windows, attend, decode.

It knows tensors and row numbers inside a batch, nothing of dates or assets' names.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tft_core.errors import ModelError
from tft_core.models.attention import ContextMixer, CrossAttention
from tft_core.models.blocks import Decoder, SequenceBlock
from tft_core.models.config import LABEL_CLIP, XTrendConfig
from tft_core.models.heads import HeadOutput, make_head
from tft_core.models.rivals import LinearHead, Memoryless
from tft_core.models.variable_selection import (
    IdentifiedSelection,
    VariableSelection,
    make_selection,
)

ROLES = ("query", "key", "value", "decoder")
"""What a row is encoded for; without a shared VSN each has its own."""


class ContextRows(NamedTuple):
    """The contexts a batch shares, and which of them each target attends to."""

    # nobody asks this tuple where a value stands
    index: Int[Tensor, "pool step"]  # pyright: ignore[reportIncompatibleMethodOverride]
    """Into the batch's rows; N (one past the last row) is padding."""
    group: Int[Tensor, " pool"]
    choice: Int[Tensor, "batch context"]
    """Into the pool; −1 where a target has no further eligible context."""


class Batch(NamedTuple):
    """N unique rows and the windows over them."""

    x: Float[Tensor, "row feature"]
    coverage: Float[Tensor, " row"]
    label: Float[Tensor, " row"]
    """y/σ as contexts may show it; 0 where unknown. Read only through ``contexts``."""
    group: Int[Tensor, " row"]
    """Slot of the row's asset in ``entity``."""
    entity: Int[Tensor, " group"]
    """Embedding index of each asset of the batch; 0 is the unknown asset."""
    index: Int[Tensor, "batch step"]  # pyright: ignore[reportIncompatibleMethodOverride]
    """Target windows, into the rows; N is padding."""
    window_group: Int[Tensor, " batch"]
    target_part: Int[Tensor, " some_row"]
    """Rows that windows hold; N stands for none."""
    context_part: Int[Tensor, " other_row"]
    """Rows that contexts hold; N stands for none."""
    contexts: ContextRows | None = None
    is_real: Bool[Tensor, " row"] | None = None
    """False for rows that only fill a fixed shape; ``None``: all are real."""


class ContextBank(NamedTuple):
    """Encoded contexts that serve every prediction."""

    keys: Float[Tensor, "context step hidden"]
    """One step (the final state), or one per target step in mode ``time``."""
    values: Float[Tensor, "context step hidden"]
    """V' of eq. 17, after the contexts' self-attention."""
    available: Int[Tensor, " context"]
    """Days since 1970-01-01 from which on each context is known."""


class XTrend(nn.Module):
    """Embedding, VSN(s), encoders Ξ for query, key and value, attention, decoder, head.

    Source:
        X-Trend (arXiv 2310.10500v2) eq. 12–19. Beyond the paper: the row's coverage enters
        through a linear side path after the VSN. ``models/rivals.py`` leaves parts out.
    """

    def __init__(self, config: XTrendConfig) -> None:
        super().__init__()
        self.config = config
        is_linear = config.architecture == "linear"
        layers, dropout = config.lstm_layers, config.dropout
        self.d_rows = d = 1 if is_linear else config.d_hidden
        self.embedding = nn.Embedding(config.n_assets + 1, d, padding_idx=0)
        with torch.no_grad():
            self.embedding.weight.mul_(d**-0.5)
        self.selection = nn.ModuleDict(
            {role: self._make_selection(role) for role in self.selection_roles}
        )
        self.side = nn.ModuleDict(
            {role: nn.Linear(1, d, bias=False) for role in self.selection_roles}
        )
        if is_linear:
            self.decoder, self.head = Memoryless(), LinearHead()
        else:
            self.decoder = Decoder(d, layers, dropout, has_context=config.uses_context)
            self.head = make_head(config.loss_mode, d, dropout)
        if config.uses_context:
            self.query_encoder = SequenceBlock(d, layers, dropout)
            self.key_encoder = SequenceBlock(d, layers, dropout)
            self.value_encoder = SequenceBlock(d, layers, dropout)
            self.mixer = ContextMixer(d, config.n_heads, dropout)
            self.cross = CrossAttention(d, config.n_heads, dropout)
            if config.share_vsn:
                self.show_label = nn.Linear(1, d, bias=False)

    @property
    def selection_roles(self) -> tuple[str, ...]:
        """Names of the variable selection networks; the last one feeds the decoder."""
        if self.config.share_vsn:
            return ("shared",)
        return ROLES if self.config.uses_context else ("decoder",)

    @property
    def main_selection(self) -> VariableSelection:
        """The VSN that feeds the decoder: the one whose weights are reported."""
        module = self.selection[self.selection_roles[-1]]
        assert isinstance(module, VariableSelection)
        return module

    def selections(self) -> list[VariableSelection]:
        return [m for m in self.selection.values() if isinstance(m, VariableSelection)]

    def identified(self) -> list[IdentifiedSelection]:
        """The selection networks whose weights are parameters."""
        return [m for m in self.selection.values() if isinstance(m, IdentifiedSelection)]

    def side_weight(self, role: str) -> Float[Tensor, " hidden"]:
        """What a row's coverage is multiplied with."""
        side = self.side[role]
        assert isinstance(side, nn.Linear)
        return side.weight[:, 0]

    def target_entity(self, batch: Batch) -> Float[Tensor, "group hidden"]:
        """Embeddings of the batch's assets as targets; zero where the configuration removes them.

        Every use of an embedding is a Linear without bias or an FFN, so zero is "none".
        """
        embedded = self.embedding(batch.entity)
        return embedded if self.config.target_embedding else torch.zeros_like(embedded)

    def selection_weights(self, batch: Batch) -> Float[Tensor, "row feature"]:
        """Weights of the decoder's VSN for each row of the batch, with its own entity.

        Raises:
            ModelError: The network has no VSN.
        """
        return self.main_selection.weights(batch.x, batch.group, self.target_entity(batch))

    def penalty(self) -> Tensor | None:
        """λ times the identified networks' mean penalty; ``None`` for other forms."""
        parts = [p for m in self.selections() if (p := m.penalty()) is not None]
        return self.config.vsn_penalty * torch.stack(parts).mean() if parts else None

    def forward(self, batch: Batch, bank: ContextBank | None = None) -> HeadOutput:
        """A position at every step of every window."""
        return self.head(self.states(batch, bank)[0])

    def states(
        self, batch: Batch, bank: ContextBank | None = None, *, last_only: bool = False
    ) -> tuple[Float[Tensor, "batch step hidden"], Tensor | None]:
        """Decoder states Ξ_Dec and the attention weights over contexts, if there are any.

        Args:
            bank: Encoded contexts to use in place of the batch's own.
            last_only: Return the decoder's last step alone.
        """
        entity = self.target_entity(batch)
        if self.config.share_vsn:
            rows = self.encode_rows("shared", batch, entity)
            encoded: dict[str, Tensor] = dict.fromkeys(ROLES, rows)
        else:
            encoded = {role: self.encode_rows(role, batch, entity) for role in self._target_roles}
        if self.config.uses_context and bank is None:
            encoded |= self._encode_context_rows(batch, shared=encoded.get("key"))
        return self.states_from_rows(encoded, batch, entity, bank, last_only=last_only)

    def states_from_rows(
        self,
        encoded: dict[str, Float[Tensor, "row_plus_padding hidden"]],
        batch: Batch,
        entity: Float[Tensor, "group hidden"],
        bank: ContextBank | None,
        *,
        last_only: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The part after the VSN: what a permuted or perturbed encoding can be fed to.

        Args:
            entity: Embeddings of the batch's assets as targets.
        """
        who = entity.index_select(0, batch.window_group)
        padding = _padding(batch.index, len(batch.x))
        x = F.embedding(batch.index, encoded["decoder"])
        y, attention = None, None
        if self.config.uses_context:
            seen = x if self.config.share_vsn else F.embedding(batch.index, encoded["query"])
            q = self.query_encoder(seen, who, padding)
            if bank is not None:
                y, attention = self._attend_bank(q, bank)
            elif batch.contexts is not None:
                keys, values = self._encode_pool(encoded, batch, batch.contexts)
                y, attention = self._attend_pool(q, keys, values, batch.contexts.choice)
            else:
                raise ModelError(
                    f"context mode {self.config.context_mode} must be given contexts or a bank, "
                    "found neither"
                )
        return self.decoder(x, y, who, padding, last_only=last_only), attention

    def encode_rows(
        self, role: str, batch: Batch, entity: Float[Tensor, "group hidden"]
    ) -> Float[Tensor, "row_plus_padding hidden"]:
        """VSN and side path of every row; the last entry, for padding, is zero."""
        x, coverage, group, is_real = batch.x, batch.coverage, batch.group, batch.is_real
        part: Tensor | None = None
        if not self.config.share_vsn:
            part = batch.context_part if role in ("key", "value") else batch.target_part
            is_real = None if batch.is_real is None else part < len(batch.x)
            source = part.clamp(max=len(batch.x) - 1)
            x, coverage, group = x[source], coverage[source], group[source]
            if role == "value":
                label = batch.label[source, None].clamp(-LABEL_CLIP, LABEL_CLIP)
                x = torch.cat([x, label], dim=1)
        selected = self.selection[role](x, group, entity, is_real)
        rows = selected + coverage[:, None] * self.side_weight(role)
        if part is None:
            return F.pad(rows, (0, 0, 0, 1))
        empty = rows.new_zeros(len(batch.x) + 1, rows.shape[1])
        encoded = empty.index_copy(0, part, rows)
        # what a filled-up part wrote into the padding entry is undone
        return encoded if is_real is None else F.pad(encoded[:-1], (0, 0, 0, 1))

    def encode_bank(self, batch: Batch, available: Int[Tensor, " context"]) -> ContextBank:
        """Keys and mixed values of the batch's whole pool, as one context set."""
        if batch.contexts is None:
            raise ModelError("a context bank must be made from a batch with contexts, found none")
        encoded = self._encode_context_rows(batch)
        keys, values = self._encode_pool(encoded, batch, batch.contexts)
        everyone = torch.ones(1, len(keys), dtype=torch.bool, device=keys.device)
        by_step = values.transpose(0, 1)  # [step, context, hidden]
        mixed = self.mixer(by_step, everyone.expand(len(by_step), -1))
        return ContextBank(keys, mixed.transpose(0, 1).contiguous(), available)

    @property
    def _target_roles(self) -> tuple[str, ...]:
        """Separate selection networks that targets' rows go through."""
        return tuple(role for role in self.selection_roles if role in ("query", "decoder"))

    def _encode_context_rows(
        self, batch: Batch, shared: Tensor | None = None
    ) -> dict[str, Float[Tensor, "row_plus_padding hidden"]]:
        """Rows as keys and values, with the contexts' own entities.

        Args:
            shared: The shared VSN's encoding for targets, which serves here too unless the VSN
                reads an entity that targets don't have.
        """
        entity = self.embedding(batch.entity)
        if not self.config.share_vsn:
            return {role: self.encode_rows(role, batch, entity) for role in ("key", "value")}
        differs = self.main_selection.reads_entity and not self.config.target_embedding
        if shared is None or differs:
            shared = self.encode_rows("shared", batch, entity)
        return {"key": shared, "value": shared}

    def _make_selection(self, role: str) -> VariableSelection:
        config = self.config
        return make_selection(
            config.vsn,
            config.n_features + (role == "value"),
            config.vsn_hidden,
            self.d_rows,
            dropout=config.dropout,
            variable_dropout=config.vsn_dropout,
        )

    def _encode_pool(
        self,
        encoded: dict[str, Tensor],
        batch: Batch,
        contexts: ContextRows,
    ) -> tuple[Float[Tensor, "pool step hidden"], Float[Tensor, "pool step hidden"]]:
        who = self.embedding(batch.entity.index_select(0, contexts.group))
        padding = _padding(contexts.index, len(batch.x))
        shown = F.embedding(contexts.index, encoded["key"])
        if self.config.share_vsn:
            label = F.pad(batch.label, (0, 1)).clamp(-LABEL_CLIP, LABEL_CLIP)
            values_in = shown + self.show_label(label[contexts.index][..., None])
        else:
            values_in = F.embedding(contexts.index, encoded["value"])
        last = self.config.context_mode != "time"
        keys = self.key_encoder(shown, who, padding, last_only=last)
        return keys, self.value_encoder(values_in, who, padding, last_only=last)

    def _attend_pool(
        self, q: Tensor, keys: Tensor, values: Tensor, choice: Int[Tensor, "batch context"]
    ) -> tuple[Tensor, Tensor]:
        may = choice >= 0
        if not len(keys):  # nothing eligible for anyone
            none = q.new_zeros(len(q), self.config.n_heads, q.shape[1], choice.shape[1])
            return torch.zeros_like(q), none
        picked = choice.clamp(min=0)
        n_batch, n_context = choice.shape
        if keys.shape[1] == 1:
            k = F.embedding(picked, keys[:, 0])
            v = self.mixer(F.embedding(picked, values[:, 0]), may)
            return self.cross(q, k, v, may)
        # mode "time": step k of the target attends to step k of each context
        steps = q.shape[1]

        def by_step(pool: Tensor) -> Tensor:
            taken = pool[picked.flatten()].view(n_batch, n_context, steps, -1)
            return taken.transpose(1, 2).flatten(0, 1)

        may = may.repeat_interleave(steps, dim=0)
        v = self.mixer(by_step(values), may)
        y, weights = self.cross(q.flatten(0, 1)[:, None], by_step(keys), v, may)
        weights = weights.view(n_batch, steps, self.config.n_heads, n_context).transpose(1, 2)
        return y.view(n_batch, steps, -1), weights

    def _attend_bank(self, q: Tensor, bank: ContextBank) -> tuple[Tensor, Tensor]:
        n_context, steps = bank.keys.shape[:2]
        may = torch.ones(steps, n_context, dtype=torch.bool, device=q.device)
        keys, values = bank.keys.transpose(0, 1), bank.values.transpose(0, 1)
        if steps == 1:
            return self.cross(q, keys, values, may)
        y, weights = self.cross(q.transpose(0, 1), keys, values, may)
        return y.transpose(0, 1), weights.permute(2, 1, 0, 3)


def _padding(index: Int[Tensor, "window step"], n_rows: int) -> Int[Tensor, " window"] | None:
    """Padding steps before each window's first; ``None`` where it is free to see that none has.

    Versions of the rows' encoding may be stacked: each then ends in a padding row of its own.
    """
    is_padding = index % (n_rows + 1) == n_rows
    if index.device.type == "cpu" and not bool(is_padding.any()):
        return None
    return is_padding.sum(dim=1)
