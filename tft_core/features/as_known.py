"""Returns and volatilities of sessions, read as they were known: what sizing and labels need.

Levels are never joined across vintages: a restated back-adjusted series changes scale, and a
return across two scales would be nonsense.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
from jaxtyping import Float

from tft_core.data.panel import own_session_shift
from tft_core.data.store import MarketDataStore
from tft_core.features.kernels import daily_volatility

HISTORY = timedelta(days=800)
"""Holds the 253 sessions that σ reads, and a pause of a year besides."""


@dataclass(frozen=True, slots=True)
class SessionRisk:
    """One row per date on which an asset of the universe traded."""

    dates: pd.DatetimeIndex
    returns: Float[np.ndarray, "time asset"]
    """Simple return since the asset's own previous session; 0 on its first, NaN off session."""
    sigma_daily: Float[np.ndarray, "time asset"]
    """σ_t from what was known at t."""


def session_risk(
    store: MarketDataStore, symbols: Sequence[str], first: date, last: date
) -> SessionRisk:
    """Returns and volatilities of the sessions in [first, last].

    As of:
        σ of row t: the vintages known at t. Returns, which are outcomes: those known on
        ``last``, since what was earned does not depend on what was believed.
    """
    outcome = store.panel(symbols, first - HISTORY, last, as_of=last)
    before = own_session_shift(outcome.close, outcome.has_session, -1)
    returns = np.where(np.isnan(before), 0.0, outcome.close / before - 1.0)
    returns[~outcome.has_session] = np.nan
    inside = np.asarray(outcome.dates >= pd.Timestamp(first))
    dates = outcome.dates[inside]
    sigma = np.full((len(dates), len(symbols)), np.nan)
    for start, end, known_at in store.vintage_blocks(first, last, tuple(symbols)):
        panel = store.panel(symbols, start - HISTORY, end, as_of=known_at)
        rows = dates.get_indexer(panel.dates)
        own = (rows >= 0) & np.asarray(panel.dates >= pd.Timestamp(start))
        sigma[rows[own]] = daily_volatility(panel.close)[own]
    return SessionRisk(dates=dates, returns=returns[inside], sigma_daily=sigma)


def wealth(returns: Float[np.ndarray, "time asset"]) -> Float[np.ndarray, "time asset"]:
    """Price relative to an asset's first session: what its returns compound to, NaN off session."""
    compounded = np.cumprod(1.0 + np.nan_to_num(returns), axis=0)
    return np.where(np.isnan(returns), np.nan, compounded)
