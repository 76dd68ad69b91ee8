"""The feature scaler: fitted on training rows, carried by the checkpoint.

Pooled over assets, one mean and deviation per feature. It clips, then imputes, and tells
how much of a row was known.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from tft_core.errors import FeatureError
from tft_core.schema import finite_or_none

CLIP = 5.0
"""Deviations from the mean beyond which a feature says no more."""
_BLOCK_ROWS = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """z = clip((x − mean) / std, ±clip); afterwards NaN → 0."""

    mean: Float[np.ndarray, " feature"]
    std: Float[np.ndarray, " feature"]
    """Population standard deviation; NaN for a feature that is constant or never known."""
    clip: float = CLIP

    def __post_init__(self) -> None:
        if self.mean.shape != self.std.shape or self.mean.ndim != 1:
            raise FeatureError(
                "scaler mean and std must be vectors of one length, "
                f"found {self.mean.shape} and {self.std.shape}"
            )
        if not self.clip > 0.0:
            raise FeatureError(f"scaler clip must be positive, found {self.clip:g}")

    @classmethod
    def fit(cls, values: Float[np.ndarray, "row feature"], clip: float = CLIP) -> "Scaler":
        """Mean and deviation of each feature over the known values of the rows.

        Raises:
            FeatureError: There is no row to fit on.
        """
        if len(values) == 0:
            raise FeatureError("scaler must be fitted on at least one row, found none")
        n_features = values.shape[1]
        count, total = np.zeros(n_features), np.zeros(n_features)
        low, high = np.full(n_features, np.inf), np.full(n_features, -np.inf)
        for block in _blocks(values):
            known = np.isfinite(block)
            count += known.sum(axis=0)
            total += np.where(known, block, 0.0).sum(axis=0)
            low = np.minimum(low, np.where(known, block, np.inf).min(axis=0))
            high = np.maximum(high, np.where(known, block, -np.inf).max(axis=0))
        mean = np.divide(total, count, out=np.full(n_features, np.nan), where=count > 0)
        square = np.zeros(n_features)
        for block in _blocks(values):
            deviation = np.where(np.isfinite(block), block - mean, 0.0)
            square += (deviation**2).sum(axis=0)
        varies = (count > 1) & (high > low)
        std = np.sqrt(np.divide(square, count, out=np.full(n_features, np.nan), where=varies))
        return cls(mean=mean, std=np.where(std > 0.0, std, np.nan), clip=clip)

    def transform(
        self, values: Float[np.ndarray, "row feature"]
    ) -> tuple[Float32[np.ndarray, "row feature"], Float32[np.ndarray, " row"]]:
        """Scaled features with 0 for missing ones, and each row's share of known features.

        A feature whose deviation is unknown counts as missing in every row.

        Raises:
            FeatureError: The number of features is not the scaler's.
        """
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            raise FeatureError(
                f"rows must have the scaler's {len(self.mean)} features, found {values.shape}"
            )
        scaled = np.empty(values.shape, dtype=np.float32)
        coverage = np.empty(len(values), dtype=np.float32)
        for first in range(0, len(values), _BLOCK_ROWS):
            rows = slice(first, first + _BLOCK_ROWS)
            z = (values[rows].astype(np.float64) - self.mean) / self.std
            known = np.isfinite(z)
            scaled[rows] = np.where(known, np.clip(z, -self.clip, self.clip), 0.0)
            coverage[rows] = known.mean(axis=1) if z.shape[1] else 0.0
        return scaled, coverage

    def select(self, columns: Sequence[int]) -> "Scaler":
        """The scaler of a subset of the features."""
        index = np.asarray(columns, dtype=np.int64)
        return Scaler(mean=self.mean[index], std=self.std[index], clip=self.clip)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes ``None``."""
        return {
            "mean": [finite_or_none(x) for x in self.mean],
            "std": [finite_or_none(x) for x in self.std],
            "clip": self.clip,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Scaler":
        """Inverse of ``to_dict``.

        Raises:
            FeatureError: A key is missing, or the vectors do not fit each other.
        """
        missing = sorted({"mean", "std", "clip"} - set(values))
        if missing:
            raise FeatureError(f"stored scaler must have the key {missing[0]!r}, found none")
        return cls(
            mean=_vector(values["mean"]), std=_vector(values["std"]), clip=float(values["clip"])
        )


def _vector(items: Sequence[float | None]) -> Float[np.ndarray, " feature"]:
    return np.array([math.nan if x is None else x for x in items], dtype=np.float64)


def _blocks(values: np.ndarray):
    for first in range(0, len(values), _BLOCK_ROWS):
        yield values[first : first + _BLOCK_ROWS].astype(np.float64)
