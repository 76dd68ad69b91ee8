"""Integrated gradients of positions: which feature moved the output, and by how much.

The parts of a row add up to its position minus the position with every feature at its training
mean. That sum is known without integrating, so it tells how good the integral is: nodes are
added only where it is not met, and none that was evaluated is lost.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from tft_core.models.batching import RowTensors
from tft_core.models.network import Batch, ContextBank, XTrend
from tft_core.models.quadrature import nested_rules
from tft_core.models.workers import run_all

ROWS_AT_ONCE = 8192
"""Rows × nodes that go through the network in one go: bounds memory, changes no result."""
ROWS_OF_A_PIECE = 32
"""Rows of one member that are attributed in one go, at most: pieces that workers can share."""
MAX_NODES = 31
TOLERANCE = 1e-2
"""Largest |sum of parts − (position − start)| of a member that is left as it is: a hundredth of a
full position."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Parts of the mean position of some rows."""

    parts: Float64[np.ndarray, "row feature"]
    start: Float64[np.ndarray, " row"]
    """Mean position with every feature at its training mean, coverage as it is."""
    residual: Float64[np.ndarray, " row"]
    """Sum of the parts − (position − start): the error of the integral."""
    n_nodes: Int64[np.ndarray, " row"]
    """Most nodes that any member's integral took."""

    def shown(
        self, row: int, names: Sequence[str], n_largest: int
    ) -> tuple[dict[str, float], dict[str, float]]:
        """A row's largest parts by name, and what makes their sum the output."""
        parts = self.parts[row]
        order = np.argsort(-np.abs(parts))[:n_largest]
        largest = {str(names[j]): float(parts[j]) for j in order}
        return largest, {
            "start": float(self.start[row]),
            "other_features": float(parts.sum() - parts[order].sum()),
            "residual": float(self.residual[row]),
            "n_nodes": int(self.n_nodes[row]),
        }


def attribute(
    members: Sequence[XTrend],
    banks: Sequence[ContextBank | None],
    tensors: RowTensors,
    index: Int64[np.ndarray, "row step"],
    member_z: Float64[np.ndarray, "member row"],
    tolerance: float = TOLERANCE,
    workers: int | None = None,
) -> Attribution:
    """Integrated gradients of the members' mean, with as many nodes as each row needs.

    Every row starts with the middle of the path; where a member's sum misses by more than
    ``tolerance`` the next of ``nested_rules`` is taken, up to 31 nodes.

    Args:
        index: Windows that end at the rows.
        member_z: The members' positions at the rows.
        workers: See ``workers.run_all``.

    Source:
        Sundararajan, Taly & Yan 2017, eq. 1 and Proposition 1 (completeness).
    """
    n_rows = len(index)
    cuts = np.array_split(np.arange(n_rows), max(1, -(-n_rows // ROWS_OF_A_PIECE)))
    pieces = [
        partial(_member_parts, member, bank, tensors, index[rows], z[rows], tolerance)
        for member, bank, z in zip(members, banks, member_z, strict=True)
        for rows in cuts
    ]
    with ExitStack() as frozen:
        for member in members:
            frozen.enter_context(_frozen(member))
        made = run_all(pieces, workers)
    by_member = [made[i : i + len(cuts)] for i in range(0, len(made), len(cuts))]
    parts, start, nodes = (
        np.stack([np.concatenate([piece[field] for piece in own]) for own in by_member])
        for field in range(3)
    )
    mean_parts, mean_start = parts.mean(axis=0), start.mean(axis=0)
    residual = mean_parts.sum(axis=1) - (member_z.mean(axis=0) - mean_start)
    return Attribution(mean_parts, mean_start, residual, nodes.max(axis=0))


def _member_parts(
    member: XTrend,
    bank: ContextBank | None,
    tensors: RowTensors,
    index: Int64[np.ndarray, "row step"],
    z: Float64[np.ndarray, " row"],
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One member's (parts, start, nodes) of some rows."""
    parts = np.zeros((len(index), tensors.features.shape[1]))
    n_nodes = np.zeros(len(index), dtype=np.int64)
    start = start_positions(member, bank, tensors, index)
    open_rows = np.arange(len(index))
    seen = np.empty((0, *parts.shape))
    for rule in nested_rules():
        added = path_parts(member, bank, tensors, index[open_rows], rule.nodes[len(seen) :])
        seen = np.concatenate([seen, added])
        parts[open_rows] = np.tensordot(rule.weights, seen, axes=1)
        n_nodes[open_rows] = len(rule.nodes)
        miss = parts[open_rows].sum(axis=1) - (z - start)[open_rows]
        is_open = np.abs(miss) > tolerance
        if not is_open.any():
            break
        open_rows, seen = open_rows[is_open], seen[:, is_open]
    return parts, start, n_nodes


def integrated_gradients(
    member: XTrend,
    bank: ContextBank | None,
    tensors: RowTensors,
    index: Int64[np.ndarray, "window step"],
    n_steps: int,
) -> Float64[np.ndarray, "window feature"]:
    """Integrated gradients of one member's last-step position, summed over the window's steps,
    with ``n_steps`` Gauss–Legendre nodes.
    """
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    at_nodes = path_parts(member, bank, tensors, index, (nodes + 1.0) / 2.0)
    return np.tensordot(weights / 2.0, at_nodes, axes=1)


def path_parts(
    member: XTrend,
    bank: ContextBank | None,
    tensors: RowTensors,
    index: Int64[np.ndarray, "window step"],
    nodes: Float64[np.ndarray, " node"],
) -> Float64[np.ndarray, "node window feature"]:
    """Σ over steps of x · ∂z/∂x at α·x, of the last step's position z, for every node α.

    All nodes go through the network as one batch.
    """
    n_nodes = len(nodes)
    alphas = torch.as_tensor(nodes, dtype=torch.float32)
    parts = np.zeros((n_nodes, len(index), member.config.n_features))
    with _frozen(member):
        for rows, batch in _chunks(tensors, index, n_nodes):
            x = (alphas.to(batch.x.device)[:, None, None] * batch.x).flatten(0, 1).requires_grad_()
            states, _ = member.states(_repeated(batch, x, n_nodes), bank, last_only=True)
            z = member.head(states).z.sum()
            gradient = torch.autograd.grad(z, x)[0].view(n_nodes, *batch.x.shape)
            parts[:, rows] = _by_window(gradient * batch.x, batch)
    return parts


@torch.no_grad()
def start_positions(
    member: XTrend,
    bank: ContextBank | None,
    tensors: RowTensors,
    index: Int64[np.ndarray, "window step"],
) -> Float64[np.ndarray, " window"]:
    """One member's positions with every feature at its training mean (0)."""
    start = np.zeros(len(index))
    for rows, batch in _chunks(tensors, index, 1):
        states, _ = member.states(batch._replace(x=torch.zeros_like(batch.x)), bank, last_only=True)
        start[rows] = member.head(states).z[:, 0].double().cpu().numpy()
    return start


def _chunks(
    tensors: RowTensors, index: Int64[np.ndarray, "window step"], n_steps: int
) -> Iterator[tuple[slice, Batch]]:
    at_once = max(1, ROWS_AT_ONCE // (index.shape[1] * n_steps))
    for first in range(0, len(index), at_once):
        rows = slice(first, first + at_once)
        yield rows, _unshared(tensors.batch(index[rows]))


def _unshared(batch: Batch) -> Batch:
    """A copy of the batch in which every step of every window has a row of its own."""
    n_rows = len(batch.x)
    flat = batch.index.flatten()
    real = flat < n_rows
    rows = flat[real]
    own = torch.full_like(flat, len(rows))
    own[real] = torch.arange(len(rows), device=flat.device)
    return batch._replace(
        x=batch.x[rows],
        coverage=batch.coverage[rows],
        label=batch.label[rows],
        group=batch.group[rows],
        index=own.view_as(batch.index),
        target_part=torch.arange(len(rows), device=flat.device),
    )


def _repeated(batch: Batch, x: Tensor, times: int) -> Batch:
    """The batch ``times`` over, with other features: rows and windows one copy after another."""
    n_rows = len(batch.x)
    is_padding = batch.index == n_rows
    copies = [
        torch.where(is_padding, times * n_rows, batch.index + copy * n_rows)
        for copy in range(times)
    ]
    return batch._replace(
        x=x,
        coverage=batch.coverage.repeat(times),
        label=batch.label.repeat(times),
        group=batch.group.repeat(times),
        index=torch.cat(copies),
        window_group=batch.window_group.repeat(times),
        target_part=torch.arange(len(x), device=x.device),
    )


def _by_window(
    by_row: Float[Tensor, "node row feature"], batch: Batch
) -> Float64[np.ndarray, "node window feature"]:
    """Sum over the steps of each window; padding adds nothing."""
    padded = F.pad(by_row, (0, 0, 0, 1))
    return padded[:, batch.index].sum(dim=2, dtype=torch.float64).cpu().numpy()


@contextmanager
def _frozen(member: XTrend) -> Iterator[None]:
    """Parameters without gradients: only the path to the features is differentiated."""
    wanted = [p for p in member.parameters() if p.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
