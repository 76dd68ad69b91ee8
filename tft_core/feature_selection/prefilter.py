"""Tier 1: drop what is too sparse, constant, or said by another feature already.

Looks at training rows only, before any imputation, and at no label. Every drop carries
its reason and, for a correlated one, the feature that stands for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64

from tft_core.errors import SelectionError
from tft_core.feature_selection.config import FeatureSelectionConfig
from tft_core.feature_selection.correlation import (
    correlation_clusters,
    medoid_cover,
    pairwise_correlation,
)
from tft_core.schema import finite_or_none, float_or_nan

LOW_COVERAGE, CONSTANT, CORRELATED = "low_coverage", "constant", "correlated"
DROP_REASONS = (LOW_COVERAGE, CONSTANT, CORRELATED)

_CONSTANT_RANGE = 1e-6
"""A range below this share of the largest magnitude is float32 round-off, not variation."""


@dataclass(frozen=True, slots=True)
class DroppedFeature:
    """Why one feature was dropped."""

    reason: str
    """``low_coverage``, ``constant`` or ``correlated``."""
    value: float
    """The coverage, the constant, or the correlation with the stand-in."""
    stand_in: str | None = None
    """The kept feature that says the same; only for ``correlated``."""


@dataclass(frozen=True, slots=True)
class PrefilterResult:
    """Which features may go on to the exploration network, and why the others may not."""

    kept: tuple[str, ...]
    """In the order in which the features were given."""
    dropped: Mapping[str, DroppedFeature]
    coverage: Mapping[str, float]
    """Share of training rows on which each feature, kept or not, is finite."""
    clusters: tuple[tuple[str, ...], ...]
    """Looser clusters of kept features (``cluster_threshold``), medoid first; no singles."""
    n_rows: int
    coverage_by_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Asset class → feature → coverage on the rows of that class, if classes were given."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of features at each step of the funnel."""
        reasons = [drop.reason for drop in self.dropped.values()]
        return {
            "features": len(self.kept) + len(self.dropped),
            **{reason: reasons.count(reason) for reason in DROP_REASONS},
            "kept": len(self.kept),
        }

    def table(self) -> pd.DataFrame:
        """One row per feature: kept, reason, stand-in, value, coverage, then by class."""
        rows = []
        for name in self.coverage:
            drop = self.dropped.get(name)
            rows.append(
                {
                    "feature": name,
                    "kept": drop is None,
                    "reason": drop.reason if drop else "",
                    "stand_in": (drop.stand_in or "") if drop else "",
                    "value": drop.value if drop else float("nan"),
                    "coverage": self.coverage[name],
                    **{
                        f"coverage_{label}": by_feature[name]
                        for label, by_feature in self.coverage_by_class.items()
                    },
                }
            )
        return pd.DataFrame(rows).set_index("feature")

    def to_dict(self) -> dict[str, Any]:
        return {
            "kept": list(self.kept),
            "dropped": {
                name: {
                    "reason": drop.reason,
                    "value": finite_or_none(drop.value),
                    "stand_in": drop.stand_in,
                }
                for name, drop in self.dropped.items()
            },
            "coverage": dict(self.coverage),
            "clusters": [list(cluster) for cluster in self.clusters],
            "n_rows": self.n_rows,
            "coverage_by_class": {k: dict(v) for k, v in self.coverage_by_class.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "PrefilterResult":
        return cls(
            kept=tuple(data["kept"]),
            dropped={
                name: DroppedFeature(
                    reason=drop["reason"],
                    value=float_or_nan(drop["value"]),
                    stand_in=drop["stand_in"],
                )
                for name, drop in data["dropped"].items()
            },
            coverage=dict(data["coverage"]),
            clusters=tuple(tuple(cluster) for cluster in data["clusters"]),
            n_rows=int(data["n_rows"]),
            coverage_by_class={k: dict(v) for k, v in data["coverage_by_class"].items()},
        )


def prefilter(
    values: Float[np.ndarray, "row feature"],
    names: Sequence[str],
    config: FeatureSelectionConfig | None = None,
    *,
    asset_class: Sequence[str] | None = None,
) -> PrefilterResult:
    """Keep the features that are known often enough, vary, and are not said by another.

    The result depends on the rows and names alone, not on the order of the columns: they
    are worked on in the order of their names.

    Args:
        values: Unscaled features with real NaN on the training rows; infinities count as NaN.
        asset_class: Class of each row's asset, for the coverage table by class.

    Raises:
        SelectionError: No rows, names that do not fit or repeat, or no feature left.

    As of:
        The last of the rows given; hand over rows before the fold's test window only.
    """
    config = config or FeatureSelectionConfig()
    names = tuple(names)
    _check_shape(values, names, asset_class)
    finite = np.isfinite(values)
    coverage = finite.mean(axis=0)
    dropped: dict[str, DroppedFeature] = {}
    low = coverage < config.min_coverage
    for i in np.flatnonzero(low):
        dropped[names[i]] = DroppedFeature(LOW_COVERAGE, float(coverage[i]))
    constant, level = _constant_columns(values, finite)
    for i in np.flatnonzero(constant & ~low):
        dropped[names[i]] = DroppedFeature(CONSTANT, float(level[i]))

    usable = sorted(
        (i for i in range(len(names)) if names[i] not in dropped), key=names.__getitem__
    )
    if not usable:
        raise SelectionError(
            f"the pre-filter must keep at least one of {len(names)} features, found {low.sum()} "
            f"below {config.min_coverage:.0%} coverage and {len(dropped) - low.sum()} constant; "
            "give it more training rows or lower selection.min_coverage"
        )
    columns = np.asarray(usable)
    r, common = pairwise_correlation(
        values[np.ix_(evenly_spaced(len(values), config.correlation_max_rows), columns)],
        clip=config.correlation_clip,
    )
    stand_in = medoid_cover(r, common, config.correlation_threshold)
    for i in np.flatnonzero(stand_in != np.arange(len(columns))):
        dropped[names[columns[i]]] = DroppedFeature(
            CORRELATED, float(r[i, stand_in[i]]), names[columns[stand_in[i]]]
        )
    is_kept = stand_in == np.arange(len(columns))
    kept_columns = columns[is_kept]
    clusters = correlation_clusters(r[np.ix_(is_kept, is_kept)], config.cluster_threshold)
    return PrefilterResult(
        kept=tuple(name for name in names if name not in dropped),
        dropped={name: dropped[name] for name in names if name in dropped},
        coverage={name: float(share) for name, share in zip(names, coverage, strict=True)},
        clusters=tuple(tuple(names[kept_columns[i]] for i in cluster) for cluster in clusters),
        n_rows=len(values),
        coverage_by_class=_coverage_by_class(finite, names, asset_class),
    )


def _check_shape(
    values: np.ndarray, names: tuple[str, ...], asset_class: Sequence[str] | None
) -> None:
    if values.ndim != 2 or values.shape[1] != len(names):
        raise SelectionError(
            f"values must be [row, {len(names)} features], found shape {values.shape}; "
            "give one name per column"
        )
    if len(values) == 0:
        raise SelectionError(
            "the pre-filter must see at least one training row, found none; "
            "check the fold's training window"
        )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SelectionError(f"feature names must be unique, found {twice!r} twice; rename one")
    if asset_class is not None and len(asset_class) != len(values):
        raise SelectionError(
            f"asset_class must name a class for each of {len(values)} rows, "
            f"found {len(asset_class)}; give one per row"
        )


def _constant_columns(
    values: Float[np.ndarray, "row feature"], finite: Bool[np.ndarray, "row feature"]
) -> tuple[Bool[np.ndarray, " feature"], Float[np.ndarray, " feature"]]:
    high = np.where(finite, values, -np.inf).max(axis=0)
    low = np.where(finite, values, np.inf).min(axis=0)
    known = finite.any(axis=0)
    magnitude = np.where(known, np.maximum(np.abs(high), np.abs(low)), np.nan)
    spread = np.where(known, high, np.nan) - np.where(known, low, np.nan)
    return spread <= _CONSTANT_RANGE * magnitude, np.where(known, low, np.nan)


def evenly_spaced(n_rows: int, most: int) -> Int64[np.ndarray, " some_row"]:
    """At most so many row numbers, the first and the last among them; all where there are fewer."""
    if n_rows <= most:
        return np.arange(n_rows)
    return np.linspace(0, n_rows - 1, most).round().astype(np.int64)


def _coverage_by_class(
    finite: Bool[np.ndarray, "row feature"],
    names: tuple[str, ...],
    asset_class: Sequence[str] | None,
) -> dict[str, dict[str, float]]:
    if asset_class is None:
        return {}
    classes = np.asarray(asset_class, dtype=str)
    return {
        str(one): {
            name: float(share)
            for name, share in zip(names, finite[classes == one].mean(axis=0), strict=True)
        }
        for one in np.unique(classes)
    }
