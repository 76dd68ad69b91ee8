"""From row numbers to batches of tensors: unique rows once, windows as indices into them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tft_core.errors import ModelError
from tft_core.models.config import XTrendConfig
from tft_core.models.network import Batch, ContextRows
from tft_core.sequences import PADDING, ContextWindows, RowTable

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
        n_rows, device = len(self.asset_id), self.features.device
        used = np.zeros(n_rows + 1, dtype=bool)  # the last entry stands for padding
        used[index] = True
        if contexts is not None:
            used[contexts.index] = True
        unique = np.flatnonzero(used[:-1])
        place = np.empty(n_rows + 1, dtype=np.int64)
        place[unique] = np.arange(len(unique))
        place[PADDING] = len(unique)
        assets, group = np.unique(self.asset_id[unique], return_inverse=True)
        slot = np.zeros(len(self.entity), dtype=np.int64)
        slot[assets] = np.arange(len(assets))
        entity = self.entity[assets]
        if unknown_assets is not None:
            entity = np.where(np.isin(assets, unknown_assets), UNKNOWN_ENTITY, entity)
        rows = torch.from_numpy(unique).to(device)
        context_rows = None
        if contexts is not None:
            assert choice is not None
            context_rows = ContextRows(
                index=_tensor(place[contexts.index], device),
                group=_tensor(slot[contexts.asset_id], device),
                choice=_tensor(choice, device),
            )
        return Batch(
            x=(self.features if x is None else x).index_select(0, rows),
            coverage=self.coverage.index_select(0, rows),
            label=self.label.index_select(0, rows),
            group=_tensor(group, device),
            entity=_tensor(entity, device),
            index=_tensor(place[index], device),
            window_group=_tensor(slot[self.asset_id[index[:, -1]]], device)
            if len(index)
            else torch.empty(0, dtype=torch.int64, device=device),
            contexts=context_rows,
        )


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
