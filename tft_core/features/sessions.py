"""Bars on each asset's own sessions: what own-session feature groups compute on.

An asset's sessions are packed side by side, so that "21 sessions ago" is 21 columns to the
left whatever the other assets' calendars hold. No feature is defined here, only the inputs
that several groups share.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property, wraps
from typing import Any, Optional

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tft_core.data.panel import FIELDS, MarketPanel
from tft_core.features import kernels as k
from tft_core.features.exogenous import ExogenousSeries, known_days

SIGMA_LOOKBACK = k.MAX_LAG + 1
"""Sessions behind σ_t: 252 returns."""


@dataclass(frozen=True, slots=True)
class SessionIndex:
    """Where each asset's sessions lie in the packed array.

    The first session at or after ``first_row`` of every asset has column ``first_out``, so
    columns never depend on what comes later.
    """

    rows: tuple[Int[np.ndarray, "_"], ...]
    """Row numbers of each asset's sessions."""
    start: tuple[int, ...]
    """Column of each asset's oldest session."""
    first_out: int
    width: int
    """Columns of the packed array."""

    @classmethod
    def of(cls, has_session: np.ndarray, first_row: int = 0) -> "SessionIndex":
        """The index of a (time, asset) mask; rows from ``first_row`` on are asked for."""
        rows = tuple(np.flatnonzero(column) for column in has_session.T)
        before = [int(np.searchsorted(r, first_row)) for r in rows]
        first_out = max(before, default=0)
        after = max((len(r) - b for r, b in zip(rows, before, strict=True)), default=0)
        return cls(rows, tuple(first_out - b for b in before), first_out, first_out + after)

    def columns(self, asset: int) -> slice:
        """Packed columns of one asset's sessions."""
        return slice(self.start[asset], self.start[asset] + len(self.rows[asset]))

    def pack(self, wide: np.ndarray, assets: Sequence[int]) -> np.ndarray:
        """(time, asset) → (asset, session) for the given assets; NaN where there is none."""
        out = np.full((len(assets), self.width), np.nan)
        for i, asset in enumerate(assets):
            out[i, self.columns(asset)] = wide[self.rows[asset], asset]
        return out

    def columns_at(self, rows: Int[np.ndarray, " session"]) -> Int[np.ndarray, "session asset"]:
        """Packed column of each asset's session on some rows; -1 where it has none."""
        out = np.full((len(rows), len(self.rows)), -1)
        for asset, own in enumerate(self.rows):
            if len(own):
                place = np.minimum(np.searchsorted(own, rows), len(own) - 1)
                out[:, asset] = np.where(own[place] == rows, self.start[asset] + place, -1)
        return out

    def reach(self, first_row: int) -> int:
        """Newest columns that hold every asset's sessions from a row on."""
        starts = zip(self.rows, self.start, strict=True)
        columns = [s + int(np.searchsorted(r, first_row)) for r, s in starts if len(r)]
        return self.width - min(columns, default=self.width)


def _shared(compute: Callable[["OwnSessions"], np.ndarray]) -> "cached_property[np.ndarray]":
    """A quantity computed once for all groups; a part of the columns takes it from the whole."""

    @wraps(compute)
    def value(bars: "OwnSessions") -> np.ndarray:
        if bars.whole is None:
            return compute(bars)
        return getattr(bars.whole, compute.__name__)[:, bars.offset :]

    return cached_property(value)


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
    whole: Optional["OwnSessions"] = None
    """The bars that these are the newest columns of."""
    offset: int = 0

    @property
    def n_out(self) -> int:
        """Number of newest columns that are asked for."""
        return self.close.shape[1] - self.first_out

    def newest(self, lookback: int) -> "OwnSessions":
        """Only the columns that features of this lookback need for the columns asked for."""
        offset = max(self.first_out - lookback + 1, 0)
        if offset == 0:
            return self
        part = copy(self)
        for name in ("day", *FIELDS):
            setattr(part, name, getattr(self, name)[:, offset:])
        for name in vars(self).keys() & _SHARED_NAMES:
            delattr(part, name)
        part.first_out, part.whole, part.offset = self.first_out - offset, self, offset
        return part

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
        arrays: dict[str, Any] = {}
        for name in FIELDS:
            values = index.pack(getattr(market, name), assets)
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
        """Assets and sessions."""
        return self.close.shape

    def asked(self, values: np.ndarray) -> np.ndarray:
        """The columns of an array that are asked for."""
        return k.recent(values, self.n_out)

    def table_column(self, group: str, column: str) -> np.ndarray:
        """A column of a user table on the assets' sessions, matched by date and symbol.

        NaN where the table holds no row or was not given. If the table has a column
        ``available_at``, a value counts only on sessions of that day or later.
        """
        out = np.full(self.shape, np.nan)
        table = self.tables.get(group)
        if table is None or len(table) == 0:
            return out
        number = pd.DatetimeIndex(table["date"]).to_numpy().astype("datetime64[D]")
        known = np.ones(len(table), dtype=bool)
        if "available_at" in table.columns:
            known = known_days(table["available_at"]) <= number
        for i, symbol in enumerate(self.symbols):
            mine = known & (table["symbol"] == symbol).to_numpy()
            order = np.argsort(number[mine], kind="stable")
            days = number[mine][order].astype(np.float64)
            values = table[column].to_numpy(dtype=np.float64)[mine][order]
            if len(days):
                place = np.minimum(np.searchsorted(days, self.day[i]), len(days) - 1)
                out[i] = np.where(days[place] == self.day[i], values[place], np.nan)
        return out

    @_shared
    def log_close(self) -> np.ndarray:
        """log close relative to the asset's first close in the array (levels mean nothing)."""
        return k.log(k.ratio(self.close, first_known(self.close)))

    @_shared
    def ret(self) -> np.ndarray:
        """Simple return from the previous session's close."""
        return k.ratio(self.close, k.lag(self.close)) - 1.0

    @_shared
    def log_ret(self) -> np.ndarray:
        """Log return from the previous session's close."""
        return k.log(k.ratio(self.close, k.lag(self.close)))

    @_shared
    def sigma(self) -> np.ndarray:
        """σ_t: EW volatility of daily returns, see ``kernels.ewm_std_daily``.

        NaN in the columns of history too early to see a whole kernel: no feature of the
        columns asked for may read them.
        """
        out = np.full(self.shape, np.nan)
        columns = self.n_out + max(self.first_out - k.MAX_LAG, 0)
        sigma = k.ewm_std_daily(self.ret, newest=columns)
        out[:, self.shape[1] - sigma.shape[1] :] = sigma
        return out

    @_shared
    def z_ret(self) -> np.ndarray:
        """Log return in units of the volatility known before it, clipped at ±10."""
        return np.clip(k.ratio(self.log_ret, k.lag(self.sigma)), -10.0, 10.0)

    @_shared
    def log_volume(self) -> np.ndarray:
        """log volume relative to the asset's first known one; NaN for a volume of 0."""
        return log_level(self.volume)

    @_shared
    def log_open_interest(self) -> np.ndarray:
        """log open interest relative to the asset's first known one; NaN for 0."""
        return log_level(self.open_interest)


def first_known(values: np.ndarray) -> np.ndarray:
    """First number of each row, as a column; NaN where there is none."""
    known = ~np.isnan(values)
    return values[np.arange(len(known)), known.argmax(axis=1)][:, None]


def log_level(values: np.ndarray) -> np.ndarray:
    """log relative to the row's first known one, for use in differences: levels mean nothing."""
    level = k.log(values)
    return level - first_known(level)


_SHARED_NAMES = frozenset(
    name for name, value in vars(OwnSessions).items() if isinstance(value, cached_property)
)
