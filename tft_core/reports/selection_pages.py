"""Pages of feature selection: the pre-filter's table and the stability report."""

import numpy as np
import pandas as pd

from tft_core.feature_selection.prefilter import DROP_REASONS, PrefilterResult
from tft_core.feature_selection.report import (
    DISAGREE,
    INFORMATIVE,
    NOT_ABOVE_CHANCE,
    TOO_FEW_FOLDS,
    StabilityReport,
)
from tft_core.reports.page import (
    Absent,
    Banner,
    Bullets,
    Card,
    Cards,
    Figure,
    Figures,
    Section,
    Table,
    Text,
    Tone,
    cell_text,
    render_page,
)
from tft_core.reports.selection_plots import (
    agreement_scatter,
    fold_heat_map,
    funnel_png,
    group_bars,
    rank_over_time,
    ranked_bars,
)

_VERDICT: dict[str, tuple[str, Tone]] = {
    INFORMATIVE: ("Informative", "good"),
    DISAGREE: ("Weights disagree with the model", "warn"),
    NOT_ABOVE_CHANCE: ("Not above chance", "bad"),
    TOO_FEW_FOLDS: ("Too few folds", "warn"),
}
_AGREEMENT_NAMES = {
    "seeds_within_fold": "seeds within a fold (optimisation noise)",
    "folds_within_seed": "folds within a seed (change of the market)",
    "folds": "folds, mean of seeds",
    "folds_shadows": "the same for shadows (what luck looks like)",
}
_COLUMNS = [
    "group",
    "fate",
    "evidence",
    "q_value",
    "lift",
    "lift_low",
    "lift_high",
    "fold_frequency",
    "n_folds",
    "n_missing",
    "perm_excess",
    "perm_excess_low",
    "perm_excess_high",
    "perm_dsharpe",
    "ig",
    "weight",
    "cluster",
    "cluster_weight",
    "stable",
]


def prefilter_page(result: PrefilterResult, *, title: str = "Pre-filter") -> str:
    """What the pre-filter kept and dropped, each drop with its reason and stand-in."""
    counts = result.counts
    table = result.table()
    dropped = table[~table["kept"]].drop(columns="kept").sort_values(["reason", "stand_in"])
    return render_page(
        title,
        [
            Section(
                "Counts",
                [
                    Cards(
                        [
                            Card("features", f"{counts['features']:,}"),
                            *(
                                Card(reason.replace("_", " "), f"−{counts[reason]:,}")
                                for reason in DROP_REASONS
                            ),
                            Card("kept", f"{counts['kept']:,}", "good"),
                        ]
                    )
                ],
            ),
            Section(
                "Dropped",
                [
                    Text(
                        "For a correlated feature the value is its correlation with the feature "
                        "that stands for it; else its coverage, or the constant."
                    ),
                    Table(dropped) if len(dropped) else Absent("No feature was dropped."),
                ],
            ),
            Section(
                "Clusters of kept features",
                [
                    Text(
                        "Kept, but related: the first feature of each line is closest to the rest. "
                        "Their weights are summed in the stability report."
                    ),
                    Bullets([", ".join(cluster) for cluster in result.clusters])
                    if result.clusters
                    else Absent("No two kept features belong together."),
                ],
            ),
            Section("Kept", [Table(_kept(table), f"{counts['kept']} kept features", folded=True)]),
        ],
        subtitle=f"{result.n_rows:,} training rows, before imputation",
    )


def _kept(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["kept"]][[c for c in table.columns if c.startswith("coverage")]]


def stability_page(
    report: StabilityReport,
    *,
    title: str = "Feature stability",
    prefilter: PrefilterResult | None = None,
    screened: pd.DataFrame | None = None,
) -> str:
    """The stability report as one page.

    Args:
        prefilter: The newest fold's pre-filter, for the funnel's first steps.
        screened: Outcome of ``feature_selection.cross_check``.
    """
    headline, tone = _VERDICT[report.verdict]
    return render_page(
        title,
        [
            Section(
                "What to believe",
                [
                    _cards(report),
                    Bullets([r.message for r in report.reasons] or ["No objections."]),
                ],
            ),
            Section("Which features", _feature_plots(report, prefilter)),
            Section("How sure", _agreement_blocks(report)),
            Section("Cross-check by simple screens", _screen_blocks(screened)),
            Section("All figures", _tables(report)),
        ],
        subtitle=f"{report.n_folds} folds × {report.n_seeds} seeds: {', '.join(report.folds)}",
        banner=Banner(headline, report.sentence, tone),
    )


def _cards(report: StabilityReport) -> Cards:
    s = report.statistics
    return Cards(
        [
            Card("pre-filtered", f"{s['n_prefiltered']:.0f}"),
            Card("pass our rule", f"{s['n_passing']:.0f}"),
            Card("recommended", f"{s['n_recommended']:.0f}"),
            Card("plan's rule calls stable", f"{s['n_stable_plan_rule']:.0f}"),
            Card("p against chance", cell_text(s["chance_p_value"], "")),
            Card("Spearman weight–model", cell_text(s["weight_permutation_spearman"], "")),
            Card("Nogueira of folds", cell_text(report.agreement["folds"]["nogueira"], "")),
            Card("effective features", cell_text(s["effective_features"], "")),
        ]
    )


def _feature_plots(report: StabilityReport, prefilter: PrefilterResult | None) -> list[Figures]:
    return [
        Figures(
            [
                Figure(
                    ranked_bars(report),
                    "Features left of the dashed line are no better than time-shifted copies."
                    if np.isfinite(report.threshold)
                    else "No shadows were explored: nothing says what luck looks like.",
                    "Bars of the mean evidence of each top feature with the shadow threshold",
                ),
                Figure(
                    fold_heat_map(report),
                    "A dot: above that fold's shadows. Hatched: the fold's pre-filter had "
                    "dropped the feature, which counts as missing, not as unselected.",
                    "Heat map of the evidence of top features in each fold",
                ),
            ]
        ),
        Figures(
            [
                Figure(
                    funnel_png(report, prefilter),
                    "What each step left over.",
                    "Funnel from all features to the recommended ones",
                ),
                Figure(
                    group_bars(report),
                    "Recommended of pre-filtered features in each group.",
                    "Bars of pre-filtered and recommended features by group",
                ),
            ]
        ),
    ]


def _agreement_blocks(report: StabilityReport) -> list[Text | Table | Figures]:
    table = pd.DataFrame(report.agreement).T
    table.index = pd.Index([_AGREEMENT_NAMES[str(i)] for i in table.index], name="compared")
    table["n_pairs"] = table["n_pairs"].astype(int)
    return [
        Text(
            "Seeds that agree show a settled optimisation, no more: on pure noise they agree too. "
            "Folds that agree more than shadows do are evidence."
        ),
        Table(table),
        Figures(
            [
                Figure(
                    agreement_scatter(report),
                    "Points along a rising line: weights can be read as importance.",
                    "Scatter of mean weight against permutation effect",
                ),
                Figure(
                    rank_over_time(report),
                    "Rank among real features in each fold.",
                    "Lines of the rank of the top features over folds",
                ),
            ]
        ),
    ]


def _screen_blocks(screened: pd.DataFrame | None) -> list[Text | Table | Absent]:
    if screened is None:
        return [Absent("The screens were not run for this report.")]
    flagged = screened[screened["flag"] != ""]
    columns = ["flag", "ic", "ic_low", "ic_high", "mi", "rank_model", "rank_ic", "rank_mi"]
    return [
        Text(
            "Flagged for a person: features on which the model and the screens (rank IC and mutual "
            f"information on training rows) contradict each other. Found: {len(flagged)}."
        ),
        Table(flagged[columns]) if len(flagged) else Absent("No feature is flagged."),
        Table(screened[columns], "All screened features, best consensus first", folded=True),
    ]


def _tables(report: StabilityReport) -> list[Table | Text | Bullets]:
    groups = pd.DataFrame(report.feature_group_breakdown).T.rename_axis("group")
    counts = [c for c in groups.columns if c != "weight_share"]
    groups[counts] = groups[counts].astype(int)
    blocks: list[Table | Text | Bullets] = [
        Table(groups.sort_values("weight_share", ascending=False), "Groups"),
        Table(report.table[_COLUMNS], f"All {len(report.table)} features by rank", folded=True),
        Table(
            report.vsn_weight_per_fold.loc[report.table.index],
            "Weight per fold, as a share among real features",
            folded=True,
        ),
    ]
    if report.clusters:
        blocks += [
            Text("Clusters (weights are summed over them; the first member stands for the rest):"),
            Bullets([", ".join(cluster) for cluster in report.clusters]),
        ]
    return blocks
