"""Which symbols the cross-section consists of, and since when.

The universe is a statement of the configuration, dated where membership changed. It is never
what a caller happens to ask predictions for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from tft_core.errors import ConfigError, UnknownSymbolError, first_few


@dataclass(frozen=True, slots=True)
class UniverseMember:
    """Symbols that belong to the universe over one span of dates."""

    symbols: tuple[str, ...]
    since: date | None = None
    """First day of membership; ``None`` from the first bar on."""
    until: date | None = None
    """Last day of membership; ``None`` to the newest bar."""

    def __post_init__(self) -> None:
        if not self.symbols:
            raise ConfigError("universe member must name at least one symbol, found none")
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ConfigError(
                "universe member must begin before it ends, "
                f"found since {self.since} after until {self.until}"
            )

    def end_seen_before(self, day: date | None) -> date | None:
        """``until``, but open where it cuts off none of the days before ``day``."""
        cuts = self.until is not None and (day is None or self.until < day - timedelta(days=1))
        return self.until if cuts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class UniverseConfig:
    """The ``[universe]`` section of ``tft.toml``."""

    members: tuple[UniverseMember, ...] = ()
    """Dated members; empty means every symbol of the store, over all its time."""
    min_present: float = 0.8
    """Share of the active members that must have a bar for a cross-section to be defined."""

    def __post_init__(self) -> None:
        if not 0.0 < self.min_present <= 1.0:
            raise ConfigError(
                f"universe min_present must lie in (0, 1], found {self.min_present:g}"
            )

    def as_seen_before(self, day: date | None) -> dict[str, Any]:
        """Plain values: the same for universes that are the same on all days before one.

        Args:
            day: ``None``: no day is too late.
        """
        spans = {
            (symbol, member.since, member.end_seen_before(day))
            for member in self.members
            for symbol in member.symbols
        }
        return {"min_present": self.min_present, "spans": sorted(spans, key=str)}


@dataclass(frozen=True, slots=True)
class Universe:
    """Symbols with their spans of membership, resolved against a store.

    A symbol that left and came back occurs once in ``symbols`` and has several ``spans``.
    """

    symbols: tuple[str, ...]
    min_present: float
    spans: tuple[tuple[int, np.datetime64, np.datetime64], ...]
    """(column, first day, last day) of every span, inclusive, ``NaT`` where open."""

    @classmethod
    def resolve(cls, config: UniverseConfig, store_symbols: Sequence[str]) -> "Universe":
        """Lay the configured members over the symbols that the store holds.

        Args:
            config: Members with their dates; none means every store symbol without dates.
            store_symbols: What the store holds; the universe keeps the order it gives them.

        Raises:
            UnknownSymbolError: A member is not in the store.
        """
        members = config.members or (
            (UniverseMember(symbols=tuple(store_symbols)),) if store_symbols else ()
        )
        named = {symbol for member in members for symbol in member.symbols}
        unknown = sorted(named - set(store_symbols))
        if unknown:
            raise UnknownSymbolError(
                f"universe must name symbols of the store, found {first_few(unknown)}; "
                "ingest their bars or correct [universe]"
            )
        symbols = tuple(symbol for symbol in store_symbols if symbol in named)
        column = {symbol: i for i, symbol in enumerate(symbols)}
        spans = tuple(
            (column[symbol], _stamp(member.since), _stamp(member.until))
            for member in members
            for symbol in member.symbols
        )
        return cls(
            symbols=symbols,
            min_present=config.min_present,
            spans=spans,
        )

    def active(self, dates: pd.DatetimeIndex) -> Bool[np.ndarray, "time asset"]:
        """True where a symbol belongs to the universe on a date."""
        days = dates.to_numpy(dtype="datetime64[D]")
        member = np.zeros((len(days), len(self.symbols)), dtype=bool)
        for column, first, last in self.spans:
            after = np.isnat(first) | (days >= first)
            before = np.isnat(last) | (days <= last)
            member[:, column] |= after & before
        return member

    def holds(
        self, symbols: Sequence[str], dates: pd.DatetimeIndex
    ) -> Bool[np.ndarray, "time asset"]:
        """True where each of these symbols belongs on a date; never, where it is not a member."""
        column = pd.Index(self.symbols).get_indexer(pd.Index(symbols))
        return self.active(dates)[:, column] & (column >= 0)

    def size(self, dates: pd.DatetimeIndex) -> Float[np.ndarray, " time"]:
        """Number of members on each date: the denominator of a cross-section's coverage."""
        return self.active(dates).sum(axis=1).astype(np.float64)


def _stamp(day: date | None) -> np.datetime64:
    return np.datetime64("NaT", "D") if day is None else np.datetime64(day, "D")
