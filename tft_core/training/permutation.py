"""Permutation importance: how far positions move when one feature is shuffled in time."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from tft_core.models.batching import RowTensors
from tft_core.models.ensemble import encode_in_chunks
from tft_core.models.network import Batch, ContextBank, XTrend
from tft_core.models.variable_selection import IdentifiedSelection
from tft_core.sequences import RowTable, epoch_windows
from tft_core.training.evaluation import diversified_sharpe
from tft_core.training.shadows import blocks_of

PERMUTE_STREAM = 12
"""Stream of a member's seed that draws windows and shuffles."""
STEPS_AT_ONCE = 1 << 15
"""Window steps of all versions run in one go: bounds memory, changes no result."""


@torch.no_grad()
def permutation_importance(
    member: XTrend,
    bank: ContextBank | None,
    rows: RowTable,
    val_rows: Bool[np.ndarray, " row"],
    n_windows: int,
    seed: int,
    device: str = "cpu",
) -> tuple[Float64[np.ndarray, " feature"], Float64[np.ndarray, " feature"]]:
    """Mean |Δposition| and loss of net Sharpe when a feature is shuffled in time.

    A feature is permuted within each asset's rows before, and from, the first validation
    date. Positions are read at every loss step of tiled windows (not at last steps only), so
    that one window tells of many days. Of the row encodings only the permuted feature's
    part is redone where the VSN is additive; the context bank stays as it is.

    Args:
        n_windows: Most windows that it is measured on; 0: not at all, all figures NaN.
        seed: Of the choice of windows and of the shuffle.
    """
    nothing = np.full(rows.n_features, np.nan)
    if n_windows == 0:
        return nothing, nothing.copy()
    rng = np.random.default_rng([seed, PERMUTE_STREAM])
    model = member.config
    index, counts = epoch_windows(
        rows, val_rows & rows.can_bear_loss, model.seq_len, model.warmup, rng
    )
    if len(index) > n_windows:
        kept = np.sort(rng.choice(len(index), size=n_windows, replace=False))
        index, counts = index[kept], counts[kept]
    tensors = RowTensors.of(rows, model, device)
    batch = tensors.batch(index)
    at = index[counts]
    order = np.argsort(at)
    probe = _Probe(member, bank, batch, torch.from_numpy(counts), order)
    shuffled = permuted_rows(rows, val_rows, rng)
    used = np.unique(index[index >= 0])
    base_z = probe.positions([probe.encoded])[0]
    base_sharpe = diversified_sharpe(rows, at[order], base_z)
    dposition, dsharpe = np.zeros(rows.n_features), np.zeros(rows.n_features)
    at_once = max(1, STEPS_AT_ONCE // index.size)
    unused = probe.unused_features()
    todo = [j for j in range(rows.n_features) if j not in unused]
    for start in range(0, len(todo), at_once):
        chosen = todo[start : start + at_once]
        encodings = [
            probe.encode_with(j, tensors.features[shuffled[used], j].to(device)) for j in chosen
        ]
        for j, z in zip(chosen, probe.positions(encodings), strict=True):
            dposition[j] = np.abs(z - base_z).mean()
            dsharpe[j] = base_sharpe - diversified_sharpe(rows, at[order], z)
    return dposition, dsharpe


def permuted_rows(
    rows: RowTable, val_rows: Bool[np.ndarray, " row"], rng: np.random.Generator
) -> Int64[np.ndarray, " row"]:
    """For every row, the row whose value it is given: a shuffle within each asset's block."""
    source = np.arange(len(rows))
    for block in blocks_of(rows, val_rows):
        source[block] = rng.permutation(block)
    return source


class _Probe:
    """Runs one set of windows on many versions of the row encodings."""

    def __init__(
        self,
        member: XTrend,
        bank: ContextBank | None,
        batch: Batch,
        counts: Tensor,
        order: Int64[np.ndarray, " row"],
    ) -> None:
        self.member, self.bank, self.batch = member, bank, batch
        self.counts, self.order = counts, order
        self.encoded, self.entity = encode_in_chunks(member, batch)

    def unused_features(self) -> set[int]:
        """Features with weight 0 in every VSN that predicts: permuting them changes nothing."""
        found = self.member.identified()
        if not found:
            return set()
        dead = [set(torch.nonzero(m.u <= 0.0).flatten().tolist()) for m in found]
        return set.intersection(*dead)

    def encode_with(
        self, feature: int, values: Float32[Tensor, " row"]
    ) -> dict[str, Float32[Tensor, "row_plus_padding hidden"]]:
        """Row encodings with one feature's values replaced."""
        if self.member.identified():
            changed: dict[int, Tensor] = {}
            out = {}
            for role, encoding in self.encoded.items():
                if id(encoding) not in changed:
                    name = "shared" if self.member.config.share_vsn else role
                    selection = self.member.selection[name]
                    assert isinstance(selection, IdentifiedSelection)
                    delta = selection.contribution(values, feature) - selection.contribution(
                        self.batch.x[:, feature], feature
                    )
                    changed[id(encoding)] = torch.cat([encoding[:-1] + delta, encoding[-1:]])
                out[role] = changed[id(encoding)]
            return out
        x = self.batch.x.clone()
        x[:, feature] = values
        return encode_in_chunks(self.member, self.batch._replace(x=x))[0]

    def positions(self, encodings: Sequence[dict[str, Tensor]]) -> list[np.ndarray]:
        """Positions at the counted steps, in row order, for each version."""
        copies, length = len(encodings), len(self.batch.index)
        n_rows = len(self.batch.x)
        # all versions as one batch: version v's rows lie at v·(N+1), its padding row last
        stacked = {
            role: torch.cat([e[role] for e in encodings])
            for role in ("query", "decoder")
            if role in encodings[0]
        }
        shift = torch.arange(copies, device=self.batch.x.device).repeat_interleave(length)
        index = self.batch.index.repeat(copies, 1) + shift[:, None] * (n_rows + 1)
        wide = self.batch._replace(index=index, window_group=self.batch.window_group.repeat(copies))
        states, _ = self.member.states_from_rows(stacked, wide, self.entity, self.bank)
        z = self.member.head(states).z.view(copies, length, -1)
        return [version[self.counts].double().cpu().numpy()[self.order] for version in z]
