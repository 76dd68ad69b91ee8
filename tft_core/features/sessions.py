"""Bars on each asset's own sessions: what own-session feature groups compute on.

An asset's sessions are packed side by side, so that "21 sessions ago" is 21 columns to the
left whatever the other assets' calendars hold. No feature is defined here, only the inputs
that several groups share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tft_core.data.panel import FIELDS, MarketPanel
from tft_core.features import kernels as k
from tft_core.features.exogenous import ExogenousSeries

SIGMA_LOOKBACK = k.MAX_LAG + 1
"""Sessions behind σ_t: 252 returns."""


@dataclass(frozen=True, slots=True)
class SessionIndex:
    """Where each asset's sessions lie in the packed array.

    The first session at or after ``first_row`` of every asset has column ``first_out``, so
    columns never depend on what comes later.
    """

    rows: tuple[Int[np.ndarray, " session"], ...]
    """Row numbers of each asset's sessions."""
    start: tuple[int, ...]
    """Column of each asset's oldest session."""
    first_out: int
    width: int

    @classmethod
    def of(cls, has_session: np.ndarray, first_row: int = 0) -> "SessionIndex":
        rows = tuple(np.flatnonzero(column) for column in has_session.T)
        before = [int(np.searchsorted(r, first_row)) for r in rows]
        first_out = max(before, default=0)
        after = max((len(r) - b for r, b in zip(rows, before, strict=True)), default=0)
        return cls(rows, tuple(first_out - b for b in before), first_out, first_out + after)

    def columns(self, asset: int) -> slice:
        return slice(self.start[asset], self.start[asset] + len(self.rows[asset]))

    def pack(self, wide: np.ndarray, assets: Sequence[int]) -> np.ndarray:
        """(time, asset) → (asset, session) for the given assets; NaN where there is none."""
        out = np.full((len(assets), self.width), np.nan)
        for i, asset in enumerate(assets):
            out[i, self.columns(asset)] = wide[self.rows[asset], asset]
        return out

    def unpack(self, packed: np.ndarray, n_rows: int) -> np.ndarray:
        """(asset, session) of all assets → (time, asset); NaN off their sessions."""
        out = np.full((n_rows, len(self.rows)), np.nan)
        for asset, rows in enumerate(self.rows):
            out[rows, asset] = packed[asset, self.columns(asset)]
        return out


@dataclass(eq=False)
class OwnSessions:
    """Packed bars of some assets: rows are assets, columns their own sessions in order.

    Missing and impossible numbers (infinite, prices and volumes out of their domain) are NaN.
    """

    symbols: tuple[str, ...]
    day: Float[np.ndarray, "asset session"]
    """Days since 1970-01-01 of the session; NaN where the asset has none."""
    open: Float[np.ndarray, "asset session"]
    high: Float[np.ndarray, "asset session"]
    low: Float[np.ndarray, "asset session"]
    close: Float[np.ndarray, "asset session"]
    volume: Float[np.ndarray, "asset session"]
    open_interest: Float[np.ndarray, "asset session"]
    first_out: int = 0
    """First column that is asked for; the ones before it are history."""
    exogenous: ExogenousSeries = field(default_factory=ExogenousSeries)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """User tables by group name (``FeatureGroup.load``)."""

    @classmethod
    def from_market(
        cls,
        market: MarketPanel,
        index: SessionIndex,
        assets: Sequence[int],
        exogenous: ExogenousSeries | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
    ) -> "OwnSessions":
        """Pack the bars of some assets of a market panel."""
        arrays = {name: index.pack(getattr(market, name), assets) for name in FIELDS}
        for name, values in arrays.items():
            floor = values >= 0.0 if name in ("volume", "open_interest") else values > 0.0
            arrays[name] = np.where(np.isfinite(values) & floor, values, np.nan)
        number = market.dates.to_numpy().astype("datetime64[D]").astype(np.float64)
        days = np.broadcast_to(number[:, None], market.close.shape)
        return cls(
            symbols=tuple(market.symbols[a] for a in assets),
            day=index.pack(days, assets),
            first_out=index.first_out,
            exogenous=exogenous or ExogenousSeries(),
            tables=tables or {},
            **arrays,
        )

    @property
    def shape(self) -> tuple[int, int]:
        return self.close.shape  # type: ignore[return-value]

    @cached_property
    def log_close(self) -> np.ndarray:
        """log close relative to the asset's first close in the array (levels mean nothing)."""
        return self.relative_log(self.close)

    def relative_log(self, price: np.ndarray) -> np.ndarray:
        """log of a price relative to the asset's first close in the array."""
        known = ~np.isnan(self.close)
        first = self.close[np.arange(len(known)), known.argmax(axis=1)]
        return k.log(k.ratio(price, first[:, None]))

    @cached_property
    def ret(self) -> np.ndarray:
        """Simple return from the previous session's close."""
        return k.ratio(self.close, k.lag(self.close)) - 1.0

    @cached_property
    def log_ret(self) -> np.ndarray:
        """Log return from the previous session's close."""
        return k.log(k.ratio(self.close, k.lag(self.close)))

    @cached_property
    def sigma(self) -> np.ndarray:
        """σ_t: EW volatility of daily returns, see ``kernels.ewm_std_daily``."""
        return k.ewm_std_daily(self.ret)

    @cached_property
    def z_ret(self) -> np.ndarray:
        """Log return in units of the volatility known before it, clipped at ±10."""
        return np.clip(k.ratio(self.log_ret, k.lag(self.sigma)), -10.0, 10.0)

    @cached_property
    def log_volume(self) -> np.ndarray:
        """log volume relative to the window's first known one; NaN for a volume of 0."""
        return _relative(k.log(self.volume))

    @cached_property
    def log_open_interest(self) -> np.ndarray:
        """log open interest relative to the first known one; NaN for 0."""
        return _relative(k.log(self.open_interest))


def _relative(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    first = values[np.arange(len(known)), known.argmax(axis=1)]
    return values - first[:, None]
