"""The production tear sheet: is this candidate worth trading, and what was it made from?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tft_core.errors import DataError
from tft_core.metrics import max_drawdown, sharpe_ann, total_return
from tft_core.reports.drawing import lines, signed_bars
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
from tft_core.schema import TRADING_DAYS_PER_YEAR

SHIPPED = "shipped"


@dataclass(frozen=True, slots=True, eq=False)
class TearSheetData:
    """Everything the page shows. Empty frames are said to be missing, not left out."""

    title: str
    verdict: Mapping[str, Any]
    """``GateVerdict.to_dict()``: passed, sentence, reasons, rules."""
    paths: pd.DataFrame
    """Daily net returns by path name (``shipped`` among them) on out-of-sample dates."""
    metrics: pd.DataFrame
    """One row per path: ``sharpe_net, sharpe_se, return_total, max_drawdown, …``."""
    by_fold: pd.DataFrame
    """One row per reported fold: which path it shipped, its figures."""
    by_asset: pd.DataFrame
    """One row per symbol; column ``contribution`` (sum of its net returns) is plotted."""
    cost_sensitivity: pd.DataFrame
    """Index: multiple of the assumed costs; columns: paths; values: net Sharpe ratio."""
    provenance: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)
    histories: pd.DataFrame | None = None
    """Training of the live fold's members, see ``plots.training_curves``."""
    exposure: pd.DataFrame | None = None
    """Daily ``gross`` and ``net`` exposure and ``turnover`` of the shipped path."""


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
            Section("Windows and years", _period_blocks(paths, data)),
            Section("Assets", _asset_blocks(data)),
            Section("Trading and costs", _trading_blocks(data)),
            Section("Training", _training_blocks(data)),
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
            "day's test window. Net of costs, entered one session after the decision."
        ),
    )


def yearly_table(paths: pd.DataFrame) -> pd.DataFrame:
    """Net Sharpe ratio by calendar year and path, with shipped return and drawdown."""
    years = pd.DatetimeIndex(paths.index).year
    rows = {}
    for year, part in paths.groupby(years):
        shipped = part[SHIPPED].dropna().to_numpy()
        rows[str(year)] = {
            "n_days": len(shipped),
            "return_total": total_return(shipped),
            "max_drawdown": max_drawdown(shipped),
            **{str(name): sharpe_ann(part[name].dropna().to_numpy()) for name in part.columns},
        }
    return pd.DataFrame(rows).T.astype({"n_days": int}).rename_axis("year")


def drawdowns(paths: pd.DataFrame) -> pd.DataFrame:
    """Fall of compounded wealth below its running peak, as a negative fraction."""
    wealth = (1.0 + paths.fillna(0.0)).cumprod()
    return wealth / wealth.cummax().clip(lower=1.0) - 1.0


def rolling_sharpe(paths: pd.DataFrame, window: int = TRADING_DAYS_PER_YEAR) -> pd.DataFrame:
    """Annualised Sharpe ratio over the last ``window`` days; NaN before they are full."""
    rolled = paths.rolling(window)
    return rolled.mean() / rolled.std().where(lambda s: s > 0) * TRADING_DAYS_PER_YEAR**0.5


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
    shipped = data.metrics.loc[SHIPPED]
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
        if name in shipped.index:
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


def _period_blocks(paths: pd.DataFrame, data: TearSheetData) -> list[Block]:
    return [
        Table(data.by_fold.rename_axis(data.by_fold.index.name or "fold"), "By test window")
        if len(data.by_fold)
        else Absent("No test window is complete yet."),
        Table(yearly_table(paths), "By year: the shipped path, then net Sharpe ratios of all paths")
        if len(paths)
        else Absent("There are no out-of-sample days."),
    ]


def _asset_blocks(data: TearSheetData) -> list[Block]:
    if data.by_asset.empty:
        return [Absent("Contributions by asset were not recorded.")]
    table = data.by_asset.rename_axis(data.by_asset.index.name or "symbol")
    if "contribution" not in table.columns:
        return [Table(table)]
    table = table.sort_values("contribution", ascending=False)
    return [
        Figures(
            [
                Figure(
                    signed_bars(table["contribution"], "Contribution by asset", percent=True),
                    "Sum of each asset's net daily returns on capital.",
                    "Bars of each asset's contribution to the shipped path",
                )
            ]
        ),
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
                    x_label="multiple of the assumed costs",
                    y_label="net Sharpe",
                    marker="o",
                ),
                "1 is the cost assumed everywhere else on this page; 0 is gross.",
                "Lines of the net Sharpe ratio of each path over the cost multiple",
            )
        )
        blocks.append(
            Table(data.cost_sensitivity.rename_axis("cost multiple"), "Net Sharpe ratio by costs")
        )
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
                    styles={"gross": {"color": "#56b4e9"}, "net": {"color": "#0b4f8a"}},
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
                        styles={"turnover": {"color": "#d55e00"}},
                    ),
                    "Traded notional over capital, annualised.",
                    "Line of annualised turnover",
                )
            )
    return [*([Figures(figures)] if figures else []), *blocks]


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
