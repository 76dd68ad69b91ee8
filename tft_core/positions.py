"""From the network's raw output to positions, portfolio weights and net returns.

The same pure functions serve training evaluation, tuning, the walk-forward record,
inference and the strategy. Nothing here reads data or knows a model.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from tft_core.errors import ConfigError
from tft_core.schema import TRADING_DAYS_PER_YEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionConfig:
    """How a raw output in [-1, 1] becomes a position and a portfolio weight."""

    max_position: float = 0.25
    """Largest absolute position in one asset, in units of its volatility-scaled allotment."""
    position_smooth: float = 0.3
    """Share of the new raw position in today's position; the rest is yesterday's."""
    max_daily_turnover: float = 0.5
    """Largest change of one asset's position in one session."""
    vol_target: float = 0.15
    """Annualised volatility that each asset's full position of 1 is scaled to."""

    def __post_init__(self) -> None:
        for name, high in (
            ("max_position", 1.0),
            ("position_smooth", 1.0),
            ("max_daily_turnover", 2.0),
            ("vol_target", 2.0),
        ):
            value = getattr(self, name)
            if not 0.0 < value <= high:
                raise ConfigError(f"positions.{name} must lie in (0, {high:g}], found {value:g}")

    @property
    def vol_target_daily(self) -> float:
        """``vol_target`` of one day: a standard deviation grows with the root of time."""
        return self.vol_target / TRADING_DAYS_PER_YEAR**0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CostConfig:
    """Trading costs where an instrument does not bring its own."""

    default_bps: float = 1.0
    """Basis points of traded notional."""
    bps: dict[str, float] | None = None
    """Asset class → basis points of traded notional."""
    vol: dict[str, float] | None = None
    """Asset class → cost in units of the instrument's daily volatility, which replaces
    basis points where notional means little (short-rate futures)."""

    def __post_init__(self) -> None:
        rates = {"default_bps": self.default_bps, **(self.bps or {}), **(self.vol or {})}
        for name, value in rates.items():
            if not 0.0 <= value < 1000.0:
                raise ConfigError(f"costs.{name} must lie in [0, 1000), found {value:g}")


def next_positions(
    raw: Float[np.ndarray, " asset"],
    previous: Float[np.ndarray, " asset"],
    config: PositionConfig,
) -> Float[np.ndarray, " asset"]:
    """Today's positions: clip(smooth(clip(raw)), daily turnover cap).

    An asset whose raw output is NaN did not trade today and keeps its position.

    Args:
        raw: Model output in [-1, 1]; NaN where the asset has no session.
        previous: Yesterday's positions, 0 where flat.
    """
    target = np.clip(raw, -config.max_position, config.max_position)
    smoothed = previous + config.position_smooth * (target - previous)
    step = np.clip(smoothed - previous, -config.max_daily_turnover, config.max_daily_turnover)
    bounded = np.clip(previous + step, -config.max_position, config.max_position)
    return np.where(np.isnan(raw), previous, bounded)


def walk_positions(
    raw: Float[np.ndarray, "time asset"],
    config: PositionConfig,
    previous: Float[np.ndarray, " asset"] | None = None,
    is_member: Bool[np.ndarray, "time asset"] | None = None,
) -> Float[np.ndarray, "time asset"]:
    """Positions day by day; each day's smoothing starts from the day before.

    Args:
        previous: Positions before the first row; ``None`` starts flat and pays the entry.
        is_member: False where an asset does not belong to the universe: its position is 0 at
            once, whatever was held. Default: every asset always belongs.
    """
    held = np.zeros(raw.shape[1]) if previous is None else previous
    positions = np.empty(raw.shape, dtype=np.float64)
    # the turnover cap makes the recursion non-linear: one vectorised step a day
    for day, row in enumerate(raw):
        held = next_positions(row, held, config)
        if is_member is not None:
            held = np.where(is_member[day], held, 0.0)
        positions[day] = held
    return positions


def portfolio_weights(
    positions: Float[np.ndarray, "time asset"],
    sigma_daily: Float[np.ndarray, "time asset"],
    n_assets: Float[np.ndarray, " time"],
    config: PositionConfig,
) -> Float[np.ndarray, "time asset"]:
    """Capital weights p · σ_target / (σ_t · N); the last known one where σ_t is NaN.

    A weight changes only on the asset's own sessions: while it doesn't trade, its last
    weight is carried. Before its first session it is 0.

    Args:
        positions: p, within ± ``max_position``.
        sigma_daily: σ_t of daily returns; NaN off session and where it is unknown.
        n_assets: Members of the universe on each day: N.

    Source:
        X-Trend (arXiv 2310.10500v2) eq. 2, without the capital drift between sessions.
    """
    scaled = positions * config.vol_target_daily / (sigma_daily * n_assets[:, None])
    traded = np.isfinite(scaled)
    last = np.maximum.accumulate(np.where(traded, np.arange(len(scaled))[:, None], -1), axis=0)
    carried = np.take_along_axis(np.where(traded, scaled, 0.0), np.maximum(last, 0), axis=0)
    return np.where(last >= 0, carried, 0.0)


@dataclass(frozen=True, slots=True)
class PortfolioReturns:
    """Daily portfolio returns as fractions of capital, by decision day."""

    gross: Float[np.ndarray, " time"]
    cost: Float[np.ndarray, " time"]
    turnover: Float[np.ndarray, " time"]
    """Sum of absolute weight changes, as a fraction of capital."""
    by_asset: Float[np.ndarray, "time asset"]
    """Net return contributed by each asset."""

    @property
    def net(self) -> Float[np.ndarray, " time"]:
        """Returns after costs."""
        return self.gross - self.cost


def portfolio_returns(
    weights: Float[np.ndarray, "time asset"],
    label_returns: Float[np.ndarray, "time asset"],
    cost_rate: Float[np.ndarray, "time asset"],
    previous: Float[np.ndarray, " asset"] | None = None,
) -> PortfolioReturns:
    """Net returns of a path of weights.

    Args:
        weights: Capital weights decided on each day.
        label_returns: r(t+1 → t+2) over each asset's own sessions; NaN where the asset has
            no session on t, which earns nothing on that row.
        cost_rate: Cost as a fraction of traded notional (see ``cost_rates``).
        previous: Weights before the first row; ``None`` is flat, so the entry is paid.
    """
    start = np.zeros((1, weights.shape[1])) if previous is None else previous[None]
    traded = np.abs(np.diff(weights, axis=0, prepend=start))
    earned = weights * np.nan_to_num(label_returns)
    paid = np.where(traded > 0, traded * cost_rate, 0.0)
    return PortfolioReturns(
        gross=earned.sum(axis=1),
        cost=paid.sum(axis=1),
        turnover=traded.sum(axis=1),
        by_asset=earned - paid,
    )


def cost_rates(
    sigma_daily: Float[np.ndarray, "time asset"],
    cost_bps: Float[np.ndarray, " asset"],
    cost_vol: Float[np.ndarray, " asset"],
) -> Float[np.ndarray, "time asset"]:
    """Cost of trading one unit of notional, as a fraction.

    Args:
        cost_bps: Basis points per instrument; NaN where it is costed in volatility.
        cost_vol: Units of daily volatility per instrument; NaN where costed in bps.
    """
    return np.where(np.isnan(cost_vol), cost_bps / 1e4, cost_vol * sigma_daily)
