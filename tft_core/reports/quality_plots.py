"""The plots of the data-quality page: who traded when, what was found where, and large moves."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num

from tft_core.reports.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SOFT,
    TALL_WIDTH_IN,
    axes,
    date_ticks,
    heat_map,
    legend_below,
    say_nothing,
)

_MARKERS = {
    "decimal_spike": ("X", RED),
    "spike": ("v", RED),
    "unit_switch": ("D", PURPLE),
    "unadjusted_split": ("D", ORANGE),
    "stale_run": ("s", SKY),
    "does_not_trade": ("s", SOFT),
    "large_move": ("o", GREEN),
}
"""One look per rule on the time line; other rules are too many to draw."""


def by_year_png(
    table: pd.DataFrame, title: str, *, bar_label: str, low: float = 0.0, high: float = 1.0
) -> bytes:
    """A symbols × years heat map of shares; every fifth year is named."""
    return heat_map(
        _few_years(table),
        title,
        color_map="Blues",
        low=low,
        high=high,
        bar_label=bar_label,
        percent=True,
    )


def relative_volatility_png(volatility: pd.DataFrame, title: str) -> bytes:
    """Each symbol's yearly volatility in doublings of its own median: symbols × years."""
    ratio = volatility.div(volatility.median(axis=1), axis=0).where(volatility > 0)
    doublings = ratio.transform(np.log2)
    return heat_map(
        _few_years(doublings),
        title,
        color_map="RdBu_r",
        low=-2.0,
        high=2.0,
        bar_label="doublings of the symbol's median year",
    )


def timeline_png(spans: pd.DataFrame, gaps: pd.DataFrame, findings: pd.DataFrame) -> bytes:
    """One line per symbol from its first to its last bar, broken at gaps, with its findings.

    Args:
        spans: ``symbol, first, last``.
        gaps: ``symbol, last_before, next``.
        findings: ``symbol, date, rule``.
    """
    symbols = spans["symbol"].tolist()[::-1]
    row = {symbol: i for i, symbol in enumerate(symbols)}
    height = max(2.2, 1.2 + 0.16 * len(symbols))
    with axes("Who traded when", height=height, width=TALL_WIDTH_IN) as (ax, png):
        if not symbols:
            say_nothing(ax, "no bars to show")
        else:
            lives = [row[s] for s in spans["symbol"]]
            ax.hlines(lives, spans["first"], spans["last"], color=BLUE, lw=2.4)
            if len(gaps):
                broken = [row[s] for s in gaps["symbol"]], gaps["last_before"], gaps["next"]
                ax.hlines(*broken, color="white", lw=3.2, zorder=3)
                ax.hlines(*broken, color=RED, lw=1.0, zorder=4, label=f"long gap ({len(gaps)})")
            _mark_findings(ax, findings[findings["symbol"].isin(row)], row)
            ax.set_yticks(range(len(symbols)), symbols, fontsize=7.5)
            ax.set_ylim(-0.8, len(symbols) - 0.2)
            ax.grid(axis="y", visible=False)
            date_ticks(ax, pd.DatetimeIndex(spans["first"]))
            if ax.get_legend_handles_labels()[0]:
                legend_below(ax, 2)
    return png.getvalue()


def _mark_findings(ax: Axes, findings: pd.DataFrame, row: dict[str, int]) -> None:
    for rule, (marker, color) in _MARKERS.items():
        own = findings[findings["rule"] == rule]
        if len(own):
            ax.plot(
                date2num(pd.to_datetime(own["date"])),
                [row[symbol] for symbol in own["symbol"]],
                marker,
                color=color,
                mec="white",
                mew=0.5,
                ms=5,
                zorder=5,
                label=f"{rule.replace('_', ' ')} ({len(own)})",
            )


def large_moves_png(moves: pd.DataFrame) -> bytes:
    """The size of the largest moves over time, in robust standard deviations; extremes are named.

    Args:
        moves: ``symbol, date, return, z``, largest first.
    """
    with axes("The largest moves for their symbol", height=3.6) as (ax, png):
        if moves.empty:
            say_nothing(ax, "no moves to show")
        else:
            days, size = date2num(pd.to_datetime(moves["date"])), moves["z"].abs().to_numpy()
            for is_up, color, name in ((True, BLUE, "up"), (False, RED, "down")):
                own = (moves["return"] > 0).to_numpy() == is_up
                ax.plot(
                    *(days[own], size[own], "o"), ms=4, color=color, alpha=0.55, mew=0, label=name
                )
            ax.set_yscale("log")
            ticks = [t for t in (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if size.min() <= t]
            ax.set_yticks([t for t in ticks if t <= 1.5 * size.max()])
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            ax.yaxis.set_minor_formatter(lambda *_: "")
            _name_extremes(ax, moves, days, size)
            ax.set_ylabel("robust standard deviations")
            ax.margins(x=0.08)
            date_ticks(ax, pd.DatetimeIndex(moves["date"]))
            legend_below(ax)
    return png.getvalue()


def _name_extremes(ax: Axes, moves: pd.DataFrame, days: np.ndarray, size: np.ndarray) -> None:
    """Names at the largest moves, fewer where they would overlap."""
    height = np.log(size)
    across, up = (max(float(np.ptp(axis)), 1e-9) for axis in (days, height))
    taken: list[tuple[float, float]] = []
    for at in range(min(12, len(moves))):
        x, y = float(days[at] - days.min()) / across, float(height[at] - height.min()) / up
        if all(abs(x - u) > 0.15 or abs(y - v) > 0.06 for u, v in taken):
            ax.annotate(
                str(moves["symbol"].iloc[at]),
                (days[at], size[at]),
                textcoords="offset points",
                xytext=(5, -3),
                fontsize=8,
                color=INK,
            )
            taken.append((x, y))


def _few_years(table: pd.DataFrame) -> pd.DataFrame:
    years = [int(year) for year in table.columns]
    step = 1 if len(years) <= 12 else 5
    return table.set_axis([str(y) if y % step == 0 else "" for y in years], axis=1)
