"""Page of an ablation: does training on fewer features help?"""

import numpy as np
import pandas as pd

from tft_core.reports.drawing import (
    BLUE,
    INK,
    SOFT,
    TALL_WIDTH_IN,
    axes,
    bar_height,
    lines,
)
from tft_core.reports.page import Bullets, Figure, Figures, Section, Table, Text, render_page


def ablation_page(
    *,
    title: str,
    sentence: str,
    arms: pd.DataFrame,
    comparisons: pd.DataFrame,
    inner_folds: pd.DataFrame,
    daily: pd.DataFrame,
    skipped: tuple[str, ...],
) -> str:
    """One page: what to believe, Sharpe ratios with errors, paired differences, paths.

    Args:
        arms: Index arm; ``sharpe_net, sharpe_se``.
        comparisons: ``arm, against, difference, low, high, p_value, verdict``.
        daily: Date × arm, daily net returns over the pooled inner test days.
        skipped: Inner folds left out, in words.
    """
    wealth = (1.0 + daily).cumprod() - 1.0
    return render_page(
        title,
        [
            Section(
                "What to believe",
                [
                    Text(sentence),
                    Text(
                        "Every arm has the same seeds, budgets, default parameters and days. The "
                        "ranking comes from a stability report dated before each inner test. "
                        "Nothing is chosen by this outcome."
                    ),
                ],
            ),
            Section(
                "Paired differences of the net Sharpe ratio",
                [
                    Figures(
                        [
                            Figure(
                                differences_png(comparisons),
                                "Intervals that hold zero say nothing either way.",
                                "Differences of Sharpe ratios with 95 % intervals",
                            ),
                            Figure(
                                lines(wealth, "Net growth over the inner test days", percent=True),
                                "Mean over seeds.",
                                "Lines of cumulative net return for each set of features",
                            ),
                        ]
                    ),
                    Table(comparisons.set_index("arm")),
                ],
            ),
            Section("Every arm by itself", [Table(arms)]),
            Section(
                "Inner folds",
                [
                    Table(inner_folds.set_index("inner_fold")),
                    *([Bullets(list(skipped))] * bool(skipped)),
                ],
            ),
        ],
        subtitle=f"{len(daily)} inner test days, {daily.shape[1]} sets of features",
    )


def differences_png(comparisons: pd.DataFrame) -> bytes:
    """Each paired difference as a point with its interval, first comparison on top."""
    rows = comparisons[::-1]
    height = bar_height(len(rows), each=0.26)
    with axes("Top features against others", height=height, width=TALL_WIDTH_IN) as (ax, png):
        y = np.arange(len(rows))
        ax.hlines(y, rows["low"], rows["high"], color=INK, lw=1.1)
        ax.plot(rows["difference"], y, "o", color=BLUE, ms=4.5)
        ax.axvline(0.0, color=SOFT, lw=0.8)
        ax.set_yticks(y, [f"{a} − {o}" for a, o in zip(rows["arm"], rows["against"], strict=True)])
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("difference of annualised net Sharpe ratios")
    return png.getvalue()
