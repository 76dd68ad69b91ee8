"""Plots of a study: how the search went, what mattered, and where the trials lay.

Each takes plain frames and returns PNG bytes. The look is ``drawing``'s.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tft_core.reports.drawing import (
    BLUE,
    GREEN,
    INK,
    LINE,
    ORANGE,
    SKY,
    SOFT,
    TALL_WIDTH_IN,
    axes,
    bar_height,
    legend_below,
    say_nothing,
)

_INSET = 0.04
"""Margin of the value axes in a parallel plot, as a share of their length."""


def history_png(trials: pd.DataFrame, title: str = "Objective of each trial") -> bytes:
    """Values in the order of the search, the best so far, the default, and the pruned.

    Args:
        trials: One row per finished trial: ``number, state, value``.
    """
    with axes(title) as (ax, png):
        complete = trials[trials["state"] == "complete"]
        if complete.empty:
            say_nothing(ax, "no trial is complete")
        else:
            _draw_history(ax, trials, complete)
    return png.getvalue()


def _draw_history(ax: Axes, trials: pd.DataFrame, complete: pd.DataFrame) -> None:
    number = complete["number"].to_numpy(dtype=np.int64)
    value = complete["value"].to_numpy(dtype=np.float64)
    ax.plot(number, value, "o", color=SKY, ms=4.5, label="complete")
    best = np.maximum.accumulate(value)
    ax.plot(number, best, color=BLUE, lw=1.6, drawstyle="steps-post", label="best so far")
    if number[0] == 0:
        ax.axhline(value[0], color=GREEN, lw=1.2, ls="--", label="default (trial 0)")
    pruned = trials.loc[trials["state"] != "complete", "number"]
    if len(pruned):
        floor = np.full(len(pruned), value.min())
        ax.plot(pruned, floor, "|", color=SOFT, ms=9, label="pruned (no value)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("trial")
    ax.set_ylabel("net Sharpe less its penalty")
    legend_below(ax, 2)


def importances_png(
    importances: Sequence[Mapping[str, Any]], title: str = "What told good trials apart"
) -> bytes:
    """Shares of importance as bars, each with the level that chance stays below.

    Args:
        importances: ``name, share, chance`` per hyper-parameter, largest first.
    """
    height = bar_height(len(importances), each=0.24)
    with axes(title, height=height, width=TALL_WIDTH_IN) as (ax, png):
        if not importances:
            say_nothing(ax, "too few complete trials to tell")
        else:
            _draw_importances(ax, importances)
    return png.getvalue()


def _draw_importances(ax: Axes, importances: Sequence[Mapping[str, Any]]) -> None:
    rows = list(importances)[::-1]
    place = np.arange(len(rows))
    above = [row["share"] > row["chance"] for row in rows]
    ax.barh(
        place, [row["share"] for row in rows], color=[BLUE if a else LINE for a in above],
        height=0.7,
    )  # fmt: skip
    ax.plot(
        [row["chance"] for row in rows], place, "|", color=ORANGE, ms=11, mew=2,
        label="95 % of shuffled studies stay left of this",
    )  # fmt: skip
    ax.set_yticks(place, [str(row["name"]).replace("_", " ") for row in rows])
    ax.set_xlim(left=0.0)
    ax.grid(axis="y", visible=False)
    legend_below(ax, 1)


def parallel_png(trials: pd.DataFrame, best: int, title: str = "Parameters of each trial") -> bytes:
    """Parallel coordinates, one row per hyper-parameter so that names stay readable on a phone.

    Complete trials are coloured by their value, pruned ones pale; the best is thick, the default
    dashed. A trial that has no use for a setting skips its row.

    Args:
        trials: ``number, state, value`` and ``params_*``.
        best: Number of the best trial.
    """
    names = [c for c in trials.columns if str(c).startswith("params_") and trials[c].nunique() > 1]
    with axes(title, height=bar_height(len(names), each=0.42), width=TALL_WIDTH_IN) as (ax, png):
        if not names:
            say_nothing(ax, "no setting was varied")
        else:
            _draw_parallel(ax, trials, names, best)
    return png.getvalue()


def _draw_parallel(ax: Axes, trials: pd.DataFrame, names: Sequence[str], best: int) -> None:
    scales = [_scale(trials[name]) for name in names]
    where = np.column_stack([scale[0] for scale in scales])
    place = np.arange(len(names))[::-1]
    values = trials["value"].to_numpy(dtype=np.float64)
    shade = _shades(values)
    # the better a trial, the later it is drawn
    for row in np.argsort(np.nan_to_num(values, nan=-np.inf), kind="stable"):
        number = int(trials["number"].iloc[row])
        style: dict[str, Any] = {"color": shade[row], "lw": 0.9, "alpha": 0.85, "zorder": 2}
        if not np.isfinite(values[row]):
            style = {"color": LINE, "lw": 0.8, "zorder": 1}
        if number == 0:
            style = {"color": GREEN, "lw": 1.8, "ls": "--", "zorder": 4, "label": "default"}
        if number == best:
            style = {"color": ORANGE, "lw": 2.2, "zorder": 5, "label": f"best (trial {best})"}
        known = np.isfinite(where[row])
        ax.plot(where[row][known], place[known], **style)
    _value_axes(ax, place, names, [scale[1] for scale in scales])
    legend_below(ax, 2)


def _value_axes(
    ax: Axes, place: np.ndarray, names: Sequence[str], ticks: Sequence[list[tuple[float, str]]]
) -> None:
    ax.set_yticks(place, [name.removeprefix("params_").replace("_", " ") for name in names])
    ax.set_xticks([])
    ax.set_xlim(-_INSET, 1.0 + _INSET)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.grid(visible=False)
    for side in ("bottom", "left"):
        ax.spines[side].set_visible(False)
    for y, marks in zip(place, ticks, strict=True):
        ax.axhline(y, color=LINE, lw=1.0, zorder=0)
        for x, text in marks:
            ax.plot(x, y, "|", color=SOFT, ms=5, zorder=0)
            ax.annotate(
                text, (x, y), (0, -7), textcoords="offset points", ha="center", va="top",
                fontsize=7, color=INK, zorder=6,
            )  # fmt: skip


def _scale(column: pd.Series) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Places in [0, 1] of a column's values (NaN where it has none), and marks to label."""
    known = column.dropna()
    if column.dtype == object or pd.api.types.is_string_dtype(column) or known.nunique() <= 6:
        levels = sorted(known.unique())
        step = max(len(levels) - 1, 1)
        place = {level: i / step for i, level in enumerate(levels)}
        where = np.array([place.get(v, np.nan) for v in column], dtype=np.float64)
        return where, [(place[level], _short(level)) for level in levels]
    values = column.to_numpy(dtype=np.float64)
    low, high = np.nanmin(values), np.nanmax(values)
    if low > 0.0 and high / low > 5.0:  # what is searched by orders of magnitude
        where = (np.log(values) - np.log(low)) / (np.log(high) - np.log(low))
    else:
        where = (values - low) / (high - low)
    return where, [(0.0, _short(low)), (1.0, _short(high))]


def _shades(values: np.ndarray) -> np.ndarray:
    """A colour per trial, darker the better, by rank: one outlier must not flatten the rest."""
    rank = pd.Series(values).rank(pct=True).fillna(0.0).to_numpy()
    return mpl.colormaps["Blues"](0.25 + 0.7 * rank)


def _short(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.3g}"
    return str(value)
