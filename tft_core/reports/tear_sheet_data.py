"""What the production tear sheet says, and the tables that follow from it.

The page (``tear_sheet``) and the JSON beside it are two views of one ``TearSheetData``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tft_core.metrics import max_drawdown, sharpe_ann, total_return
from tft_core.schema import SHIPPED, TRADING_DAYS_PER_YEAR, finite_or_none, json_value

COST_BPS = (0.0, 1.0, 3.0, 5.0, 10.0)
"""Flat costs, in basis points of traded notional, of the sensitivity table."""


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
    """One row per symbol: ``asset_class`` and ``contribution`` (sum of its net returns)."""
    cost_sensitivity: pd.DataFrame
    """Index: flat cost in basis points of traded notional; columns: paths; net Sharpe ratios."""
    provenance: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)
    histories: pd.DataFrame | None = None
    """Training of the live fold's members, see ``plots.training_curves``."""
    exposure: pd.DataFrame | None = None
    """Daily ``gross`` and ``net`` exposure and ``turnover`` of the shipped path."""
    evidence: Mapping[str, Any] | None = None
    """``RecordEvidence.to_dict()``."""
    study: Mapping[str, Any] | None = None
    """The live fold's study as stored (``study.json``); ``None`` where none was made."""
    features: Mapping[str, Any] | None = None
    """``verdict, sentence, counts`` and ``top`` (list of records) of the stability report."""
    quality: pd.DataFrame | None = None
    """One row per partition of bars: rows, symbols, span, findings, data hash."""
    findings: pd.DataFrame | None = None
    """What checks of any artifact behind the checkpoint found: artifact, severity, message."""

    def by_class(self) -> pd.DataFrame:
        """Contribution and number of assets of each asset class, largest first."""
        if "asset_class" not in self.by_asset.columns:
            return pd.DataFrame(columns=["contribution", "n_assets"])
        groups = self.by_asset.groupby("asset_class")["contribution"]
        table = pd.DataFrame({"contribution": groups.sum(), "n_assets": groups.size()})
        return table.sort_values("contribution", ascending=False)

    def to_dict(self) -> dict[str, Any]:
        """The numbers of the page as JSON values; undefined figures are null.

        Daily returns are not repeated: they are ``daily.parquet`` beside it.
        """
        exposure = pd.DataFrame() if self.exposure is None else self.exposure
        return {
            "title": self.title,
            "gate": dict(self.verdict),
            "first_day": None if self.paths.empty else str(self.paths.index[0].date()),
            "last_day": None if self.paths.empty else str(self.paths.index[-1].date()),
            "n_days": len(self.paths),
            "metrics": records(self.metrics, "path"),
            "by_fold": records(self.by_fold, "fold"),
            "by_year": records(yearly_table(self.paths), "year"),
            "by_asset": records(self.by_asset, "symbol"),
            "by_class": records(self.by_class(), "asset_class"),
            "cost_sensitivity": records(self.cost_sensitivity, "cost_bps"),
            "exposure_mean": {
                str(name): finite_or_none(exposure[name].mean()) for name in exposure.columns
            },
            "evidence": self.evidence,
            "study": None if self.study is None else dict(self.study),
            "features": self.features,
            "data_quality": None if self.quality is None else records(self.quality, "partition"),
            "findings": None if self.findings is None else records(self.findings, "artifact"),
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }


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
    if not rows:
        return pd.DataFrame(columns=["n_days", "return_total", "max_drawdown"])
    return pd.DataFrame(rows).T.astype({"n_days": int}).rename_axis("year")


def drawdowns(paths: pd.DataFrame) -> pd.DataFrame:
    """Fall of compounded wealth below its running peak, as a negative fraction.

    Args:
        paths: Daily net returns, days × paths; NaN earns nothing.
    """
    wealth = (1.0 + paths.fillna(0.0)).cumprod()
    return wealth / wealth.cummax().clip(lower=1.0) - 1.0


def rolling_sharpe(paths: pd.DataFrame, window: int = TRADING_DAYS_PER_YEAR) -> pd.DataFrame:
    """Annualised Sharpe ratio over the last ``window`` days; NaN before they are full."""
    rolled = paths.rolling(window)
    return rolled.mean() / rolled.std().where(lambda s: s > 0) * TRADING_DAYS_PER_YEAR**0.5


def cost_table(daily: pd.DataFrame) -> pd.DataFrame:
    """Net Sharpe ratio of each path at flat costs, positions unchanged.

    Args:
        daily: Long: ``path, gross, turnover`` per day.

    Returns:
        Index: basis points of traded notional (``COST_BPS``); columns: paths.
    """
    return pd.DataFrame(
        {
            str(path): {
                bps: sharpe_ann((rows["gross"] - rows["turnover"] * bps / 1e4).to_numpy())
                for bps in COST_BPS
            }
            for path, rows in daily.groupby("path")
        }
    ).rename_axis("cost_bps")


def records(frame: pd.DataFrame, index: str) -> list[dict[str, Any]]:
    """Rows of a frame as JSON values, the index under a name of its own; NaN is null."""
    named = frame.rename_axis(index).reset_index()
    return [
        {str(name): None if value is pd.NaT else json_value(value) for name, value in row.items()}
        for row in named.to_dict(orient="records")
    ]
