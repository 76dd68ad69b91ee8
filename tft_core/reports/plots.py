"""The small plots shown inline in Dagster's UI and again in the reports.

Each takes a plain frame or series and returns PNG bytes. The look is ``drawing``'s.
"""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from tft_core.reports.drawing import (
    BLUE,
    GREEN,
    LINE,
    ORANGE,
    PURPLE,
    SKY,
    SOFT,
    TALL_WIDTH_IN,
    axes,
    bar_height,
    date_ticks,
    figure_of,
    heat_map,
    legend_below,
    lines,
    say_nothing,
    signed_bars,
)

_MEMBER_COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY)


def equity_png(paths: pd.DataFrame, title: str = "Growth of 1, net of costs") -> bytes:
    """Compounded wealth of daily net returns, one line per column (index: dates)."""
    returns = paths.astype("float64")
    wealth = (1.0 + returns.fillna(0.0)).cumprod().where(returns.notna())
    return lines(wealth, title, zero=False)


def training_curves(histories: pd.DataFrame, title: str = "Training") -> bytes:
    """Loss and validation Sharpe over epochs.

    Args:
        histories: One row per member × epoch: ``member, epoch, phase, train_loss,
            val_sharpe``; members may span several phases, which are laid end to end.
    """
    with figure_of(2, height=3.8) as ((loss, sharpe), png):
        loss.set_title(title)
        loss.set_ylabel("training loss")
        sharpe.set_ylabel("validation Sharpe")
        sharpe.set_xlabel("epoch, all phases end to end")
        sharpe.xaxis.set_major_locator(MaxNLocator(integer=True))
        for position, (member, rows) in enumerate(histories.groupby("member", sort=True)):
            step = np.arange(1, len(rows) + 1)
            color = _MEMBER_COLORS[position % len(_MEMBER_COLORS)]
            style = {"color": color, "lw": 1.2, "marker": "o" if len(rows) < 12 else None, "ms": 3}
            loss.plot(step, rows["train_loss"], label=f"member {member}", **style)
            values = rows["val_sharpe"].to_numpy(dtype=np.float64)
            sharpe.plot(step, values, **style)
            known = np.where(np.isfinite(values), values, -np.inf)
            if np.isfinite(values).any():
                best = int(np.argmax(known))
                sharpe.plot(step[best], values[best], "o", color=color, ms=7, mec="white", zorder=4)
            phase = rows["phase"].to_numpy()
            for change in np.flatnonzero(phase[1:] != phase[:-1]):
                for ax in (loss, sharpe):
                    ax.axvline(change + 1.5, color=LINE, lw=1.2, zorder=0)
        if histories.empty:
            say_nothing(loss, "no epochs to show")
            sharpe.set_axis_off()
        elif histories["member"].nunique() <= 6:
            legend_below(loss)
    return png.getvalue()


def largest_bars(
    values: pd.Series, title: str, *, most: int = 30, even: float | None = None
) -> bytes:
    """The largest values of a series as horizontal bars.

    Args:
        even: Value of an even share, drawn as a line.
    """
    top = values.dropna().sort_values(ascending=False).head(most)[::-1]
    with axes(title, height=bar_height(len(top)), width=TALL_WIDTH_IN) as (ax, png):
        if top.empty:
            say_nothing(ax, "nothing was measured")
        else:
            ax.barh([str(name) for name in top.index], top.to_numpy(), color=BLUE, height=0.72)
            ax.grid(axis="y", visible=False)
            ax.margins(y=0.01)
            if even is not None:
                ax.axvline(even, color=ORANGE, lw=1.2, ls="--", label="even share")
                ax.legend(loc="lower right")
    return png.getvalue()


def coverage_png(coverage: pd.DataFrame, title: str = "Coverage by symbol and group") -> bytes:
    """Share of sessions with a value: symbols (rows) × groups (columns), 0 to 1."""
    return heat_map(
        coverage,
        title,
        color_map="Blues",
        low=0.0,
        high=1.0,
        bar_label="share of sessions with a value",
        percent=True,
    )


def positions_png(positions: pd.DataFrame | pd.Series, title: str = "Positions") -> bytes:
    """Positions of one session as signed bars (series), or over time (frame, date index)."""
    if isinstance(positions, pd.Series):
        return signed_bars(positions, title)
    with axes(title) as (ax, png):
        if positions.empty:
            say_nothing(ax, "no positions to show")
        else:
            shown = positions.abs().mean().nlargest(12).index
            for position, name in enumerate(shown):
                color = mpl.colormaps["tab20"](position % 20)
                ax.plot(positions.index, positions[name], lw=1.0, color=color, label=str(name))
            ax.axhline(0.0, color=SOFT, lw=0.8)
            date_ticks(ax, positions.index)
            legend_below(ax, 4)
    return png.getvalue()
