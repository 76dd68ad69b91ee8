"""Feature rows of earlier builds, served again while the bars behind them are the very same.

A night asks for the rows of the night before and one more. Nothing is taken on trust: rows are
kept with the bars they were made from, and given only where the bars read now equal those bit by
bit. So a restated bar, another ``as_of``, another universe or a new asset is not found.
"""

from dataclasses import dataclass

import numpy as np

from tft_core.data.panel import FIELDS, MarketPanel
from tft_core.data.universe import Universe


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Rows of one build, and all that they depend on."""

    market: MarketPanel
    universe: Universe
    wanted: tuple[str, ...]
    first_row: int
    """Row of ``market`` that ``values[0]`` stands for; the ones before it are history."""
    values: np.ndarray
    """[row, asset, feature]; row i was built from rows ≤ ``first_row + i`` of ``market``."""


class RowCache:
    """Rows of the latest ``build``, which may have had several vintages; not for several threads.

    Args:
        n_rows: Newest rows that are kept of each vintage.
    """

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows
        self._held: list[_Held] = []
        self._next: list[_Held] = []
        self.n_hits = 0
        """Rows that were not built again so far."""

    def known(
        self, market: MarketPanel, universe: Universe, wanted: tuple[str, ...], first_row: int
    ) -> np.ndarray | None:
        """The longest run of rows from ``first_row`` on that are known; ``None``: not even one.

        As of:
            As the build that made them: row t depends on rows ≤ t of ``market`` alone, and those
            are compared.
        """
        runs = [_shared_rows(held, market, universe, wanted, first_row) for held in self._held]
        longest = max(runs, key=len, default=None)
        if longest is None or not len(longest):
            return None
        self.n_hits += len(longest)
        return longest.copy()  # what the caller does with them must not reach the next build

    def keep(
        self,
        market: MarketPanel,
        universe: Universe,
        wanted: tuple[str, ...],
        first_row: int,
        values: np.ndarray,
    ) -> None:
        """Remember the rows of one vintage until the build after the next one has ended."""
        dropped = max(len(values) - self.n_rows, 0)
        kept = values[dropped:].copy()
        self._next.append(_Held(market, universe, wanted, first_row + dropped, kept))

    def end_build(self) -> None:
        """What was kept since the last call replaces what was there."""
        self._held, self._next = self._next, []


def _shared_rows(
    held: _Held, market: MarketPanel, universe: Universe, wanted: tuple[str, ...], first_row: int
) -> np.ndarray:
    """Rows of ``held`` from the first one asked for on, as far as all behind them is the same."""
    none = held.values[:0]
    if held.wanted != wanted or held.market.symbols != market.symbols:
        return none
    if not _is_same_universe(held.universe, universe):
        return none
    mine, theirs = held.market.dates.to_numpy(), market.dates.to_numpy()
    if not len(theirs) or not len(mine) or theirs[0] < mine[0] or first_row >= len(theirs):
        return none  # a longer history may know more
    offset = int(np.searchsorted(mine, theirs[0]))
    begin = first_row + offset - held.first_row
    if begin < 0:
        return none
    n = min(len(mine) - offset, len(theirs))
    is_same = mine[offset : offset + n] == theirs[:n]
    for name in FIELDS:
        before, now = getattr(held.market, name)[offset : offset + n], getattr(market, name)[:n]
        is_same &= ((before == now) | (np.isnan(before) & np.isnan(now))).all(axis=1)
    n_same = n if is_same.all() else int(is_same.argmin())
    # where history differs nothing is the same: an end below 0 would count from the back
    return held.values[begin : max(n_same + offset - held.first_row, 0)]


def _is_same_universe(one: Universe, other: Universe) -> bool:
    return (
        one.symbols == other.symbols
        and one.min_present == other.min_present
        and _spans(one) == _spans(other)
    )


def _spans(universe: Universe) -> list[tuple[int, str, str]]:
    return [(column, str(first), str(last)) for column, first, last in universe.spans]
