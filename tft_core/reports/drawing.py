"""The look of every plot and the few shapes all of them are made of.

Object API only (no pyplot, hence no global state and nothing to close). Every function
returns PNG bytes, the same bytes for the same data and library versions. Sizes suit a column
of 360 to 560 CSS pixels, so that text stays readable on a phone.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

INK, SOFT, LINE = "#1c2430", "#5c6875", "#dfe4ea"
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = (
    "#0b4f8a",
    "#d55e00",
    "#009e73",
    "#b3261e",
    "#8e5ea2",
    "#56b4e9",
)
PATH_STYLES: dict[str, dict[str, Any]] = {
    "shipped": {"color": BLUE, "lw": 2.0, "zorder": 5},
    "tuned": {"color": ORANGE, "lw": 1.1},
    "default": {"color": GREEN, "lw": 1.1},
    "long_only": {"color": "#8a949e", "lw": 1.0, "ls": "-"},
    "tsmom_12m": {"color": SOFT, "lw": 1.0, "ls": "--"},
    "macd_blend": {"color": SOFT, "lw": 1.0, "ls": ":"},
}
"""One look per path, everywhere; baselines are grey."""
_MORE_COLORS = (PURPLE, SKY, "#cc79a7", "#e69f00")

WIDTH_IN, HEIGHT_IN, DPI = 5.2, 3.0, 160
_FEW_BARS = 5
TALL_WIDTH_IN = 4.7
"""Plots with a label per row are narrower, so that the labels stay readable on a phone."""
_STYLE = mpl.RcParams(
    {
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": SOFT,
        "axes.labelcolor": SOFT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": 0.7,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "text.color": INK,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "figure.facecolor": "white",
        "figure.constrained_layout.use": True,
    }
)


@contextmanager
def figure_of(
    n_rows: int, *, height: float, width: float = WIDTH_IN
) -> Iterator[tuple[Sequence[Axes], io.BytesIO]]:
    """Axes one above the other with a common x, and the buffer that gets the PNG at the end."""
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        yield tuple(figure.subplots(n_rows, 1, sharex=True, squeeze=False)[:, 0]), buffer
        # the same bytes as savefig's, which draws all of it once more to lay it out
        canvas.print_png(buffer, metadata={"Software": None})


@contextmanager
def axes(
    title: str, *, height: float = HEIGHT_IN, width: float = WIDTH_IN
) -> Iterator[tuple[Axes, io.BytesIO]]:
    """Axes in the house look, and the buffer that holds the PNG after the block."""
    with figure_of(1, height=height, width=width) as ((ax,), buffer):
        ax.set_title(title)
        yield ax, buffer


def date_ticks(ax: Axes, index: pd.Index) -> None:
    """Few, short dates on x, whatever the span; other indices keep their ticks."""
    if isinstance(index, pd.DatetimeIndex):
        locator = AutoDateLocator(minticks=3, maxticks=8)
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def path_style(name: str, position: int = 0) -> dict[str, Any]:
    """Line style of a path; an unknown one gets a colour by its position."""
    return PATH_STYLES.get(name, {"color": _MORE_COLORS[position % len(_MORE_COLORS)], "lw": 1.2})


def say_nothing(ax: Axes, text: str) -> None:
    """An empty plot that says why it is empty."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", color=SOFT, transform=ax.transAxes)


def legend_below(ax: Axes, n_columns: int = 3) -> None:
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=n_columns)


def bar_height(n_bars: int, *, each: float = 0.2, least: float = 1.8) -> float:
    """Figure height for a number of horizontal bars."""
    return max(least, 0.9 + each * n_bars)


def heat_map(
    values: pd.DataFrame,
    title: str,
    *,
    color_map: str,
    low: float,
    high: float,
    bar_label: str,
    marks: pd.DataFrame | None = None,
    percent: bool = False,
) -> bytes:
    """A labelled matrix; missing cells are hatched, marked ones carry a dot."""
    n_rows, n_columns = values.shape
    with axes(title, height=max(2.2, 1.5 + 0.19 * n_rows), width=TALL_WIDTH_IN) as (ax, png):
        if values.empty:
            say_nothing(ax, "nothing to show")
        else:
            matrix = values.to_numpy(dtype=np.float64)
            ax.set_facecolor("#eef0f2")
            ax.patch.set_hatch("////")
            ax.patch.set_edgecolor("#c8ced4")
            image = ax.imshow(
                np.ma.masked_invalid(matrix),
                cmap=color_map,
                norm=Normalize(low, max(high, low + 1e-9)),
                aspect="auto",
                interpolation="nearest",
            )
            ax.set_yticks(range(n_rows), [str(name) for name in values.index], fontsize=8)
            ax.set_xticks(
                range(n_columns),
                [str(name) for name in values.columns],
                rotation=45 if n_columns > 3 else 0,
                ha="right" if n_columns > 3 else "center",
                rotation_mode="anchor" if n_columns > 3 else "default",
                fontsize=8,
            )
            ax.grid(visible=False)
            if marks is not None:
                flags = marks.reindex(index=values.index, columns=values.columns)
                y, x = np.nonzero(np.nan_to_num(flags.to_numpy(dtype=np.float64)) > 0.5)
                ax.plot(x, y, "o", color="white", mec=INK, ms=3.2, mew=0.6)
            bar = ax.figure.colorbar(
                image,
                ax=ax,
                orientation="horizontal",
                shrink=0.6,
                pad=0.02,
                aspect=30,
                format=PercentFormatter(1.0, decimals=0) if percent else None,
            )
            bar.set_label(bar_label)
            bar.outline.set_visible(False)
    return png.getvalue()


def signed_bars(values: pd.Series, title: str, *, percent: bool = False) -> bytes:
    """Horizontal bars, blue above zero and red below, largest on top; the ends if very many."""
    known = values.dropna().sort_values()
    if len(known) > 40:
        known = pd.concat([known.iloc[:20], known.iloc[-20:]])
        title += " (best and worst 20)"
    height = bar_height(len(known), each=0.18)
    with axes(title, height=height, width=TALL_WIDTH_IN) as (ax, png):
        if known.empty:
            say_nothing(ax, "nothing to show")
        else:
            colors = np.where(known.to_numpy() >= 0.0, BLUE, RED)
            ax.barh([str(name) for name in known.index], known.to_numpy(), color=list(colors))
            if len(known) < _FEW_BARS:  # a bar or two must not fill the plot
                ax.set_ylim(-(_FEW_BARS - len(known)) / 2 - 0.5, (_FEW_BARS + len(known)) / 2 - 0.5)
            ax.axvline(0.0, color=SOFT, lw=0.8)
            ax.grid(axis="y", visible=False)
            if len(known) >= _FEW_BARS:
                ax.margins(y=0.01)
            ax.tick_params(axis="y", labelsize=8)
            if percent:
                ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    return png.getvalue()


def lines(
    frame: pd.DataFrame,
    title: str,
    *,
    y_label: str = "",
    x_label: str = "",
    percent: bool = False,
    zero: bool = True,
    styles: Mapping[str, dict[str, Any]] | None = None,
    marker: str | None = None,
) -> bytes:
    """One line per column over the index; the house styles where a column is a known path."""
    with axes(title) as (ax, png):
        if frame.dropna(how="all").empty:
            say_nothing(ax, "not enough days to show")
        else:
            for position, name in enumerate(map(str, frame.columns)):
                style = (styles or {}).get(name, path_style(name, position))
                ax.plot(
                    frame.index,
                    frame.iloc[:, position],
                    label=name.replace("_", " "),
                    marker=marker,
                    ms=4,
                    **style,
                )
            if zero:
                ax.axhline(0.0, color=SOFT, lw=0.8, zorder=1)
            ax.set_ylabel(y_label)
            ax.set_xlabel(x_label)
            date_ticks(ax, frame.index)
            if percent:
                ax.yaxis.set_major_formatter(PercentFormatter(1.0))
            legend_below(ax)
    return png.getvalue()


def funnel(counts: Sequence[tuple[str, float, str]], title: str) -> bytes:
    """A funnel: one bar per step, widest on top, each with its number and a remark."""
    with axes(title, height=bar_height(len(counts), each=0.42)) as (ax, png):
        names = [name for name, _, _ in counts][::-1]
        numbers = [number for _, number, _ in counts][::-1]
        remarks = [remark for _, _, remark in counts][::-1]
        ax.barh(names, numbers, color=BLUE, height=0.62)
        for y, (number, remark) in enumerate(zip(numbers, remarks, strict=True)):
            text = f" {number:,.0f}" + (f"  ({remark})" if remark else "")
            ax.text(number, y, text, va="center", fontsize=8.5)
        ax.set_xlim(0, max([*numbers, 1.0]) * 1.45)
        ax.grid(visible=False)
        ax.spines["bottom"].set_visible(False)
        ax.set_xticks([])
    return png.getvalue()
