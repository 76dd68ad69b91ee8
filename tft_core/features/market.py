"""The market as a whole: what cross-section feature groups compute on.

Only dates on which enough of the dated universe trades are market sessions; windows of
market-wide features count those. No feature is defined here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from tft_core.data.panel import MarketPanel
from tft_core.data.universe import Universe
from tft_core.features.sessions import OwnSessions, SessionIndex


@dataclass(eq=False)
class MarketGrid:
    """Own-session quantities of every asset, aligned on the market's sessions."""

    own: OwnSessions
    """Bars of all assets on their own sessions; compute there, then ``align``."""
    index: SessionIndex
    rows: Int[np.ndarray, " session"]
    """Row numbers of the market sessions."""
    is_member: Bool[np.ndarray, "session asset"]
    """True where the asset belongs to the universe on that date."""
    size: Float[np.ndarray, " session"]
    """Members of the universe on that date, present or not."""
    min_present: float
    first_out: int = 0
    """First market session that is asked for; the ones before it are history."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    _columns: dict[int, Int[np.ndarray, "session asset"]] = field(default_factory=dict)
    """Packed columns of the newest market sessions, by their number."""

    @classmethod
    def from_market(
        cls,
        market: MarketPanel,
        universe: Universe,
        first_row: int = 0,
        tables: Mapping[str, pd.DataFrame] | None = None,
    ) -> "MarketGrid":
        """Find the market sessions of a panel that holds the universe (and maybe others)."""
        is_member, size = _membership(market, universe)
        rows = _session_rows(market, universe, is_member, size)
        index = SessionIndex.of(market.has_session, first_row)
        return cls(
            own=OwnSessions.from_market(market, index, range(len(market.symbols)), tables=tables),
            index=index,
            rows=rows,
            is_member=is_member[rows],
            size=size[rows],
            min_present=universe.min_present,
            first_out=int(np.searchsorted(rows, first_row)),
            tables=tables or {},
        )

    @staticmethod
    def session_rows(market: MarketPanel, universe: Universe) -> Int[np.ndarray, " session"]:
        """Rows on which at least ``min_present`` of the universe trades."""
        return _session_rows(market, universe, *_membership(market, universe))

    @property
    def n_out(self) -> int:
        """Number of newest market sessions that are asked for."""
        return len(self.rows) - self.first_out

    @property
    def shape(self) -> tuple[int, int]:
        """Market sessions and assets."""
        return self.is_member.shape

    def align(
        self, packed: Float[np.ndarray, "asset session"], newest: int | None = None
    ) -> np.ndarray:
        """Own-session values of all assets on the market's sessions: (session, asset).

        Args:
            packed: All columns, or at least the ``own_reach(newest)`` newest of them.
            newest: Market sessions of the result; default all.
        """
        rows = self._newest_rows(newest)
        if len(rows) not in self._columns:
            self._columns[len(rows)] = self.index.columns_at(rows)
        column = self._columns[len(rows)]
        absent = self.index.width - packed.shape[1]
        assets = np.arange(packed.shape[0])
        if packed.shape[1] == 0:
            return np.full(column.shape, np.nan)
        return np.where(column >= 0, packed[assets, np.maximum(column - absent, 0)], np.nan)

    def own_reach(self, newest: int) -> int:
        """Newest own-session columns behind so many of the newest market sessions."""
        rows = self._newest_rows(newest)
        return self.index.reach(int(rows[0])) if len(rows) else 0

    def members(
        self, packed: Float[np.ndarray, "asset session"], newest: int | None = None
    ) -> np.ndarray:
        """As ``align``, NaN outside the universe and on dates with too few values.

        "Too few" is below ``min_present`` of the universe's size on that date.
        """
        first = len(self.rows) - len(self._newest_rows(newest))
        values = np.where(self.is_member[first:], self.align(packed, newest), np.nan)
        known = np.isfinite(values).sum(axis=1)
        enough = known >= self.min_present * self.size[first:]
        return np.where(enough[:, None], values, np.nan)

    def _newest_rows(self, newest: int | None) -> np.ndarray:
        return self.rows if newest is None else self.rows[max(len(self.rows) - newest, 0) :]


def _session_rows(
    market: MarketPanel, universe: Universe, is_member: np.ndarray, size: np.ndarray
) -> np.ndarray:
    present = (is_member & market.has_session).sum(axis=1)
    return np.flatnonzero((size > 0) & (present >= universe.min_present * size))


def _membership(
    market: MarketPanel, universe: Universe
) -> tuple[Bool[np.ndarray, "time asset"], Float[np.ndarray, " time"]]:
    column = {symbol: i for i, symbol in enumerate(universe.symbols)}
    active = universe.active(market.dates)
    is_member = np.zeros(market.close.shape, dtype=bool)
    for asset, symbol in enumerate(market.symbols):
        if symbol in column:
            is_member[:, asset] = active[:, column[symbol]]
    return is_member, universe.size(market.dates)
