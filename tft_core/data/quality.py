"""Are the bars sane? A summary per symbol and coded findings about what a person should know.

Works on a panel as it was read, thus as of what was known. Row faults (a high below the low, …)
never get this far: ``rules`` kept them out. What blocks is decided in ``tft_core.checks``.
"""

from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pandas as pd

from tft_core.data.history import (
    DECIMAL_SPIKE,
    HISTORY_REASONS,
    SIGMA_PER_MEDIAN,
    HistoryLimits,
    history_faults,
    large_moves,
    runs,
)
from tft_core.data.panel import MarketPanel
from tft_core.data.report import BarFinding, Severity
from tft_core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityConfig:
    """Limits of the quality checks."""

    min_sessions: int = 252
    """A symbol with fewer sessions is reported: no long window is ever defined."""
    max_gap_days: int = 10
    """Calendar days between two bars of a symbol above which a gap is reported."""
    history: HistoryLimits = field(default_factory=HistoryLimits)
    """From where on a course of closes is a fault."""

    def __post_init__(self) -> None:
        for name in ("min_sessions", "max_gap_days"):
            value = getattr(self, name)
            if not value > 0:
                raise ConfigError(f"quality {name} must be positive, found {value:g}")


_EXPLANATIONS = (DECIMAL_SPIKE, "unit_switch", "unadjusted_split")
"""What an impossible jump turns out to be once later bars are there."""

SUMMARY_COLUMNS = (
    *("rows", "first", "last", "gaps", "max_gap_days", "zero_return_share", "longest_stale_run"),
    *("max_abs_z", "worst_return", "best_return", "ohlc_share", "volume_share"),
    *("open_interest_share", "findings"),
)


def quality_summary(
    panel: MarketPanel,
    config: QualityConfig | None = None,
    *,
    history: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """One row per symbol: span, gaps, stale and zero returns, the largest move, coverage.

    ``max_abs_z`` is the largest simple one-session return over the robust standard deviation
    (1.4826 times the median absolute return among non-zero ones). ``findings`` joins the codes
    of ``bar_findings``, which takes ``history`` too.
    """
    limits = config or QualityConfig()
    rows = [_summarise(panel, column, limits) for column in range(len(panel.symbols))]
    table = pd.DataFrame(rows, index=pd.Index(panel.symbols, name="symbol"))
    codes = pd.Series("", index=table.index)
    told = [(f.symbol, f.rule) for f in bar_findings(panel, limits, history=history)]
    if told:
        found = pd.DataFrame(told, columns=["symbol", "rule"])
        joined = {str(s): ",".join(sorted(set(g))) for s, g in found.groupby("symbol")["rule"]}
        codes.update(pd.Series(joined))
    table["findings"] = codes
    return table.reindex(columns=list(SUMMARY_COLUMNS))


def bar_findings(
    panel: MarketPanel,
    config: QualityConfig | None = None,
    *,
    history: pd.DataFrame | None = None,
) -> list[BarFinding]:
    """What a person should know about the bars, worst first.

    Args:
        panel: The bars.
        config: Limits.
        history: Findings of the store on these bars (``MarketDataStore.findings``), which knows
            what came before the panel and what is withheld from it. Without them the histories
            are judged from the panel's own first bar on.

    As of:
        The newest bar of the panel. Findings that need later bars to be seen (stale runs,
        lasting jumps) carry the day on which they could be seen in ``known_at``.
    """
    limits = config or QualityConfig()
    found: list[BarFinding] = []
    for column, symbol in enumerate(panel.symbols):
        found += _symbol_findings(panel, column, symbol, limits, judge_history=history is None)
    if history is not None:
        found += [
            _history_finding(
                *(row["rule"], row["symbol"], row["date"].date(), row["value"]),
                row["known_at"].date(),
            )
            for row in history.to_dict("records")
            if row["rule"] in HISTORY_REASONS
        ]
    explained = {(f.symbol, f.day) for f in found if f.rule in _EXPLANATIONS}
    found = [f for f in found if f.rule != "impossible_jump" or (f.symbol, f.day) not in explained]
    rank = {"error": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda f: (rank[f.severity], f.symbol, f.rule, f.day or date.min))


def _own(panel: MarketPanel, column: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Session days, closes and simple returns of one symbol, over its own sessions."""
    rows = panel.has_session[:, column]
    days = panel.dates.to_numpy("datetime64[D]")[rows]
    close = panel.close[rows, column]
    with np.errstate(divide="ignore", invalid="ignore"):
        returns = close[1:] / close[:-1] - 1.0
    return days, close, returns


def _robust_sigma(returns: np.ndarray) -> float:
    moved = np.abs(returns[np.isfinite(returns) & (returns != 0)])
    return float(SIGMA_PER_MEDIAN * np.median(moved)) if len(moved) else float("nan")


def _summarise(panel: MarketPanel, column: int, limits: QualityConfig) -> dict[str, object]:
    days, close, returns = _own(panel, column)
    count = len(close)
    if count == 0:
        return {"rows": 0, "gaps": 0, "longest_stale_run": 0}
    gaps = np.diff(days).astype(np.int64)
    _, lengths = runs(returns == 0)
    rows = panel.has_session[:, column]
    bars = np.isfinite(
        panel.open[rows, column] + panel.high[rows, column] + panel.low[rows, column]
    )
    is_defined = len(returns) > 0
    nan = float("nan")
    return {
        "rows": count,
        "first": pd.Timestamp(days[0]),
        "last": pd.Timestamp(days[-1]),
        "gaps": int((gaps > limits.max_gap_days).sum()),
        "max_gap_days": float(gaps.max()) if is_defined else nan,
        "zero_return_share": float((returns == 0).mean()) if is_defined else nan,
        "longest_stale_run": int(lengths.max()) if len(lengths) else 0,
        "max_abs_z": float(np.abs(returns).max() / _robust_sigma(returns)) if is_defined else nan,
        "worst_return": float(returns.min()) if is_defined else nan,
        "best_return": float(returns.max()) if is_defined else nan,
        "ohlc_share": float(bars.mean()),
        "volume_share": float(np.isfinite(panel.volume[rows, column]).mean()),
        "open_interest_share": float(np.isfinite(panel.open_interest[rows, column]).mean()),
    }


def _symbol_findings(
    panel: MarketPanel, column: int, symbol: str, limits: QualityConfig, *, judge_history: bool
) -> list[BarFinding]:
    days, close, returns = _own(panel, column)
    found: list[BarFinding] = []

    def tell(rule: str, severity: Severity, message: str, at: int | None, value: float) -> None:
        found.append(
            BarFinding(
                rule=rule,
                severity=severity,
                message=f"{symbol} {message}",
                symbol=symbol,
                day=None if at is None else days[at].item(),
                value=value,
            )
        )

    if len(close) == 0:
        return found
    bad = np.flatnonzero(~np.isfinite(close) | (close <= 0))
    if len(bad):
        tell(
            "invalid_price",
            "error",
            f"must have positive closes, found {close[bad[0]]:g}; ingest the file again",
            int(bad[0]),
            float(close[bad[0]]),
        )
        return found
    if len(close) < limits.min_sessions:
        tell(
            "short_history",
            "info",
            f"has {len(close)} sessions, fewer than {limits.min_sessions}",
            None,
            float(len(close)),
        )
    if len(returns) == 0:
        return found
    zero_share = float((returns == 0).mean())
    if zero_share > limits.history.max_zero_share:
        tell(
            "does_not_trade",
            "error",
            f"closes unchanged on {zero_share:.0%} of its sessions; take it out of the universe",
            None,
            zero_share,
        )
    gaps = np.diff(days).astype(np.int64)
    for at in np.flatnonzero(gaps > limits.max_gap_days):
        tell("gap", "warning", f"has no bar for {gaps[at]} days", int(at) + 1, float(gaps[at]))
    faults = []
    if judge_history:
        own = panel.has_session[:, column]
        high, low = panel.high[own, column], panel.low[own, column]
        told = history_faults(close, high, low, limits.history)
        faults = [f for f in told if f.rule != "does_not_trade"]  # told above, for all sessions
        found += [
            _history_finding(*(f.rule, symbol, days[f.first].item(), f.value), days[f.seen].item())
            for f in faults
        ]
    explained = {position for f in faults for position in (f.first, f.last + 1)}
    for at in large_moves(close, limits.history):
        if at not in explained:
            move = returns[at - 1]
            tell("large_move", "warning", f"moves by {move:+.1%} in a session", at, float(move))
    return found


def _history_finding(rule: str, symbol: str, day: date, value: float, seen: date) -> BarFinding:
    """A fault of a history in words; a ratio or a number of sessions is its value."""
    measure = {"stale_run": f"{value:.0f} sessions", "does_not_trade": f"{value:.0%}"}
    return BarFinding(
        rule=rule,
        severity="warning",
        message=f"{symbol}: {HISTORY_REASONS[rule]} ({measure.get(rule, f'× {value:.3g}')})",
        symbol=symbol,
        day=day,
        value=value,
        known_at=seen,
    )
