"""Wide market data: one (time, asset) array per field, NaN where an asset has no session.

A row is a date on which at least one asset of the panel traded. Nothing is filled: an
asset that did not trade is NaN, and whatever counts sessions counts the asset's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from tft_core.errors import DataError
from tft_core.schema import LABEL_LAG_SESSIONS

FIELDS = ("open", "high", "low", "close", "volume", "open_interest")


@dataclass(frozen=True, slots=True)
class MarketPanel:
    """Bars of several assets on the union of their session dates."""

    dates: pd.DatetimeIndex
    symbols: tuple[str, ...]
    open: Float[np.ndarray, "time asset"]
    high: Float[np.ndarray, "time asset"]
    low: Float[np.ndarray, "time asset"]
    close: Float[np.ndarray, "time asset"]
    volume: Float[np.ndarray, "time asset"]
    open_interest: Float[np.ndarray, "time asset"]

    @property
    def has_session(self) -> Bool[np.ndarray, "time asset"]:
        """True where the asset has a bar of its own."""
        return np.isfinite(self.close)

    @classmethod
    def from_bars(
        cls,
        bars: pd.DataFrame,
        symbols: Sequence[str],
        dates: pd.DatetimeIndex | None = None,
    ) -> "MarketPanel":
        """Pivot long bars (one row per date and symbol) to wide float64 arrays.

        Args:
            bars: Columns ``date, symbol, open … open_interest``.
            symbols: Order of the asset axis; a symbol without bars is all NaN.
            dates: The time axis; default the sorted dates that occur.

        Raises:
            DataError: A (date, symbol) pair occurs twice.
        """
        row_dates = pd.DatetimeIndex(pd.to_datetime(bars["date"]))
        axis = pd.DatetimeIndex(np.unique(row_dates)) if dates is None else dates
        columns = pd.Index(symbols).get_indexer(pd.Index(bars["symbol"]))
        values = {name: bars[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in FIELDS}
        return cls.from_columns(axis, symbols, axis.get_indexer(row_dates), columns, values)

    @classmethod
    def from_columns(
        cls,
        dates: pd.DatetimeIndex,
        symbols: Sequence[str],
        rows: Int[np.ndarray, " bar"],
        columns: Int[np.ndarray, " bar"],
        values: Mapping[str, Float[np.ndarray, " bar"]],
    ) -> "MarketPanel":
        """Scatter bars whose places are known.

        Args:
            rows: Place of each bar in ``dates``; a bar with −1 is left out.
            columns: Place of each bar in ``symbols``; a bar with −1 is left out.
            values: The bars' numbers, by field.

        Raises:
            DataError: A (date, symbol) pair occurs twice.
        """
        known = (rows >= 0) & (columns >= 0)
        place = rows[known] * len(symbols) + columns[known]
        is_taken = np.zeros(len(dates) * len(symbols), dtype=bool)
        is_taken[place] = True
        if np.count_nonzero(is_taken) != len(place):
            twice = place[pd.Series(place).duplicated().to_numpy()][0]
            row, column = divmod(int(twice), len(symbols))
            raise DataError(
                "bars must hold one row per date and symbol, found two for "
                f"{symbols[column]} on {dates[row].date()}"
            )
        arrays = {}
        for name in FIELDS:
            wide = np.full(is_taken.shape, np.nan)
            wide[place] = values[name][known]
            arrays[name] = wide.reshape(len(dates), len(symbols))
        return cls(dates=dates, symbols=tuple(symbols), **arrays)


def own_session_shift(
    values: Float[np.ndarray, "time asset"],
    has_session: Bool[np.ndarray, "time asset"],
    sessions: int,
) -> Float[np.ndarray, "time asset"]:
    """Value of each asset ``sessions`` of its own sessions later (negative: earlier).

    NaN off the asset's sessions and where there is no such session.
    """
    out = np.full(values.shape, np.nan)
    # stable argsort brings each asset's sessions to the top in time order
    order = np.argsort(~has_session, axis=0, kind="stable")
    packed = np.take_along_axis(values, order, axis=0)
    is_own = np.take_along_axis(has_session, order, axis=0)
    packed = np.where(is_own, packed, np.nan)
    moved = np.full(values.shape, np.nan)
    if sessions > 0:
        moved[:-sessions] = packed[sessions:]
    elif sessions < 0:
        moved[-sessions:] = packed[:sessions]
    else:
        moved = packed
    np.put_along_axis(out, order, np.where(is_own, moved, np.nan), axis=0)
    return out


def label_returns(
    close: Float[np.ndarray, "time asset"],
) -> Float[np.ndarray, "time asset"]:
    """y_t = close(t+2)/close(t+1) − 1 over each asset's own sessions, on decision rows t.

    As of:
        The close of the asset's second session after t. NaN for its last two sessions.
    """
    has_session = np.isfinite(close)
    entry = own_session_shift(close, has_session, 1)
    leave = own_session_shift(close, has_session, LABEL_LAG_SESSIONS)
    return leave / entry - 1.0
