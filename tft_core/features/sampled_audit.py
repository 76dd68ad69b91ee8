"""Both audits on samples of a long market: what ``tft audit`` and the feature phase run.

At each cut a window of rows around it and a few assets that trade there are audited, so that
the cost follows the number of cuts and not the length of the history.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
import pandas as pd

from tft_core.data.panel import MarketPanel
from tft_core.data.store import MarketDataStore
from tft_core.data.universe import Universe, UniverseConfig
from tft_core.errors import FeatureError
from tft_core.features.audit import causality_audit, finite_history_audit
from tft_core.features.builder import MegaFeatureBuilder

ROWS_AFTER = 20
"""Rows of future that are removed and poisoned at a cut."""
ROWS_BEFORE = 40
"""Rows before a cut on which every feature can be known."""
SECOND_CUT = 3
"""Rows before a cut at which it is cut again: between two weeks, a leak within one is not seen."""
_HOLIDAYS = 1.1
"""Rows of several calendars that hold one session of each asset."""


def audit_cuts(builder: MegaFeatureBuilder, n_rows: int, n_cuts: int) -> list[int]:
    """Cuts spread evenly over the rows that have enough history before them.

    Raises:
        FeatureError: There are not enough rows for one.
    """
    first = window_rows(builder) - ROWS_AFTER
    if n_rows < first + 2 or n_cuts < 1:
        raise FeatureError(
            f"an audit must have a cut and at least {first + 2} sessions, found {n_cuts} and "
            f"{n_rows}; ingest more history"
        )
    cuts = np.linspace(first, max(n_rows - ROWS_AFTER, first), n_cuts).astype(int)
    return sorted({int(cut) for cut in cuts})


def window_rows(builder: MegaFeatureBuilder) -> int:
    """Rows of one window, the future of its cut included."""
    return int(_HOLIDAYS * builder.required_lookback()) + ROWS_BEFORE + ROWS_AFTER


def sampled_audit(
    builder: MegaFeatureBuilder,
    market: MarketPanel,
    cuts: Sequence[int],
    *,
    n_symbols: int = 10,
    series: pd.DataFrame | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Look-ahead and finite-history audit of every feature around each cut.

    The universe of a window is the assets sampled for it: a cross-section is judged as a
    function, whatever it is a cross-section of.

    Args:
        builder: The builder whose features are audited.
        market: Bars of all symbols to sample from.
        cuts: Row numbers, see ``audit_cuts``.
        n_symbols: Assets of each window, spread over those that trade at its end.
        series: As in ``causality_audit``.
        tables: As in ``causality_audit``.

    Returns:
        Indexed by feature: group, lookback, cells compared, cells moved by cutting and by
        poisoning the future, the first date of a move, the largest difference between short
        and full history in deviations, cells known on one side only, ``is_causal`` and
        ``is_finite_memory``.
    """
    parts = []
    for number, cut in enumerate(cuts):
        end = min(cut + ROWS_AFTER, len(market.dates))
        window = newest(market, end, window_rows(builder), n_symbols, offset=number)
        place = len(window.dates) - (end - cut)
        universe = Universe.resolve(UniverseConfig(), window.symbols)
        causal = causality_audit(
            builder,
            window,
            [place - SECOND_CUT, place],
            universe=universe,
            series=series,
            tables=tables,
            seed=cut,
        )
        finite = finite_history_audit(
            builder,
            window,
            [len(window.dates) - 1],
            universe=universe,
            series=series,
            tables=tables,
        )
        extra = ["lookback", "max_difference", "one_sided", "is_finite_memory"]
        parts.append(causal.join(finite[extra]))
    every = pd.concat(parts, ignore_index=True).groupby("feature", sort=False)
    return every.agg(
        {
            "group": "first",
            "lookback": "first",
            "cells": "sum",
            "moved_by_cut": "sum",
            "moved_by_poison": "sum",
            "first_date": "min",
            "max_difference": "max",
            "one_sided": "sum",
            "is_causal": "all",
            "is_finite_memory": "all",
        }
    )


def tables_that_look_ahead(
    builder: MegaFeatureBuilder, store: MarketDataStore, start: date, end: date, cut: date
) -> tuple[str, ...]:
    """Groups whose ``load`` gives other numbers for rows up to a cut when it sees later ones.

    Rows are told apart by date, symbol and ``available_at``, so that a revision is no finding.
    """
    whole = builder.load_tables(store, start, end)
    early = builder.load_tables(store, start, cut, cut)
    found = []
    for group, table in early.items():
        keys = [name for name in ("date", "symbol", "available_at") if name in table.columns]
        # each row beside the one of the same keys; a row on one side only is not compared
        left, right = (part.drop_duplicates(keys, keep="last") for part in (table, whole[group]))
        both = left[keys].merge(right[keys], on=keys)
        left, right = (both.merge(part, on=keys)[list(table.columns)] for part in (left, right))
        if not left.equals(right):
            found.append(group)
    return tuple(found)


def newest(
    market: MarketPanel, end: int, n_rows: int, n_symbols: int, offset: int = 0
) -> MarketPanel:
    """The rows before ``end`` of evenly chosen symbols that still trade on them.

    Args:
        offset: Shifts the choice, so that several windows see different symbols.
    """
    rows = slice(max(end - n_rows, 0), end)
    trading = np.flatnonzero(market.has_session[rows][-21:].any(axis=0))
    n = min(n_symbols, len(trading))
    places = (np.linspace(0, len(trading), n, endpoint=False).astype(int) + offset) % len(trading)
    chosen = trading[np.sort(places)]
    part = market.part(rows, chosen)
    return part.part(np.asarray(part.has_session.any(axis=1)))
