"""From row numbers to batches of tensors: unique rows once, windows as indices into them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tft_core.errors import ModelError
from tft_core.models.config import XTrendConfig
from tft_core.models.network import Batch, ContextRows
from tft_core.sequences import NO_CONTEXT, PADDING, ContextWindows, RowTable

UNKNOWN_ENTITY = 0
"""Embedding index of an asset the network has not been trained on."""


@dataclass(frozen=True, slots=True)
class RowTensors:
    """The columns of a row table that the network reads, on its device."""

    features: Float[Tensor, "row feature"]
    coverage: Float[Tensor, " row"]
    label: Float[Tensor, " row"]
    """y/σ, 0 where unknown: what contexts show."""
    asset_id: Int64[np.ndarray, " row"]
    entity: Int64[np.ndarray, " asset"]
    """Embedding index of each asset of the table."""

    @classmethod
    def of(
        cls,
        rows: RowTable,
        config: XTrendConfig,
        device: torch.device | str = "cpu",
        entity: Int64[np.ndarray, " asset"] | None = None,
    ) -> "RowTensors":
        """Move a table's columns to a device.

        Args:
            entity: Embedding index of each asset of ``rows.symbols`` (0 = unknown); default
                1, 2, … in order, which holds when the symbols are those of the training.

        Raises:
            ModelError: The features or assets don't fit the configuration.
        """
        if rows.n_features != config.n_features:
            raise ModelError(
                f"rows must hold the {config.n_features} features the model was made for, "
                f"found {rows.n_features}"
            )
        known = np.arange(1, len(rows.symbols) + 1) if entity is None else np.asarray(entity)
        if len(known) != len(rows.symbols) or known.min() < 0 or known.max() > config.n_assets:
            raise ModelError(
                f"entity must give each of {len(rows.symbols)} assets an index in "
                f"[0, {config.n_assets}], found {known.tolist()}; map assets the model does not "
                f"know to {UNKNOWN_ENTITY}"
            )
        return cls(
            features=torch.as_tensor(rows.features, device=device),
            coverage=torch.as_tensor(rows.coverage, device=device),
            label=torch.as_tensor(
                np.nan_to_num(rows.scaled_label).astype(np.float32), device=device
            ),
            asset_id=rows.asset_id,
            entity=known.astype(np.int64),
        )

    def batch(
        self,
        index: Int64[np.ndarray, "window step"],
        contexts: ContextWindows | None = None,
        choice: Int64[np.ndarray, "window context"] | None = None,
        *,
        unknown_assets: np.ndarray | None = None,
        x: Tensor | None = None,
    ) -> Batch:
        """Gather the unique rows of windows and contexts.

        Args:
            index: Row numbers of the target windows; ``PADDING`` before the asset's start.
            choice: Which of ``contexts`` each target attends to.
            unknown_assets: Assets that this batch treats as unknown.
            x: Replaces the rows' features (all rows of the table).
        """
        plan = self.plan(index, contexts, choice, unknown_assets=unknown_assets)
        return self.gather(plan.to(self.features.device), x=x)

    def plan(
        self,
        index: Int64[np.ndarray, "window step"],
        contexts: ContextWindows | None = None,
        choice: Int64[np.ndarray, "window context"] | None = None,
        *,
        unknown_assets: np.ndarray | None = None,
    ) -> "BatchPlan":
        """Which rows a batch holds and where its windows find them, on the host."""
        used = np.zeros(len(self.asset_id) + 1, dtype=bool)  # the last entry stands for padding
        used[index] = True
        if contexts is not None:
            used[contexts.index] = True
        unique = np.flatnonzero(used[:-1])
        place = np.empty(len(used), dtype=np.int64)
        place[unique] = np.arange(len(unique))
        place[PADDING] = len(unique)
        assets, group = np.unique(self.asset_id[unique], return_inverse=True)
        slot = np.zeros(len(self.entity), dtype=np.int64)
        slot[assets] = np.arange(len(assets))
        entity = self.entity[assets]
        if unknown_assets is not None:
            entity = np.where(np.isin(assets, unknown_assets), UNKNOWN_ENTITY, entity)
        none = np.empty(0, dtype=np.int64)
        return BatchPlan(
            rows=unique,
            group=group.astype(np.int64),
            entity=entity,
            index=place[index],
            window_group=slot[self.asset_id[index[:, -1]]] if len(index) else none,
            pool_index=none if contexts is None else place[contexts.index],
            pool_group=none if contexts is None else slot[contexts.asset_id],
            choice=none if choice is None else choice,
            target_part=_rows_in(place[index], len(unique)),
            context_part=none if contexts is None else _rows_in(place[contexts.index], len(unique)),
            n_rows=np.array(len(unique), dtype=np.int64),
        )

    def gather(self, plan: "BatchPlan", x: Tensor | None = None, *, is_full: bool = True) -> Batch:
        """The batch of a plan that lies on the device (see ``BatchPlan.to``).

        Args:
            is_full: False for a plan that was padded to a fixed shape.
        """
        contexts, device = None, self.features.device
        if plan.choice.ndim == 2:
            contexts = ContextRows(plan.pool_index, plan.pool_group, plan.choice)
        return Batch(
            x=(self.features if x is None else x).index_select(0, plan.rows),
            coverage=self.coverage.index_select(0, plan.rows),
            label=self.label.index_select(0, plan.rows),
            group=plan.group,
            entity=plan.entity,
            index=plan.index,
            window_group=plan.window_group,
            target_part=plan.target_part,
            context_part=plan.context_part,
            contexts=contexts,
            is_real=None if is_full else torch.arange(len(plan.rows), device=device) < plan.n_rows,
        )


class BatchPlan(NamedTuple):
    """The integers of a batch: NumPy arrays on the host, or the same as tensors."""

    rows: Any
    """Rows of the table that the batch holds, int64 [row]."""
    group: Any
    """Slot of each row's asset in ``entity``, [row]."""
    entity: Any
    """Embedding index of each asset, [group]."""
    index: Any
    """Windows into ``rows``; ``len(rows)`` is padding, [window, step]."""
    window_group: Any
    """[window]"""
    pool_index: Any
    """Contexts into ``rows``, [pool, step]; empty without contexts."""
    pool_group: Any
    """[pool]"""
    choice: Any
    """[window, context]; of one dimension without contexts."""
    target_part: Any
    """Rows that windows hold, [some_row]."""
    context_part: Any
    """Rows that contexts hold, [other_row]."""
    n_rows: Any
    """How many of ``rows`` are real: the rest only fills a fixed shape."""

    def to(self, device: torch.device) -> "BatchPlan":
        return BatchPlan(*(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in self))

    def padded(self, shape: "PlanShape") -> "BatchPlan":
        """The same batch in a larger, fixed shape: what is added is never read by a real
        window and counts in no statistic.

        Raises:
            ModelError: The batch does not fit.
        """
        if not self.shape.fits(shape):
            raise ModelError(f"a batch must fit {shape}, found {self.shape}")
        padding = shape.rows
        n_rows = len(self.rows)

        def moved(index: np.ndarray, length: int) -> np.ndarray:
            where = np.where(index == n_rows, padding, index)
            return filled_up(where, length, padding)

        return self._replace(
            rows=filled_up(self.rows, shape.rows, 0),
            group=filled_up(self.group, shape.rows, 0),
            entity=filled_up(self.entity, shape.groups, UNKNOWN_ENTITY),
            index=moved(self.index, shape.windows),
            window_group=filled_up(self.window_group, shape.windows, 0),
            pool_index=moved(self.pool_index, shape.pool),
            pool_group=filled_up(self.pool_group, shape.pool, 0),
            choice=filled_up(self.choice, shape.windows, NO_CONTEXT)
            if self.choice.ndim == 2
            else self.choice,
            target_part=filled_up(self.target_part, shape.rows, padding),
            context_part=filled_up(self.context_part, shape.rows if shape.pool else 0, padding),
        )

    @property
    def shape(self) -> "PlanShape":
        return PlanShape(
            len(self.rows), len(self.entity), len(self.window_group), len(self.pool_group)
        )


class PlanShape(NamedTuple):
    """Sizes of a batch plan."""

    rows: int
    groups: int
    windows: int
    pool: int

    def fits(self, other: "PlanShape") -> bool:
        return all(mine <= theirs for mine, theirs in zip(self, other, strict=True))

    def joined(self, other: "PlanShape") -> "PlanShape":
        return PlanShape(*(max(a, b) for a, b in zip(self, other, strict=True)))


def _rows_in(index: np.ndarray, n_rows: int) -> np.ndarray:
    """The rows an index holds, ascending, without padding (``n_rows``)."""
    held = np.zeros(n_rows + 1, dtype=bool)
    held[index] = True
    return np.flatnonzero(held[:-1])


def filled_up(array: np.ndarray, length: int, value: int) -> np.ndarray:
    """The array with entries of ``value`` behind it, [length, …], int64."""
    filled = np.full((length, *array.shape[1:]), value, dtype=np.int64)
    filled[: len(array)] = array
    return filled
