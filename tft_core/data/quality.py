"""Are the bars sane? A summary per symbol and coded findings, some of which block.

Works on a panel or long bars as they were read, thus as of what was known. Row faults (a high
below the low, …) never get this far: ``rules`` kept them out.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tft_core.data.panel import MarketPanel
from tft_core.data.report import Finding
from tft_core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityConfig:
    """Limits of the quality checks."""

    min_sessions: int = 252
    """A symbol with fewer sessions is reported: no long window is ever defined."""
    max_gap_days: int = 10
    """Calendar days between two bars of a symbol above which a gap is reported."""
    max_zero_share: float = 0.6
    """Share of unchanged closes above which a symbol does not really trade."""
    max_stale_run: int = 10
    """Unchanged closes in a row above which a stale run is reported."""
    max_abs_z: float = 25.0
    """Largest one-day move, in robust standard deviations, that passes without remark."""
    unit_switch_ratio: float = 5.0
    """A lasting jump of the close by this factor or its inverse looks like another unit."""
    max_broken_share: float = 0.2
    """Share of symbols with an error above which the whole set is refused."""

    def __post_init__(self) -> None:
        for name in ("max_zero_share", "max_broken_share"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"quality {name} must lie in [0, 1], found {value:g}")
        for name in ("min_sessions", "max_gap_days", "max_stale_run", "max_abs_z"):
            value = getattr(self, name)
            if not value > 0:
                raise ConfigError(f"quality {name} must be positive, found {value:g}")
        if not self.unit_switch_ratio > 1:
            raise ConfigError(
                f"quality unit_switch_ratio must exceed 1, found {self.unit_switch_ratio:g}"
            )


SUMMARY_COLUMNS = (
    *("rows", "first", "last", "gaps", "max_gap_days", "zero_return_share", "longest_stale_run"),
    *("max_abs_z", "worst_return", "best_return", "ohlc_share", "volume_share"),
    *("open_interest_share", "findings"),
)


def quality_summary(panel: MarketPanel, config: QualityConfig | None = None) -> pd.DataFrame:
    """One row per symbol: span, gaps, stale and zero returns, the largest move, coverage.

    ``max_abs_z`` is the largest simple one-session return over the robust standard deviation
    (1.4826 times the median absolute return among non-zero ones). ``findings`` joins the codes
    of ``bar_findings``.
    """
    limits = config or QualityConfig()
    rows = [_summarise(panel, column, limits) for column in range(len(panel.symbols))]
    table = pd.DataFrame(rows, index=pd.Index(panel.symbols, name="symbol"))
    codes = pd.Series("", index=table.index)
    told = [(f.symbol, f.rule) for f in bar_findings(panel, limits) if f.symbol is not None]
    if told:
        found = pd.DataFrame(told, columns=["symbol", "rule"])
        joined = {s: ",".join(sorted(set(g))) for s, g in found.groupby("symbol")["rule"]}
        codes.update(joined)
    table["findings"] = codes
    return table.reindex(columns=list(SUMMARY_COLUMNS))


def bar_findings(panel: MarketPanel, config: QualityConfig | None = None) -> list[Finding]:
    """What a person should know about the bars, worst first; severity ``error`` blocks.

    As of:
        The newest bar of the panel. Findings that need later bars to be seen (stale runs,
        lasting jumps) carry the day on which they could be seen in ``known_at``.
    """
    limits = config or QualityConfig()
    if len(panel.dates) == 0 or not panel.has_session.any():
        return [
            Finding(
                rule="no_bars",
                severity="error",
                message="bars must not be empty, found none; run `tft sample` or `tft ingest PATH`",
            )
        ]
    found: list[Finding] = []
    for column, symbol in enumerate(panel.symbols):
        found += _symbol_findings(panel, column, symbol, limits)
    broken = {f.symbol for f in found if f.severity == "error"}
    share = len(broken) / len(panel.symbols)
    if share > limits.max_broken_share:
        found.append(
            Finding(
                rule="too_many_broken_symbols",
                severity="error",
                message=f"at most {limits.max_broken_share:.0%} of the symbols may have errors, "
                f"found {share:.0%}; correct the files and ingest them again",
                value=share,
            )
        )
    rank = {"error": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda f: (rank[f.severity], f.symbol or "", f.rule))


def blocking_finding(panel: MarketPanel, config: QualityConfig | None = None) -> Finding | None:
    """The finding that makes the set as a whole unusable, or ``None``: bars are sane.

    A single broken symbol does not stop the others; no bars, a bar that no rule would have let
    in, or too many broken symbols do.
    """
    stops = ("no_bars", "invalid_price", "too_many_broken_symbols")
    for finding in bar_findings(panel, config):
        if finding.severity == "error" and finding.rule in stops:
            return finding
    return None


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
    return float(1.4826 * np.median(moved)) if len(moved) else float("nan")


def _runs(unchanged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First positions and lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], unchanged, [False]]).astype(np.int8)))
    return edges[::2], edges[1::2] - edges[::2]


def _summarise(panel: MarketPanel, column: int, limits: QualityConfig) -> dict[str, object]:
    days, close, returns = _own(panel, column)
    count = len(close)
    if count == 0:
        return {"rows": 0, "gaps": 0, "longest_stale_run": 0}
    gaps = np.diff(days).astype(np.int64)
    _, lengths = _runs(returns == 0)
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
    panel: MarketPanel, column: int, symbol: str, limits: QualityConfig
) -> list[Finding]:
    days, close, returns = _own(panel, column)
    found: list[Finding] = []

    def tell(rule: str, severity: str, message: str, at: int | None, value: float) -> None:
        day = None if at is None else days[at].item()
        found.append(
            Finding(
                rule=rule,
                severity=severity,  # type: ignore[arg-type]
                message=f"{symbol} {message}",
                symbol=symbol,
                day=day,
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
    if zero_share > limits.max_zero_share:
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
    starts, lengths = _runs(returns == 0)
    for start, length in zip(starts, lengths, strict=True):
        if length > limits.max_stale_run:
            seen = days[start + limits.max_stale_run + 1].item()
            found.append(
                Finding(
                    rule="stale_run",
                    severity="warning",
                    message=f"{symbol} has an unchanged close for {length} sessions",
                    symbol=symbol,
                    day=days[start + 1].item(),
                    value=float(length),
                    known_at=seen,
                )
            )
    found += _jumps(symbol, days, close, returns, limits)
    return found


def _jumps(
    symbol: str, days: np.ndarray, close: np.ndarray, returns: np.ndarray, limits: QualityConfig
) -> list[Finding]:
    """Extreme moves: those that come back at once, those that last, and the merely large."""
    sigma = _robust_sigma(returns)
    found: list[Finding] = []
    ratio = close[1:] / close[:-1]
    for at in np.flatnonzero(np.abs(returns) > limits.max_abs_z * sigma):
        switched = max(ratio[at], 1 / ratio[at]) >= limits.unit_switch_ratio
        comes_back = at + 2 < len(close) and abs(np.log(close[at + 2] / close[at])) < 0.2 * abs(
            np.log(ratio[at])
        )
        later = days[at + 2].item() if at + 2 < len(days) else None
        rule, words = "large_move", "moves by"
        if comes_back:
            rule, words = "spike", "moves and comes back by"
        elif switched:
            rule, words = "unit_switch", "moves for good by"
        found.append(
            Finding(
                rule=rule,
                severity="warning",
                message=f"{symbol} {words} {returns[at]:+.1%}, "
                f"{abs(returns[at]) / sigma:.0f} robust standard deviations",
                symbol=symbol,
                day=days[at + 1].item(),
                value=float(returns[at]),
                known_at=later if rule != "large_move" else None,
            )
        )
    return found
