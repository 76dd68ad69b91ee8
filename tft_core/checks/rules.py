"""Pure checks: each looks at one result and returns coded findings, or none.

No check raises for what it is there to find, and none decides what happens next: an
``error`` blocks, a ``warn`` is shown.
"""

import numpy as np
import pandas as pd

from tft_core.checks.findings import Finding, Severity
from tft_core.errors import first_few
from tft_core.feature_selection.report import NOT_ABOVE_CHANCE, StabilityReport
from tft_core.schema import finite_or_none

_STOPS = ("invalid_price",)
"""Codes of ``data.quality`` that no ingestion lets in: the store itself is damaged."""
_BROKEN = ("invalid_price", "does_not_trade")
_SUSPICIOUS = (
    *("impossible_jump", "unit_switch", "unadjusted_split", "decimal_spike", "spike"),
    "stale_run",
)
"""Codes that look like faults of the source; large moves and gaps are the market's own."""


def bars_are_sane(
    quality: pd.DataFrame,
    *,
    late_share: pd.Series | None = None,
    max_broken_share: float = 0.2,
) -> list[Finding]:
    """The bars as a whole are usable; single broken or suspicious symbols are named.

    Args:
        quality: One row per symbol as ``data.quality.quality_summary`` makes it: at least
            ``rows`` and ``findings`` (codes joined by commas).
        late_share: Share of each symbol's bars that were known only after their session day
            (``MarketDataStore.late_share``).
        max_broken_share: Share of symbols with an error above which nothing is usable.
    """
    check = "bars_are_sane"
    if quality.empty or not (quality["rows"] > 0).any():
        return [
            Finding(
                f"{check}.no_bars",
                "error",
                "there are no bars; run `tft sample` or `tft ingest PATH`",
            )
        ]
    codes = quality["findings"].fillna("").astype(str).str.split(",")
    symbols_of = {
        code: [str(symbol) for symbol, told in codes.items() if code in told]
        for code in dict.fromkeys((*_BROKEN, *_SUSPICIOUS))
    }
    found = []
    for code in _STOPS:
        if symbols_of[code]:
            found.append(_named(check, code, "error", symbols_of[code], len(quality)))
    broken = sorted({symbol for code in _BROKEN for symbol in symbols_of[code]})
    if len(broken) > max_broken_share * len(quality):
        found.append(
            Finding(
                f"{check}.too_many_broken_symbols",
                "error",
                f"{len(broken)} of {len(quality)} symbols are broken, at most "
                f"{max_broken_share:.0%} may be; correct the files and ingest them again",
                {"symbols": broken},
            )
        )
    if late_share is not None and (late := late_share.index[late_share > 0.5].tolist()):
        found.append(
            Finding(
                f"{check}.known_too_late",
                "error",
                f"bars of {first_few(late)} become known after their session day, so no decision "
                "can use them; take them out of [universe] and load them with `tft ingest "
                "--series`, or correct publication_lag_days or available_at",
                {"symbols": late},
            )
        )
    for code in dict.fromkeys((*_BROKEN, *_SUSPICIOUS)):
        if symbols_of[code] and code not in _STOPS:
            found.append(_named(check, code, "warn", symbols_of[code], len(quality)))
    return found


def _named(
    check: str, code: str, severity: Severity, symbols: list[str], n_symbols: int
) -> Finding:
    return Finding(
        f"{check}.{code}",
        severity,
        f"{code.replace('_', ' ')} in {len(symbols)} of {n_symbols} symbols: {first_few(symbols)}; "
        "look at the quality table",
        {"symbols": symbols},
    )


def features_are_covered(
    coverage: pd.Series, *, least: float = 0.3, least_share: float = 0.5
) -> list[Finding]:
    """Enough features have values on the rows.

    Args:
        coverage: Feature → share of rows with a value.
        least: Coverage below which a feature counts as absent.
        least_share: Share of features that must not be absent.
    """
    check = "features_are_covered"
    if coverage.empty:
        return [Finding(f"{check}.no_features", "error", "no features were built")]
    absent = coverage.index[~(coverage >= least)].tolist()
    if len(absent) == len(coverage):
        return [
            Finding(
                f"{check}.none_covered",
                "error",
                f"none of {len(coverage)} features has values on {least:.0%} of the rows; "
                "look at the input columns and the warm-up",
                {"n_features": len(coverage)},
            )
        ]
    if len(absent) > (1.0 - least_share) * len(coverage):
        return [
            Finding(
                f"{check}.low",
                "warn",
                f"{len(absent)} of {len(coverage)} features have values on less than {least:.0%} "
                f"of the rows, first {absent[0]}; they will be dropped by the pre-filter",
                {"n_absent": len(absent), "n_features": len(coverage)},
            )
        ]
    return []


def costs_are_named(by_default: list[str], n_symbols: int, default_bps: float) -> list[Finding]:
    """No instrument is charged the default for want of its asset class in ``[costs]``.

    Args:
        by_default: Symbols that bring no cost and whose class ``[costs]`` does not name.
        default_bps: What they are charged, in basis points of traded notional.
    """
    if not by_default:
        return []
    return [
        Finding(
            "costs_are_named.default",
            "warn",
            f"{len(by_default)} of {n_symbols} symbols are charged costs.default_bps = "
            f"{default_bps:g}: {first_few(by_default)}; name their asset classes in [costs.bps] or "
            "[costs.vol], or give them costs with `tft ingest --instruments`",
            {"symbols": by_default},
        )
    ]


def training_converged(histories: pd.DataFrame) -> list[Finding]:
    """Every member trained to finite losses and, at some epoch, a finite validation Sharpe.

    Args:
        histories: One row per member × epoch: ``member, epoch, phase, train_loss, val_sharpe``.
            Epochs without validation (the refit) carry ``phase = "refit"``.
    """
    check = "training_converged"
    if histories.empty:
        return [Finding(f"{check}.no_epochs", "error", "no epoch was trained")]
    found = []
    for member, rows in histories.groupby("member", sort=True):
        name = str(member)
        bad = rows[~np.isfinite(rows["train_loss"].to_numpy(dtype=np.float64))]
        if len(bad):
            found.append(
                Finding(
                    f"{check}.loss_not_finite",
                    "error",
                    f"member {name}: the training loss stopped being a number in epoch "
                    f"{bad['epoch'].iloc[0]}; lower training.lr",
                    {"member": name, "epoch": int(bad["epoch"].iloc[0])},
                )
            )
        validated = rows[rows["phase"] != "refit"]
        if len(validated) and not np.isfinite(validated["val_sharpe"].to_numpy(np.float64)).any():
            found.append(
                Finding(
                    f"{check}.validation_not_finite",
                    "error",
                    f"member {name}: no epoch has a finite validation Sharpe; its positions are "
                    "constant, or the validation rows are too few",
                    {"member": name, "n_epochs": len(validated)},
                )
            )
    return found


def selection_is_above_chance(report: StabilityReport) -> Finding | None:
    """Weights of real features lie above those of shadows; too few folds is no finding."""
    if report.verdict != NOT_ABOVE_CHANCE:
        return None
    why = "; ".join(reason.message for reason in report.reasons)
    return Finding(
        f"selection_is_above_chance.{report.verdict}",
        "warn",
        f"{report.sentence} ({why})",
        {
            "verdict": report.verdict,
            "chance_p_value": finite_or_none(report.statistics.get("chance_p_value", float("nan"))),
            "reasons": [reason.code for reason in report.reasons],
        },
    )
