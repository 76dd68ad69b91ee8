"""The row table: every (asset, session) pair once, with all that training and serving read.

Scaling happens on the way in; a model never sees an unscaled feature. No windows here.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64, Int64

from tft_core.data.panel import label_returns
from tft_core.errors import DataError
from tft_core.schema import LABEL_LAG_SESSIONS

UNKNOWN_DATE = np.iinfo(np.int64).max
"""Date index of an event that lies after the last row: later than every date."""


class PanelLike(Protocol):
    """What is read of a ``FeaturePanel``."""

    @property
    def values(self) -> np.ndarray: ...
    @property
    def dates(self) -> pd.DatetimeIndex: ...
    @property
    def symbols(self) -> tuple[str, ...]: ...
    @property
    def feature_names(self) -> tuple[str, ...]: ...


class ScalerLike(Protocol):
    """What is used of a ``Scaler``."""

    def transform(self, values: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True, kw_only=True)
class RowTable:
    """Rows sorted by asset, then time; only sessions the asset has."""

    features: Float32[np.ndarray, "row feature"]
    """Scaled, clipped, missing values imputed with 0 (the training mean)."""
    coverage: Float32[np.ndarray, " row"]
    """Share of the row's features that were finite before imputation."""
    asset_id: Int64[np.ndarray, " row"]
    """Index into ``symbols``."""
    date_index: Int64[np.ndarray, " row"]
    """Index into ``dates``."""
    label: Float64[np.ndarray, " row"]
    """y_t = r(t+1 → t+2) over the asset's own sessions; NaN where not yet known."""
    sigma: Float64[np.ndarray, " row"]
    """Daily volatility known at t: positive, or NaN while too few sessions exist."""
    cost_rate: Float64[np.ndarray, " row"]
    """Cost of trading one unit of notional, as a fraction."""
    dates: pd.DatetimeIndex
    symbols: tuple[str, ...]
    feature_names: tuple[str, ...]
    asset_start: Int64[np.ndarray, " asset_plus_one"]
    """First row of each asset; the last entry is the number of rows."""

    def __post_init__(self) -> None:
        n = len(self.asset_id)
        for name in ("features", "coverage", "date_index", "label", "sigma", "cost_rate"):
            if len(getattr(self, name)) != n:
                raise DataError(
                    f"RowTable.{name} must hold {n} rows, found {len(getattr(self, name))}"
                )
        if self.features.shape[1] != len(self.feature_names):
            raise DataError(
                f"RowTable.features must hold {len(self.feature_names)} columns, one per name, "
                f"found {self.features.shape[1]}"
            )
        if len(self.asset_start) != len(self.symbols) + 1 or self.asset_start[-1] != n:
            raise DataError(
                f"RowTable.asset_start must hold {len(self.symbols) + 1} entries ending at {n}, "
                f"found {self.asset_start.tolist()[-3:]}"
            )
        step = np.diff(self.asset_id * (len(self.dates) + 1) + self.date_index)
        if n > 1 and not (step > 0).all():
            at = int(np.flatnonzero(step <= 0)[0])
            raise DataError(
                "RowTable rows must be sorted by asset, then time, each pair once, found row "
                f"{at + 1} (asset {self.asset_id[at + 1]}, date {self.date_index[at + 1]}) after "
                f"(asset {self.asset_id[at]}, date {self.date_index[at]})"
            )
        if not np.isfinite(self.features).all():
            raise DataError("RowTable.features must be finite, found NaN or infinity; scale first")
        if (self.sigma <= 0).any():
            raise DataError(
                f"RowTable.sigma must be positive or NaN, found {np.nanmin(self.sigma):g}"
            )

    @classmethod
    def build(
        cls,
        panel: PanelLike,
        close: Float64[np.ndarray, "time asset"],
        sigma: Float64[np.ndarray, "time asset"],
        cost_rate: Float64[np.ndarray, "time asset"],
        scaler: ScalerLike,
        label: Float64[np.ndarray, "time asset"] | None = None,
    ) -> "RowTable":
        """Flatten a feature panel to rows, scaled and labelled.

        Args:
            close: Unfilled closes; a finite one marks a session of the asset.
            sigma: Daily volatility as of each row's close.
            cost_rate: Fraction of traded notional.
            label: Replaces y_t = r(t+1 → t+2); it must not reach further ahead.

        As of:
            Features, sigma and cost: the row's own close. Label: two own sessions later.
        """
        shape = (len(panel.dates), len(panel.symbols))
        outcome = label_returns(close) if label is None else label
        for name, array in (
            ("close", close),
            ("sigma", sigma),
            ("cost_rate", cost_rate),
            ("label", outcome),
            ("panel.values", panel.values[..., 0] if panel.values.ndim == 3 else panel.values),
        ):
            if array.shape != shape:
                raise DataError(f"{name} must be of shape {shape}, found {array.shape}")
        has_session = np.isfinite(close).T  # [asset, time]: asset-major rows
        asset_id, date_index = (axis.astype(np.int64) for axis in np.nonzero(has_session))
        scaled, coverage = scaler.transform(panel.values[date_index, asset_id])
        counts = np.bincount(asset_id, minlength=len(panel.symbols))

        def pick(values: np.ndarray) -> np.ndarray:
            return values[date_index, asset_id].astype(np.float64)

        return cls(
            features=np.ascontiguousarray(scaled, dtype=np.float32),
            coverage=np.asarray(coverage, dtype=np.float32),
            asset_id=asset_id,
            date_index=date_index,
            label=pick(outcome),
            sigma=pick(sigma),
            cost_rate=pick(cost_rate),
            dates=panel.dates,
            symbols=tuple(panel.symbols),
            feature_names=tuple(panel.feature_names),
            asset_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.asset_id)

    @property
    def n_features(self) -> int:
        return self.features.shape[1]

    @cached_property
    def scaled_label(self) -> Float64[np.ndarray, " row"]:
        """y_t/σ_t; NaN where either is unknown: such a row bears no loss."""
        return self.label / self.sigma

    @cached_property
    def can_bear_loss(self) -> Bool[np.ndarray, " row"]:
        """True where label, volatility and cost are all known."""
        return np.isfinite(self.scaled_label) & np.isfinite(self.cost_rate)

    @cached_property
    def label_end(self) -> Int64[np.ndarray, " row"]:
        """Date index at which the row's label is realised (two own sessions later);
        ``UNKNOWN_DATE`` where that session is not in the table."""
        ends = np.full(len(self), UNKNOWN_DATE, dtype=np.int64)
        later = np.arange(len(self)) + LABEL_LAG_SESSIONS
        inside = later < self.asset_start[self.asset_id + 1]
        ends[inside] = self.date_index[later[inside]]
        return ends

    @property
    def row_dates(self) -> pd.DatetimeIndex:
        """Session date of each row."""
        return self.dates[self.date_index]

    def between(
        self, start: pd.Timestamp | None, end: pd.Timestamp | None
    ) -> Bool[np.ndarray, " row"]:
        """True for rows of ``start ≤ date < end``; ``None`` leaves a side open."""
        days = self.dates.to_numpy()
        low = 0 if start is None else int(np.searchsorted(days, start.to_datetime64()))
        high = len(days) if end is None else int(np.searchsorted(days, end.to_datetime64()))
        return (self.date_index >= low) & (self.date_index < high)

    def with_features(
        self, features: Float32[np.ndarray, "row feature"], feature_names: tuple[str, ...]
    ) -> "RowTable":
        """The same rows with other features (already scaled); coverage is kept."""
        return replace(self, features=features, feature_names=tuple(feature_names))

    def select_features(self, feature_names: tuple[str, ...]) -> "RowTable":
        """The same rows with a choice of the features, in the order asked for."""
        position = {name: i for i, name in enumerate(self.feature_names)}
        unknown = [name for name in feature_names if name not in position]
        if unknown:
            raise DataError(
                f"feature must be one of the table's {self.n_features}, found {unknown[0]!r}"
            )
        columns = [position[name] for name in feature_names]
        chosen = np.ascontiguousarray(self.features[:, columns])
        return self.with_features(chosen, tuple(feature_names))

    def to_panel(
        self, values: Float64[np.ndarray, " row"], at: Int64[np.ndarray, " row"] | None = None
    ) -> Float64[np.ndarray, "time asset"]:
        """Spread one number per row over [time, asset]; NaN where none is given.

        Args:
            at: Row numbers that ``values`` belong to; default all rows in order.
        """
        wide = np.full((len(self.dates), len(self.symbols)), np.nan)
        rows = slice(None) if at is None else at
        wide[self.date_index[rows], self.asset_id[rows]] = values
        return wide
