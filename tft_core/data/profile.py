"""What bars look like over time, for people: presence, fields, gaps, volatility, large moves.

Tables only, each a description of the panel it is given. What is wrong with bars is ``quality``'s
and ``history``'s to say; what a plot looks like is ``reports``'.
"""

from collections.abc import Mapping
from datetime import date

import numpy as np
import pandas as pd

from tft_core.data.calendar import session_mask
from tft_core.data.history import LEAST_MOVE, HistoryLimits, sigma_before
from tft_core.data.panel import FIELDS, MarketPanel
from tft_core.schema import TRADING_DAYS_PER_YEAR

MIN_RETURNS = 20
"""A year with fewer returns has no volatility worth a colour."""


def presence_by_year(
    panel: MarketPanel, exchanges: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Share of its exchange's sessions on which a symbol has a bar: symbols × years.

    Sessions count from the symbol's first to its last bar; other years are NaN. An exchange that
    nobody knows has a session on every weekday, so its holidays show as absent bars.
    """
    table: dict[str, pd.Series] = {}
    for column, symbol in enumerate(panel.symbols):
        own = panel.dates[panel.has_session[:, column]]
        if len(own) == 0:
            table[symbol] = pd.Series(dtype=np.float64)
            continue
        days = pd.date_range(own[0], own[-1], freq="D")
        expected = days[session_mask((exchanges or {}).get(symbol), days)]
        is_there = pd.Series(expected.isin(own), index=expected.year)
        table[symbol] = is_there.groupby(level=0).mean()
    years = sorted({year for share in table.values() for year in share.index})
    return pd.DataFrame(table).T.reindex(index=list(panel.symbols), columns=years)


def field_coverage(panel: MarketPanel) -> pd.DataFrame:
    """Share of a symbol's bars that have a value: symbols × open, high, …, open_interest."""
    sessions = panel.has_session.sum(axis=0).astype(np.float64)
    sessions[sessions == 0] = np.nan
    return pd.DataFrame(
        {
            name: (np.isfinite(getattr(panel, name)) & panel.has_session).sum(axis=0) / sessions
            for name in FIELDS
            if name != "close"
        },
        index=list(panel.symbols),
    )


def life_spans(panel: MarketPanel) -> pd.DataFrame:
    """First and last bar of each symbol that has one: ``symbol, first, last``."""
    rows = []
    for column, symbol in enumerate(panel.symbols):
        own = panel.dates[panel.has_session[:, column]]
        if len(own):
            rows.append((symbol, own[0], own[-1]))
    return pd.DataFrame(rows, columns=["symbol", "first", "last"])


def long_gaps(panel: MarketPanel, max_gap_days: int = 10) -> pd.DataFrame:
    """Spans without a bar longer than so many calendar days, longest first.

    Returns:
        ``symbol, last_before, next, days``.
    """
    rows = []
    for column, symbol in enumerate(panel.symbols):
        own = panel.dates[panel.has_session[:, column]]
        days = np.diff(own.to_numpy("datetime64[D]")).astype(np.int64)
        rows += [
            (symbol, own[at], own[at + 1], int(days[at]))
            for at in np.flatnonzero(days > max_gap_days).tolist()
        ]
    table = pd.DataFrame(rows, columns=["symbol", "last_before", "next", "days"])
    return table.sort_values(["days", "symbol"], ascending=[False, True], ignore_index=True)


def volatility_by_year(panel: MarketPanel) -> pd.DataFrame:
    """Annualised standard deviation of own-session log returns: symbols × years."""
    table = {}
    for column, symbol in enumerate(panel.symbols):
        own = panel.has_session[:, column]
        days = panel.dates[own][1:]
        moves = pd.Series(np.diff(np.log(panel.close[own, column])), index=days)
        by_year = moves.groupby(days.year)
        table[symbol] = by_year.std(ddof=0).where(by_year.size() >= MIN_RETURNS)
    years = sorted({year for vol in table.values() for year in vol.dropna().index})
    frame = pd.DataFrame(table).T.reindex(index=list(panel.symbols), columns=years)
    return frame * TRADING_DAYS_PER_YEAR**0.5


def largest_moves(
    panel: MarketPanel, most: int = 200, limits: HistoryLimits | None = None
) -> pd.DataFrame:
    """The moves that are largest for their symbol, largest first: ``symbol, date, return, z``.

    ``z`` is the log return over the robust standard deviation of the symbol's year before. Moves
    below 1 % don't count: a peg's scale is its rounding noise.
    """
    limits = limits or HistoryLimits()
    parts = []
    for column, symbol in enumerate(panel.symbols):
        own = panel.has_session[:, column]
        close, days = panel.close[own, column], panel.dates[own]
        if len(close) < 2:
            continue
        moves = np.diff(np.log(close))
        z = moves / sigma_before(moves, limits)
        z = np.where(np.abs(moves) < LEAST_MOVE, 0.0, z)
        top = np.argsort(-np.abs(z), kind="stable")[:most]
        top = top[z[top] != 0]
        parts.append(
            pd.DataFrame(
                {
                    "symbol": symbol,
                    "date": days[1:][top],
                    "return": np.expm1(moves[top]),
                    "z": z[top],
                }
            )
        )
    if not parts:
        return pd.DataFrame({"symbol": [], "date": [], "return": [], "z": []})
    table = pd.concat(parts, ignore_index=True)
    order = table["z"].abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order].head(most).reset_index(drop=True)


def newest_bars(panel: MarketPanel, stale_days: int = 10) -> tuple[date | None, tuple[str, ...]]:
    """The newest date of the panel, and the symbols whose last bar lies further back than that."""
    spans = life_spans(panel)
    if spans.empty:
        return None, ()
    newest = spans["last"].max()
    ended = spans[spans["last"] < newest - pd.Timedelta(days=stale_days)]
    return newest.date(), tuple(ended["symbol"])
