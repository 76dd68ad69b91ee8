"""The production tear sheet: is this candidate worth trading, and what was it made from?

How each section looks is decided here; every number comes from ``TearSheetData``.
"""

import pandas as pd

from tft_core.errors import DataError
from tft_core.reports.drawing import BLUE, ORANGE, SKY, lines, signed_bars
from tft_core.reports.page import (
    Absent,
    Banner,
    Block,
    Bullets,
    Card,
    Cards,
    Figure,
    Figures,
    Pairs,
    Section,
    Table,
    Text,
    Tone,
    cell_text,
    render_page,
)
from tft_core.reports.plots import equity_png, training_curves
from tft_core.reports.study_page import (
    parameter_blocks,
    study_blocks,
    trials_table,
    worth_blocks,
)
from tft_core.reports.tear_sheet_data import (
    TearSheetData,
    drawdowns,
    rolling_sharpe,
    yearly_table,
)
from tft_core.schema import SHIPPED, TRADING_DAYS_PER_YEAR


def tear_sheet(data: TearSheetData) -> str:
    """The tear sheet as one self-contained page.

    Raises:
        DataError: ``paths`` has no column ``shipped``.
    """
    if SHIPPED not in data.paths.columns:
        raise DataError(
            f"tear sheet paths must hold {SHIPPED!r}, "
            f"found {', '.join(map(str, data.paths.columns)) or 'none'}"
        )
    paths = data.paths[[SHIPPED, *(c for c in data.paths.columns if c != SHIPPED)]]
    return render_page(
        data.title,
        [
            Section("Gate", _gate_blocks(data)),
            Section("Performance", _performance_blocks(paths, data)),
            Section("Is it more than luck", _evidence_blocks(data)),
            Section("Windows and years", _period_blocks(paths, data)),
            Section("Assets", _asset_blocks(data)),
            Section("Trading and costs", _trading_blocks(data)),
            Section("Features", _feature_blocks(data)),
            Section("Hyper-parameters", _study_blocks(data)),
            Section("Training", _training_blocks(data)),
            Section("Data quality", _quality_blocks(data)),
            Section("Provenance", [Pairs(data.provenance)]),
        ],
        subtitle=_subtitle(paths),
        banner=Banner(
            "Passed" if data.verdict["passed"] else "Refused: not promoted",
            str(data.verdict["sentence"]),
            "good" if data.verdict["passed"] else "bad",
        ),
        footer=(
            "Out of sample: every day's positions come from a model made from data before that "
            "day's test window. Net of costs, entered one session after the decision. The "
            "numbers of this page are tear_sheet.json beside it, the daily returns daily.parquet."
        ),
    )


def _subtitle(paths: pd.DataFrame) -> str:
    if paths.empty:
        return "no out-of-sample days"
    dates = pd.DatetimeIndex(paths.index)
    return f"{len(paths):,} out-of-sample days, {dates[0].date()} to {dates[-1].date()}"


def _gate_blocks(data: TearSheetData) -> list[Block]:
    rules = pd.DataFrame(data.verdict["rules"]).reindex(
        columns=["code", "passed", "value", "limit", "message"]
    )
    blocks: list[Block] = [Cards(_headline_cards(data)), Table(rules.set_index("code"))]
    if data.notes:
        blocks.append(Bullets(list(data.notes)))
    return blocks


def _headline_cards(data: TearSheetData) -> list[Card]:
    if SHIPPED not in data.metrics.index:
        return []
    shipped = data.metrics.loc[SHIPPED].to_dict()
    sharpe = float(shipped.get("sharpe_net", float("nan")))
    tone: Tone = "good" if sharpe > 0 else "bad" if sharpe <= 0 else ""
    error = cell_text(shipped.get("sharpe_se"), "")
    cards = [Card("Sharpe net ± s.e.", f"{cell_text(sharpe, '')} ± {error}", tone)]
    for name, text in (
        ("return_total", "total return"),
        ("vol_ann", "volatility p.a."),
        ("max_drawdown", "max drawdown"),
        ("turnover_ann", "turnover p.a."),
    ):
        if name in shipped:
            cards.append(Card(text, cell_text(float(shipped[name]), name)))
    return cards


def _performance_blocks(paths: pd.DataFrame, data: TearSheetData) -> list[Block]:
    metrics = data.metrics.reindex(
        [c for c in paths.columns if c in data.metrics.index]
        + [i for i in data.metrics.index if i not in paths.columns]
    ).rename_axis("path")
    if "n_days" in metrics:
        metrics = metrics.assign(n_days=metrics["n_days"].astype("Int64"))
    return [
        Figures(
            [
                Figure(
                    equity_png(paths),
                    "Shipped is what fold after fold would have traded; tuned and default are "
                    "the pure paths beside it. Grey: baselines with the same costs and lag.",
                    "Lines of compounded wealth of each path",
                ),
                Figure(
                    lines(drawdowns(paths), "Drawdown", percent=True),
                    "Distance from the running peak.",
                    "Lines of the drawdown of each path",
                ),
            ]
        ),
        Table(metrics, "Paths net of costs; s.e. robust to serial correlation"),
        Figures(
            [
                Figure(
                    lines(rolling_sharpe(paths), "Sharpe ratio of the last 252 days"),
                    "A single year's Sharpe ratio has a standard error of about 1.",
                    "Lines of the rolling Sharpe ratio of each path",
                )
            ]
        ),
    ]


def _evidence_blocks(data: TearSheetData) -> list[Block]:
    blocks: list[Block] = []
    if data.evidence is None:
        blocks.append(Absent("The evidence on the record was not recorded."))
    else:
        compared = {
            "tuned − default": data.evidence["tuned_against_default"],
            **{
                f"shipped − {name.replace('_', ' ')}": values
                for name, values in data.evidence["shipped_against"].items()
            },
        }
        columns = ["verdict", "difference", "low", "high", "p_value", "n_days"]
        tests = pd.DataFrame(data.evidence["superior_ability"]).T
        blocks += [
            Bullets(list(data.evidence["sentences"])),
            Table(
                pd.DataFrame(compared).T[columns]
                .infer_objects()
                .assign(verdict=lambda f: f["verdict"].str.replace("_", " "))
                .rename_axis("Sharpe ratios"),
                "Differences by a paired stationary bootstrap, 95 % intervals",
            ),
            Table(
                tests[["p_value", "p_lower", "p_upper", "n_rivals"]]
                .infer_objects()
                .rename_axis("does anything beat"),
                "Superior predictive ability (Hansen): small p, something does",
            ),
        ]  # fmt: skip
    if data.study is None or data.study.get("evidence") is None:
        blocks.append(Absent("No study was made, so there is no search to deflate."))
    else:
        n_all = data.study["evidence"]["deflation"]["n_trials"]
        blocks.append(
            Text(
                f"The search for hyper-parameters, on its own inner days: {n_all} trials were ever "
                f"run for this fold, {data.study['n_finished']} of them in the study that chose."
            )
        )
        blocks += worth_blocks(data.study)
    return blocks


def _period_blocks(paths: pd.DataFrame, data: TearSheetData) -> list[Block]:
    return [
        Table(data.by_fold.rename_axis(str(data.by_fold.index.name or "fold")), "By test window")
        if len(data.by_fold)
        else Absent("No test window is complete yet."),
        Table(yearly_table(paths), "By year: the shipped path, then net Sharpe ratios of all paths")
        if len(paths)
        else Absent("There are no out-of-sample days."),
    ]


def _asset_blocks(data: TearSheetData) -> list[Block]:
    if data.by_asset.empty:
        return [Absent("Contributions by asset were not recorded.")]
    table = data.by_asset.rename_axis(str(data.by_asset.index.name or "symbol"))
    table = table.sort_values("contribution", ascending=False)
    figures = [
        Figure(
            signed_bars(table["contribution"], "Contribution by asset", percent=True),
            "Sum of each asset's net daily returns on capital.",
            "Bars of each asset's contribution to the shipped path",
        )
    ]
    classes = data.by_class()
    blocks: list[Block] = []
    if classes.empty:
        blocks.append(Absent("Asset classes were not recorded."))
    else:
        blocks.append(Table(classes, "By asset class"))
    if len(classes) > 1:
        figures.append(
            Figure(
                signed_bars(classes["contribution"], "Contribution by asset class", percent=True),
                "The same, added up by asset class.",
                "Bars of each asset class's contribution to the shipped path",
            )
        )
    return [
        Figures(figures),
        *blocks,
        Table(table, f"All {len(table)} assets", folded=len(table) > 12),
    ]


def _trading_blocks(data: TearSheetData) -> list[Block]:
    figures: list[Figure] = []
    blocks: list[Block] = []
    if data.cost_sensitivity.empty:
        blocks.append(Absent("Cost sensitivity was not recorded."))
    else:
        figures.append(
            Figure(
                lines(
                    data.cost_sensitivity,
                    "Sharpe ratio against costs",
                    x_label="basis points of traded notional, all instruments alike",
                    y_label="net Sharpe",
                    marker="o",
                ),
                "Positions stay as they were. Everywhere else each instrument has its own cost.",
                "Lines of the net Sharpe ratio of each path over flat costs",
            )
        )
        named = data.cost_sensitivity.set_axis([f"{b:g} bps" for b in data.cost_sensitivity.index])
        blocks.append(Table(named.rename_axis("flat cost"), "Net Sharpe ratio at flat costs"))
    if data.exposure is None or data.exposure.empty:
        blocks.append(Absent("Exposure and turnover were not recorded."))
    else:
        held = [c for c in ("gross", "net") if c in data.exposure.columns]
        figures.append(
            Figure(
                lines(
                    data.exposure[held],
                    "Exposure",
                    percent=True,
                    styles={"gross": {"color": SKY}, "net": {"color": BLUE}},
                ),
                "Sum of absolute (gross) and signed (net) portfolio weights.",
                "Lines of gross and net exposure",
            )
        )
        if "turnover" in data.exposure.columns:
            monthly = data.exposure[["turnover"]].rolling(21).mean() * TRADING_DAYS_PER_YEAR
            figures.append(
                Figure(
                    lines(
                        monthly,
                        "Turnover a year (21-day mean)",
                        styles={"turnover": {"color": ORANGE}},
                    ),
                    "Traded notional over capital, annualised.",
                    "Line of annualised turnover",
                )
            )
    return [*([Figures(figures)] if figures else []), *blocks]


def _feature_blocks(data: TearSheetData) -> list[Block]:
    if data.features is None:
        return [Absent("Feature selection was switched off; all pre-filtered features are used.")]
    counts = [Card(name, cell_text(n, "")) for name, n in data.features["counts"].items()]
    blocks: list[Block] = [Text(str(data.features["sentence"])), Cards(counts)]
    top = pd.DataFrame(list(data.features["top"]))
    if len(top):
        blocks.append(
            Table(top.set_index("feature"), f"The {len(top)} first of the live fold's features")
        )
    if "report" in data.features:
        blocks.append(Text(f"Full report: {data.features['report']}"))
    return blocks


def _study_blocks(data: TearSheetData) -> list[Block]:
    if data.study is None or "trials" not in data.study:
        return [Absent("Tuning was switched off; the default configuration is used.")]
    return [
        *study_blocks(data.study),
        *parameter_blocks(data.study),
        trials_table(data.study),
    ]


def _training_blocks(data: TearSheetData) -> list[Block]:
    if data.histories is None or data.histories.empty:
        return [Absent("Training histories were not recorded.")]
    return [
        Text("Members of the model that goes to production; dots mark each one's best epoch."),
        Figures(
            [
                Figure(
                    training_curves(data.histories, "Training of the live fold"),
                    "Grey lines: change of phase. The refit on all data has no validation.",
                    "Lines of training loss and validation Sharpe ratio over epochs",
                )
            ]
        ),
    ]


def _quality_blocks(data: TearSheetData) -> list[Block]:
    blocks: list[Block] = []
    if data.quality is None or data.quality.empty:
        blocks.append(Absent("The quality of the bars was not recorded."))
    else:
        blocks.append(Table(data.quality.rename_axis("partition"), "Bars behind each fold"))
    if data.findings is None or data.findings.empty:
        blocks.append(Text("No check of anything behind this checkpoint found a fault."))
    else:
        blocks.append(Text(f"What the checks of all artifacts found ({len(data.findings)}):"))
        blocks.append(
            Bullets(
                [
                    f"{row['severity']}, {artifact}: {row['message']}"
                    for artifact, row in data.findings.iterrows()
                ]
            )
        )
    return blocks
