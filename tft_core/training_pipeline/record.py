"""The walk-forward record: what a path of positions would have earned, net of costs.

One function serves the study's inner folds, the reported windows, the baselines and the
headline, so that a figure means the same wherever it stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from tft_core.data.universe import Universe
from tft_core.metrics import summary
from tft_core.positions import (
    PositionConfig,
    portfolio_returns,
    portfolio_weights,
)
from tft_core.schema import finite_or_none
from tft_core.training_pipeline.rows import FoldData


@dataclass(frozen=True, slots=True)
class PathRecord:
    """Daily results of one path over one window, by decision day, as fractions of capital."""

    dates: pd.DatetimeIndex
    gross: Float[np.ndarray, " time"]
    cost: Float[np.ndarray, " time"]
    turnover: Float[np.ndarray, " time"]
    by_asset: Float[np.ndarray, "time asset"]
    """Net return that each asset contributed."""
    weights: Float[np.ndarray, "time asset"]
    """Capital weights decided on each day."""

    @property
    def net(self) -> Float[np.ndarray, " time"]:
        return self.gross - self.cost

    def figures(self) -> dict[str, float | None]:
        """See ``path_figures``."""
        return path_figures(self.net, self.gross, self.turnover)

    def frame(self, path: str) -> pd.DataFrame:
        """One row per day under the path's name: returns, cost, turnover and exposures."""
        return pd.DataFrame(
            {
                "date": self.dates,
                "path": path,
                "net": self.net,
                "gross": self.gross,
                "cost": self.cost,
                "turnover": self.turnover,
                "exposure_gross": np.abs(self.weights).sum(axis=1),
                "exposure_net": self.weights.sum(axis=1),
            }
        )


def path_figures(
    net: Float[np.ndarray, " time"],
    gross: Float[np.ndarray, " time"],
    turnover: Float[np.ndarray, " time"],
) -> dict[str, float | None]:
    """``metrics.summary`` of a path as JSON can hold it: undefined figures are ``None``."""
    return {name: finite_or_none(v) for name, v in summary(net, gross, turnover).items()}


def record_path(
    data: FoldData,
    universe: Universe,
    window: np.ndarray,
    positions: Float[np.ndarray, "time asset"],
    config: PositionConfig,
    *,
    cost_scale: float = 1.0,
) -> PathRecord:
    """Net daily returns of positions on the dates ``window`` of ``data``, starting flat.

    Decision days whose label ends after the newest date of ``data`` are left out: the next
    window's data would be needed to price them.

    Args:
        window: Consecutive positions into ``data.dates``, int64 [session].
        positions: One row per position of ``window``.
        cost_scale: Multiplies every instrument's cost (cost sensitivity).
    """
    end = data.label_end[window]
    has_session = np.isfinite(data.close[window])
    # a day is complete when every label of its sessions is; sparse assets are priced when
    # they trade again, so only the newest open decisions of each window are cut off
    is_open = (has_session & (end < 0)).sum(axis=1) > 0.5 * has_session.sum(axis=1)
    n_complete = int(np.flatnonzero(is_open)[0]) if is_open.any() else len(window)
    kept = window[:n_complete]
    dates = data.dates[kept]
    weights = portfolio_weights(
        positions[:n_complete], data.sigma_daily[kept], universe.size(dates), config
    )
    result = portfolio_returns(
        weights, data.labels[kept], np.nan_to_num(data.cost_rate[kept]) * cost_scale
    )
    return PathRecord(
        dates=dates,
        gross=result.gross,
        cost=result.cost,
        turnover=result.turnover,
        by_asset=result.by_asset,
        weights=weights,
    )


def wide_net(frames: Mapping[str, pd.DataFrame] | pd.DataFrame) -> pd.DataFrame:
    """Daily net returns, one column per path, indexed by date."""
    frame = (
        frames
        if isinstance(frames, pd.DataFrame)
        else pd.concat(frames.values(), ignore_index=True)
    )
    return frame.pivot(index="date", columns="path", values="net").sort_index()
