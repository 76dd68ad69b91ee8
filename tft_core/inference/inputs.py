"""What predictions are made from: features, closes, volatilities and faults of the newest bars.

Each row is read as it was known on its own day; a later correction changes no earlier row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from functools import cached_property

import bottleneck as bn
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from tft_core.data.calendar import session_mask
from tft_core.data.panel import MarketPanel, along_own_sessions, own_session_shift
from tft_core.data.store import MarketDataStore
from tft_core.features.as_known import HISTORY, wealth
from tft_core.features.kernels import daily_volatility
from tft_core.features.panel import FeaturePanel
from tft_core.inference.config import ServingConfig

VOLUME_WINDOW = 21
"""Own sessions whose median volume says whether an asset usually trades."""


@dataclass(frozen=True, slots=True)
class BarFaults:
    """What is odd about each asset's newest bars, as of each row."""

    outlier_day: np.ndarray
    """[time, asset] session of the newest move beyond the limit, within reach; else ``NaT``."""
    is_frozen: Bool[np.ndarray, "time asset"]
    is_untraded: Bool[np.ndarray, "time asset"]
    is_off_calendar: Bool[np.ndarray, "time asset"]
    """A bar on a day on which its exchange does not trade."""

    @classmethod
    def of(
        cls,
        dates: pd.DatetimeIndex,
        symbols: Sequence[str],
        close: Float[np.ndarray, "time asset"],
        sigma_daily: Float[np.ndarray, "time asset"],
        limits: ServingConfig,
        volume: Float[np.ndarray, "time asset"] | None = None,
        trades: Bool[np.ndarray, "time asset"] | None = None,
    ) -> "BarFaults":
        """Judge bars row by row.

        Args:
            close: Unfilled closes of one vintage.
            volume: ``None`` where it was not kept: then no bar counts as untraded.
            trades: True where the asset's exchange has a session; ``None``: not known here.

        As of:
            Row t reads rows ≤ t.
        """
        has_session = np.isfinite(close)
        before = own_session_shift(close, has_session, -1)
        sigma_before = own_session_shift(sigma_daily, has_session, -1)
        with np.errstate(invalid="ignore", divide="ignore"):
            move = np.abs(close / before - 1.0) / sigma_before
        days = dates.to_numpy("datetime64[D]")
        for symbol, day in limits.accepted:
            if symbol in symbols:
                move[days == np.datetime64(day), list(symbols).index(symbol)] = 0.0
        own_count = np.cumsum(has_session, axis=0)
        row = np.arange(len(days))[:, None]
        hit = np.where(has_session & (move > limits.max_return_sigmas), row, -1)
        last_hit = np.maximum.accumulate(hit, axis=0)
        count_at_hit = np.take_along_axis(own_count, np.maximum(last_hit, 0), axis=0)
        is_near = (last_hit >= 0) & (own_count - count_at_hit < limits.outlier_sessions)
        outlier_day = np.where(is_near, days[np.maximum(last_hit, 0)], np.datetime64("NaT", "D"))
        # sessions since the close last moved
        moved = np.where(has_session & ~(close == before), own_count, 0)
        unchanged = own_count - np.maximum.accumulate(moved, axis=0)
        is_frozen = has_session & (unchanged >= limits.max_unchanged_sessions)
        is_untraded = np.zeros(close.shape, dtype=bool)
        if volume is not None:
            is_untraded = has_session & (volume == 0.0) & (_usual_volume(volume, has_session) > 0)
        is_off_calendar = np.zeros(close.shape, dtype=bool) if trades is None else ~trades
        return cls(outlier_day, is_frozen, is_untraded, has_session & is_off_calendar)

    def take(self, rows: np.ndarray) -> "BarFaults":
        return BarFaults(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, kw_only=True)
class MarketInputs:
    """Features, closes and volatilities on one grid."""

    panel: FeaturePanel
    close: Float[np.ndarray, "time asset"]
    sigma_daily: Float[np.ndarray, "time asset"]
    faults: BarFaults | None = None
    """As each row was known; ``None``: judged from ``close`` and ``sigma_daily``."""
    is_untraded: Bool[np.ndarray, "time asset"] | None = None
    """What ``close`` does not tell, where ``faults`` is ``None`` and it was kept: bars without
    volume (see ``BarFaults``) …"""
    is_off_calendar: Bool[np.ndarray, "time asset"] | None = None
    """… and bars on days on which the exchange does not trade."""

    @property
    def has_bars(self) -> Bool[np.ndarray, " asset"]:
        """True for assets with at least one session in the window."""
        return np.any(np.isfinite(self.close), axis=0)

    @cached_property
    def sigma_carried(self) -> Float[np.ndarray, "time asset"]:
        """The last known volatility of each asset up to each row."""
        return bn.push(self.sigma_daily, axis=0)

    def judged(self, limits: ServingConfig) -> BarFaults:
        """``faults``, or what can be said of the bars without the store."""
        if self.faults is not None:
            return self.faults
        found = BarFaults.of(
            self.panel.dates, tuple(self.panel.symbols), self.close, self.sigma_daily, limits
        )
        kept = {
            name: values
            for name in ("is_untraded", "is_off_calendar")
            if (values := getattr(self, name)) is not None
        }
        return replace(found, **kept)


def read_market(
    store: MarketDataStore, panel: FeaturePanel, last: date, limits: ServingConfig
) -> MarketInputs:
    """Closes, volatilities and bar faults on the rows of a feature panel.

    As of:
        Volatilities and faults of row t: the vintages known at t. Closes, of which only own
        sessions and compounded returns are read: those known on ``last``.
    """
    dates, symbols = panel.dates, panel.symbols
    first = dates[0].date()
    sigma = np.full((len(dates), len(symbols)), np.nan)
    found: list[tuple[np.ndarray, BarFaults]] = []
    outcome: MarketPanel | None = None
    exchanges = store.exchanges(symbols)
    for start, end, known_at in store.vintage_blocks(first, last, symbols):
        market = store.panel(symbols, start - HISTORY, end, as_of=known_at)
        sigma_known = daily_volatility(market.close)
        rows = dates.get_indexer(market.dates)
        own = (rows >= 0) & np.asarray(market.dates >= pd.Timestamp(start))
        sigma[rows[own]] = sigma_known[own]
        trades = _calendar(market, exchanges)
        faults = BarFaults.of(
            market.dates, symbols, market.close, sigma_known, limits, market.volume, trades
        )
        found.append((rows[own], faults.take(own)))
        if known_at is None and start <= first:
            outcome = market  # nothing was corrected: one reading serves both
    if outcome is None:
        outcome = store.panel(symbols, first - HISTORY, last, as_of=last)
    return MarketInputs(
        panel=panel,
        close=_compounded(outcome, dates),
        sigma_daily=sigma,
        faults=_joined(found, sigma.shape),
    )


def _compounded(market: MarketPanel, dates: pd.DatetimeIndex) -> np.ndarray:
    before = own_session_shift(market.close, market.has_session, -1)
    returns = np.where(np.isnan(before), 0.0, market.close / before - 1.0)
    returns[~market.has_session] = np.nan
    inside = np.asarray(market.dates >= dates[0])
    held = market.dates[inside]
    return wealth(returns[inside])[held.get_indexer(dates)]


def _calendar(market: MarketPanel, exchanges: Mapping[str, str]) -> Bool[np.ndarray, "time asset"]:
    """True where each asset's exchange trades; one that nobody knows trades on weekdays."""
    has_bars = np.any(market.has_session, axis=0)
    # a calendar takes a second to load: only those of assets that have bars here are asked
    asked = {exchanges.get(s, "") for s, has in zip(market.symbols, has_bars, strict=True) if has}
    known = {exchange: session_mask(exchange, market.dates) for exchange in sorted(asked)}
    nothing = np.ones(len(market.dates), dtype=bool)
    return np.stack([known.get(exchanges.get(s, ""), nothing) for s in market.symbols], axis=1)


def _joined(found: list[tuple[np.ndarray, BarFaults]], shape: tuple[int, ...]) -> BarFaults:
    joined = {
        "outlier_day": np.full(shape, np.datetime64("NaT", "D"), dtype="datetime64[D]"),
        **{f.name: np.zeros(shape, dtype=bool) for f in fields(BarFaults)[1:]},
    }
    for rows, faults in found:
        for name, values in joined.items():
            values[rows] = getattr(faults, name)
    return BarFaults(**joined)


def _usual_volume(
    volume: Float[np.ndarray, "time asset"], has_session: Bool[np.ndarray, "time asset"]
) -> Float[np.ndarray, "time asset"]:
    """Median volume of the own sessions before each row; NaN where too few are known."""

    def before(packed: Float[np.ndarray, "session asset"]) -> Float[np.ndarray, "session asset"]:
        if len(packed) < VOLUME_WINDOW:
            return np.full(packed.shape, np.nan)
        median = bn.move_median(packed, VOLUME_WINDOW, min_count=VOLUME_WINDOW // 2, axis=0)
        return np.vstack([np.full((1, packed.shape[1]), np.nan), median[:-1]])

    return along_own_sessions(volume, has_session, before)
