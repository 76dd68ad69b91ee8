"""Plots of the stability report and the pre-filter."""

import numpy as np
import pandas as pd

from tft_core.feature_selection.prefilter import PrefilterResult
from tft_core.feature_selection.report import StabilityReport
from tft_core.reports.drawing import (
    BLUE,
    GREEN,
    INK,
    LINE,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SOFT,
    TALL_WIDTH_IN,
    axes,
    bar_height,
    funnel,
    heat_map,
    legend_below,
    say_nothing,
)

TOP = 40
_FATE_COLORS = {
    "recommended": BLUE,
    "filled_by_rank": SKY,
    "passed_on": "#9aa5b1",
}
_OTHER = "#c3cad1"
_EVIDENCE_LABEL = {"weight": "weight", "perm_dposition": "permutation effect"}


def fold_heat_map(report: StabilityReport) -> bytes:
    """Evidence of the top features in each fold, in units of an even share."""
    names = list(report.table.index[:TOP])
    values = report.fold_evidence.reindex(index=names, columns=list(report.folds))
    limits = pd.Series(report.fold_thresholds).reindex(values.columns)
    known = values.to_numpy()[np.isfinite(values.to_numpy())]
    return heat_map(
        values,
        f"Folds × features, top {len(names)}",
        color_map="YlGnBu",
        low=0.0,
        high=float(np.quantile(known, 0.98)) if len(known) else 1.0,
        bar_label=f"{_EVIDENCE_LABEL[report.evidence]}, 1 = even share",
        marks=values.gt(limits, axis=1).astype(float),
    )


def ranked_bars(report: StabilityReport) -> bytes:
    """Mean evidence over folds with its spread, coloured by fate, and the shadow line."""
    rows = report.table.head(TOP)[::-1]
    folds = report.fold_evidence.reindex(index=rows.index)
    height = bar_height(len(rows), each=0.185)
    title = f"Ranked evidence, top {len(rows)}"
    with axes(title, height=height, width=TALL_WIDTH_IN) as (ax, png):
        y = np.arange(len(rows))
        ax.barh(
            y,
            rows["evidence"],
            color=[_FATE_COLORS.get(fate, _OTHER) for fate in rows["fate"]],
            height=0.74,
        )
        ax.hlines(y, folds.min(axis=1), folds.max(axis=1), color=INK, lw=0.9)
        ax.set_yticks(y, [str(name) for name in rows.index], fontsize=8)
        ax.set_ylim(-0.7, len(rows) - 0.3)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(f"{_EVIDENCE_LABEL[report.evidence]} (1 = even share), range over folds")
        for fate, color in (*_FATE_COLORS.items(), ("not recommended", _OTHER)):
            told = set(rows["fate"])
            if fate in told or (fate == "not recommended" and told - set(_FATE_COLORS)):
                ax.bar(0, 0, color=color, label=fate.replace("_", " "))
        if np.isfinite(report.threshold):
            ax.axvline(report.threshold, color=ORANGE, ls="--", lw=1.3, label="shadow threshold")
        ax.legend(loc="lower right")
    return png.getvalue()


def group_bars(report: StabilityReport) -> bytes:
    """Features per group: pre-filtered, and of those recommended."""
    table = pd.DataFrame(report.feature_group_breakdown).T.sort_values("prefiltered")
    with axes("Groups", height=bar_height(len(table), each=0.26)) as (ax, png):
        y = np.arange(len(table))
        ax.barh(y, table["prefiltered"], color=LINE, height=0.7, label="pre-filtered")
        ax.barh(y, table["recommended"], color=BLUE, height=0.7, label="recommended")
        for at, (recommended, total) in enumerate(
            zip(table["recommended"], table["prefiltered"], strict=True)
        ):
            ax.text(total, at, f" {recommended:.0f}/{total:.0f}", va="center", fontsize=8)
        ax.set_yticks(y, [str(name) for name in table.index])
        ax.margins(x=0.12)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("features")
        legend_below(ax)
    return png.getvalue()


def funnel_png(report: StabilityReport, prefilter: PrefilterResult | None) -> bytes:
    """From all features to the recommended ones, each step with what it took away."""
    statistics = report.statistics
    steps: list[tuple[str, float, str]] = []
    if prefilter is not None:
        counts = prefilter.counts
        covered = counts["features"] - counts["low_coverage"]
        varying = covered - counts["constant"]
        steps += [
            ("features", float(counts["features"]), ""),
            ("covered", float(covered), f"−{counts['low_coverage']} too sparse"),
            ("varying", float(varying), f"−{counts['constant']} constant"),
        ]
    remark = "" if prefilter is None else f"−{prefilter.counts['correlated']} said by another"
    steps.append(("pre-filtered", statistics["n_prefiltered"], remark))
    steps.append(("pass our rule", statistics["n_passing"], "shadows, folds, permutation"))
    filled = int(statistics["n_filled"])
    final = "all passed on" if report.passes_prefiltered_on else f"{filled} filled by rank"
    steps.append(("recommended", statistics["n_recommended"], final))
    steps.append(("plan's rule", statistics["n_stable_plan_rule"], "for comparison"))
    return funnel(steps, "From all features to the recommended")


def agreement_scatter(report: StabilityReport) -> bytes:
    """Weight against permutation effect: do the weights tell what the model uses?"""
    table = report.table.dropna(subset=["weight", "perm_dposition"])
    with axes("Do the weights tell what the model uses?", height=3.6) as (ax, png):
        if table.empty:
            say_nothing(ax, "permutation importance was not measured")
        else:
            for is_recommended, color, name in (
                (False, _OTHER, "not recommended"),
                (True, BLUE, "recommended"),
            ):
                rows = table[table["recommended"] == is_recommended]
                if len(rows):
                    ax.plot(
                        rows["weight"],
                        rows["perm_dposition"],
                        "o",
                        color=color,
                        ms=4.5,
                        mec="white",
                        mew=0.4,
                        label=name,
                    )
            told = report.statistics["weight_permutation_spearman"]
            ax.text(
                0.02,
                0.97,
                f"Spearman {told:.2f}" if np.isfinite(told) else "Spearman unknown",
                transform=ax.transAxes,
                va="top",
                color=RED if not told >= 0.9 else INK,
            )
            ax.set_xlabel("mean weight")
            ax.set_ylabel("mean |Δ position| if permuted")
            ax.legend(loc="lower right")
    return png.getvalue()


def rank_over_time(report: StabilityReport, most: int = 12) -> bytes:
    """Rank of the top features in each fold; a fold without the feature leaves a gap."""
    explored = [name for name in report.table.index if name in report.fold_evidence.index]
    evidence = report.fold_evidence.reindex(index=explored, columns=list(report.folds))
    ranks = evidence.rank(ascending=False).head(most)
    colors = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
    with axes(f"Rank over time, top {len(ranks)}", height=3.6) as (ax, png):
        if ranks.empty:
            say_nothing(ax, "no feature was explored")
        x = np.arange(ranks.shape[1])
        last = ranks.ffill(axis=1).iloc[:, -1]
        label_at = _spread(np.log10(last.to_numpy()), gap=np.log10(max(len(explored), 2)) / 17)
        for position, name in enumerate(ranks.index):
            color = colors[position] if position < len(colors) else SOFT
            ax.plot(x, ranks.loc[name], "-o", color=color, lw=1.1, ms=3.5)
            ax.annotate(
                str(name),
                (x[-1], last.loc[name]),
                xytext=(x[-1] + 0.06 * max(len(x) - 1, 1), 10 ** label_at[position]),
                va="center",
                fontsize=7.5,
                color=color,
                arrowprops={"arrowstyle": "-", "color": color, "lw": 0.4},
                annotation_clip=False,
            )
        ax.set_yscale("log")
        steps = [1, 2, 5, 10, 20, 50, 100, 200]
        ax.set_yticks(steps, [str(step) for step in steps])
        ax.minorticks_off()
        ax.set_ylim(max(len(explored), 2), 0.8)
        ax.set_xticks(x, [str(fold) for fold in ranks.columns], rotation=30, ha="right")
        ax.set_xlim(-0.2, len(x) - 0.8)
        ax.set_ylabel("rank")
    return png.getvalue()


def _spread(at: np.ndarray, gap: float) -> np.ndarray:
    """Positions near ``at``, in the same order, at least ``gap`` apart."""
    order = np.argsort(at, kind="stable")
    placed = at[order].copy()
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    overshoot = placed - at[order]
    placed -= overshoot.mean() if len(placed) else 0.0
    out = np.empty_like(placed)
    out[order] = placed
    return out
