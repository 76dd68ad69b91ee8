"""Trained members with their context banks: predict, explain, store.

The position of a row is the last step of the window that ends at it, in evaluation mode,
so it depends neither on what else is in the batch nor on chance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from tft_core.errors import CheckpointError, ModelError
from tft_core.models.attribution import Attribution, attribute, integrated_gradients
from tft_core.models.batching import RowTensors
from tft_core.models.config import XTrendConfig
from tft_core.models.io import compare_tensors
from tft_core.models.network import Batch, ContextBank, XTrend
from tft_core.models.variable_selection import IdentifiedSelection
from tft_core.models.workers import run_all
from tft_core.sequences import ContextWindows, RowTable, window_index

ROWS_AT_ONCE = 8192
"""Rows encoded in one go: bounds memory, changes no result."""
STEPS_AT_ONCE = {"cpu": 1 << 16, "cuda": 1 << 20}
"""Window steps run in one go, by kind of device: enough to fill it."""


@dataclass(frozen=True, slots=True)
class RawOutput:
    """What the network says, before clipping and smoothing."""

    member_z: Float64[np.ndarray, "member row"]
    """Position of each member in (−1, 1)."""
    mu: Float64[np.ndarray, " row"] | None = None
    """Forecast of y/σ, members' mean; only a Gaussian head has one."""
    sigma: Float64[np.ndarray, " row"] | None = None
    """Forecast's standard deviation: of the members' equal mixture."""
    quantiles: Float64[np.ndarray, "row quantile"] | None = None

    @property
    def z(self) -> Float64[np.ndarray, " row"]:
        """Mean position of the members."""
        return self.member_z.mean(axis=0)

    @property
    def disagreement(self) -> Float64[np.ndarray, " row"]:
        """Standard deviation of the members' positions; NaN for a single member."""
        if len(self.member_z) < 2:
            return np.full(self.member_z.shape[1], np.nan)
        return self.member_z.std(axis=0, ddof=1)


class Ensemble:
    """Members of one configuration, each with the contexts it was given after training."""

    def __init__(
        self,
        config: XTrendConfig,
        members: Sequence[XTrend],
        banks: Sequence[ContextBank | None],
    ) -> None:
        if not members or len(members) != len(banks):
            raise ModelError(
                f"an ensemble must hold at least one member and a bank for each, found "
                f"{len(members)} members and {len(banks)} banks"
            )
        if any((bank is not None) != config.uses_context for bank in banks):
            raise ModelError(
                f"every member must {'' if config.uses_context else 'not '}have a context bank in "
                f"context mode {config.context_mode}, found otherwise"
            )
        self.config = config
        self.members = [member.eval() for member in members]
        self.banks = list(banks)

    def __len__(self) -> int:
        return len(self.members)

    @property
    def context_available(self) -> np.datetime64 | None:
        """Date from which on every stored context is known; predictions before it look ahead."""
        days = [int(bank.available.max()) for bank in self.banks if bank is not None]
        return np.datetime64(max(days), "D") if days else None

    @torch.no_grad()
    def predict(
        self,
        rows: RowTable,
        end_rows: Int64[np.ndarray, " row"],
        entity: Int64[np.ndarray, " asset"] | None = None,
        workers: int | None = None,
    ) -> RawOutput:
        """Positions of the members at some rows.

        Args:
            end_rows: Row numbers to predict at.
            entity: Embedding index of each asset of ``rows`` (0 = unknown to the model);
                default: the table's assets are the training's, in order.
            workers: Members side by side, see ``workers.run_all``.

        As of:
            The close of each row. Every row needs its ``seq_len − 1`` predecessors in the
            table, else its window starts with padding as an asset's first rows do.
        """
        tensors = RowTensors.of(rows, self.config, _device(self.members[0]), entity)
        index = window_index(rows, end_rows, self.config.seq_len)
        pieces = [
            partial(predict_member, member, bank, tensors, index)
            for member, bank in zip(self.members, self.banks, strict=True)
        ]
        outputs = run_all(pieces, workers)
        z, mu, sigma, quantiles = (
            None if parts[0] is None else np.stack([p for p in parts if p is not None])
            for parts in zip(*outputs, strict=True)
        )
        assert z is not None
        mixed_sigma = None
        if mu is not None and sigma is not None:
            mixed_sigma = np.sqrt((sigma**2).mean(axis=0) + mu.var(axis=0))
        return RawOutput(
            member_z=z,
            mu=None if mu is None else mu.mean(axis=0),
            sigma=mixed_sigma,
            quantiles=None if quantiles is None else quantiles.mean(axis=0),
        )

    @torch.no_grad()
    def vsn_weights(
        self,
        rows: RowTable | None = None,
        end_rows: Int64[np.ndarray, " row"] | None = None,
        entity: Int64[np.ndarray, " asset"] | None = None,
    ) -> Float64[np.ndarray, "member feature"] | Float64[np.ndarray, "member row feature"]:
        """Selection weights of the decoder's VSN; they sum to one over features.

        Without rows: the static weights of the identified form. With rows: those rows' own.

        Raises:
            ModelError: No rows were given and the weights depend on them.
        """
        if rows is None or end_rows is None:
            static = []
            for member in self.members:
                selection = member.main_selection
                if not isinstance(selection, IdentifiedSelection):
                    raise ModelError(
                        f"weights of the {self.config.vsn} form must be asked for with rows and "
                        "end_rows, found none: they differ from row to row"
                    )
                static.append(selection.static_weights().double().cpu().numpy())
            return np.stack(static)
        tensors = RowTensors.of(rows, self.config, _device(self.members[0]), entity)
        batch = tensors.batch(end_rows[:, None])
        return np.stack(
            [
                member.selection_weights(batch)[batch.index[:, 0]].double().cpu().numpy()
                for member in self.members
            ]
        )

    def attribute(
        self,
        rows: RowTable,
        end_rows: Int64[np.ndarray, " row"],
        member_z: Float64[np.ndarray, "member row"] | None = None,
        entity: Int64[np.ndarray, " asset"] | None = None,
        workers: int | None = None,
    ) -> Attribution:
        """Which features made the mean positions of some rows (see ``attribution``).

        Args:
            member_z: What ``predict`` gave for these rows; default: it is asked again.
            workers: See ``workers.run_all``.
        """
        z = member_z
        if z is None:
            z = self.predict(rows, end_rows, entity, workers).member_z
        tensors = RowTensors.of(rows, self.config, _device(self.members[0]), entity)
        index = window_index(rows, end_rows, self.config.seq_len)
        return attribute(self.members, self.banks, tensors, index, z, workers=workers)

    def importance(
        self,
        rows: RowTable,
        end_rows: Int64[np.ndarray, " row"],
        n_steps: int = 16,
        entity: Int64[np.ndarray, " asset"] | None = None,
    ) -> Float64[np.ndarray, "row feature"]:
        """Integrated gradients of the mean position with a fixed number of nodes.

        A row's values add up to its position minus the position at the start of the path,
        all features at their training mean.
        """
        tensors = RowTensors.of(rows, self.config, _device(self.members[0]), entity)
        index = window_index(rows, end_rows, self.config.seq_len)
        per_member = [
            integrated_gradients(member, bank, tensors, index, n_steps)
            for member, bank in zip(self.members, self.banks, strict=True)
        ]
        return np.mean(per_member, axis=0)

    def state_dict(self) -> dict[str, Tensor]:
        """All weights, running statistics and banks: ``member_0/…``, ``bank_0/…``."""
        state: dict[str, Tensor] = {}
        for i, (member, bank) in enumerate(zip(self.members, self.banks, strict=True)):
            for name, tensor in member.state_dict().items():
                state[f"member_{i}/{name}"] = tensor.detach().cpu().clone()
            if bank is not None:
                for name, tensor in bank._asdict().items():
                    state[f"bank_{i}/{name}"] = tensor.detach().cpu().clone()
        return state

    @classmethod
    def from_state(cls, config: XTrendConfig, state: Mapping[str, Tensor]) -> "Ensemble":
        """Rebuild an ensemble from ``state_dict``.

        Raises:
            CheckpointError: Names, shapes or types differ from what the configuration makes;
                all such tensors are named.
        """
        _refuse_oversize(config, state)
        with torch.random.fork_rng(devices=[]):  # initial weights are thrown away
            first = XTrend(config)
        leaves = {f"member/{name}": tensor for name, tensor in first.state_dict().items()}
        leaves |= {f"bank/{name}": tensor for name, tensor in _bank_like(config).items()}
        # by the number of tensors: one that is missing or extra must not make a member
        n_members = max(1, round(len(state) / len(leaves)))
        expected = {
            name.replace("/", f"_{i}/", 1): tensor
            for i in range(n_members)
            for name, tensor in leaves.items()
        }
        compare_tensors(state, expected, where="an ensemble's state")
        members, banks = [first], []
        with torch.random.fork_rng(devices=[]):
            members += [XTrend(config) for _ in range(n_members - 1)]
        for i, member in enumerate(members):
            prefix = f"member_{i}/"
            member.load_state_dict({n: state[prefix + n] for n in first.state_dict()})
            # a loaded state lies in buffers of Python's, at any multiple of 16 bytes; a BLAS may
            # round by alignment, and torch's own memory is aligned to 64
            fields = {n: state[f"bank_{i}/{n}"].clone() for n in _bank_like(config)}
            banks.append(ContextBank(**fields) if fields else None)
        return cls(config, members, banks)


def make_bank(
    member: XTrend, tensors: RowTensors, contexts: ContextWindows, rows: RowTable
) -> ContextBank:
    """Encode contexts as the one set that all predictions attend to (evaluation mode)."""
    was_training = member.training
    member.eval()
    choice = np.arange(len(contexts))[None]
    with torch.no_grad():
        batch = tensors.batch(np.empty((0, 1), dtype=np.int64), contexts, choice)
        days = rows.dates[contexts.available].to_numpy().astype("datetime64[D]").astype(np.int64)
        bank = member.encode_bank(batch, torch.from_numpy(days))
    member.train(was_training)
    return bank


@torch.no_grad()
def predict_member(
    member: XTrend,
    bank: ContextBank | None,
    tensors: RowTensors,
    index: Int64[np.ndarray, "window step"],
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """One member's (z, μ, σ, quantiles) at the last step of windows; rows encoded once."""
    batch = tensors.batch(index)
    encoded, entity = encode_in_chunks(member, batch)
    at_once = max(1, STEPS_AT_ONCE[batch.x.device.type] // index.shape[1])
    parts: list[list[Tensor]] = []
    for start in range(0, len(index), at_once):
        piece = batch._replace(
            index=batch.index[start : start + at_once],
            window_group=batch.window_group[start : start + at_once],
        )
        states, _ = member.states_from_rows(encoded, piece, entity, bank, last_only=True)
        output = member.head(states)
        parts.append([field for field in output if field is not None])
    fields = [_numpy(torch.cat(pieces)[:, 0]) for pieces in zip(*parts, strict=True)]
    z = fields[0] if fields else np.empty(0)
    if member.config.loss_mode == "joint_mle" and len(fields) == 3:
        return z, fields[1], fields[2], None
    if member.config.loss_mode == "joint_quantile" and len(fields) == 2:
        return z, None, None, fields[1]
    return z, None, None, None


def encode_in_chunks(member: XTrend, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """Row encodings for query and decoder, chunk by chunk; the last row is padding."""
    entity = member.target_entity(batch)
    roles = ("shared",) if member.config.share_vsn else ("query", "decoder")
    roles = tuple(role for role in roles if role in member.selection_roles)
    encoded: dict[str, Tensor] = {}
    for role in roles:
        selection, side = member.selection[role], member.side_weight(role)
        pieces = [
            selection(batch.x[s], batch.group[s], entity) + batch.coverage[s, None] * side
            for start in range(0, len(batch.x), ROWS_AT_ONCE)
            for s in [slice(start, start + ROWS_AT_ONCE)]
        ]
        encoded[role] = torch.cat([*pieces, side.new_zeros(1, len(side))])
    if member.config.share_vsn:
        encoded = dict.fromkeys(("query", "decoder"), encoded["shared"])
    return encoded, entity


def _refuse_oversize(config: XTrendConfig, state: Mapping[str, Tensor]) -> None:
    """Refuse a configuration whose network would be larger than the state it is to hold.

    A damaged or hostile number is found before memory is taken for it.
    """
    held = sum(tensor.numel() for tensor in state.values())
    if config.architecture == "linear":
        needed = max(config.n_assets, config.n_features)
    else:
        needed = max(
            4 * config.d_hidden**2 * config.lstm_layers,  # recurrent weights of one LSTM
            config.n_assets * config.d_hidden,
            config.n_features * (config.d_hidden if config.vsn == "none" else config.vsn_hidden),
        )
    if needed > held:
        raise CheckpointError(
            f"an ensemble's state must hold at least the {needed} numbers that its configuration "
            f"needs, found {held}; load it with the configuration that it was saved with"
        )


def _bank_like(config: XTrendConfig) -> dict[str, Tensor]:
    """Tensors of a context bank's names, types and shapes (no memory); {} without contexts."""
    if not config.uses_context:
        return {}
    steps = config.ctx_len if config.context_mode == "time" else 1
    one = torch.zeros(())
    encoded = one.expand(config.n_context, steps, config.d_hidden)
    return {
        "keys": encoded,
        "values": encoded,
        "available": one.long().expand(config.n_context),
    }


def _device(member: XTrend) -> torch.device:
    return member.embedding.weight.device


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.double().cpu().numpy()
