"""Faults of a bar that only its neighbours in time show: spikes, splits, stale runs.

Each is seen from a bounded span of the symbol's own sessions and carries the session that
revealed it. So a file in one piece and the same file day by day lead to the same faults, and
nothing is known before it could be. What follows from a fault is ``store``'s business.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import bottleneck as bn
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from tft_core.errors import ConfigError

HISTORY_SESSIONS = 600
"""Own sessions before a changed bar that its faults can depend on, with room to spare."""

DECIMAL_SPIKE = "decimal_spike"
WITHHELD_RULES = (DECIMAL_SPIKE,)
"""Rules whose bars no read shows from ``known_at`` on: no market moves so and comes back."""
HISTORY_REASONS = {
    "impossible_jump": "the close is 5 times the last one or more, or its inverse; wait and see",
    DECIMAL_SPIKE: "the close is off by a factor and comes back within days: a misplaced decimal",
    "spike": "an extreme move that the next session takes back",
    "unit_switch": "the close jumps by a power of ten and stays there: another unit",
    "unadjusted_split": "the close jumps by a split's ratio and stays: not adjusted, or a crash",
    "stale_run": "the close is unchanged for longer than this market's habit explains",
    "does_not_trade": "most closes of the last year are unchanged",
}
"""What each rule means, in words. Rows stay accepted: these are flags."""

_SPLITS = np.log(np.array([1.5, 2.0, 3.0, 4.0]))
_SPLIT_SLACK = np.array([1.0, 3.0, 3.0, 3.0])
"""Robust standard deviations of the market's own move on top of the split; 3:2 is a real crash's
size, so it must fit better."""
_COMES_BACK = 0.25
"""Share of a jump that may be left when the price counts as back."""
SIGMA_PER_MEDIAN = 1.4826
"""A normal distribution's standard deviation over the median of its absolute values."""
LEAST_MOVE = 0.01
"""A peg's scale is its rounding noise, which makes every true move look extreme."""
_LONGEST_REST = 60
"""Sessions after which an unchanged close is stale whatever the habit."""
_DECIMAL_SLACK = 0.05
"""Distance to a power of ten, in log10: 12 %, more than any day moves on top of the switch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryLimits:
    """From where on a course of closes is called a fault."""

    impossible_factor: float = 5.0
    """A close this many times the last one, or its inverse, is no market's move."""
    max_spike_sessions: int = 5
    """A jump that comes back within so many sessions is a spike, else it lasts."""
    max_abs_z: float = 25.0
    """Largest one-session move, in robust standard deviations of the year before."""
    max_stale_run: int = 10
    """Unchanged closes in a row above which a run may be stale."""
    stale_chance: float = 1e-6
    """A run is stale if independent sessions, unchanged as often as in the year before, would
    show one so long with less than this probability. Short rates rest for weeks."""
    max_zero_share: float = 0.6
    """Share of unchanged closes within a year above which a symbol does not trade."""
    window_sessions: int = 252
    """The year: sessions behind a scale or a share."""
    min_sessions: int = 20
    """Fewer own sessions than this give no scale and no share."""

    def __post_init__(self) -> None:
        if not self.impossible_factor > 1:
            raise ConfigError(
                f"history impossible_factor must exceed 1, found {self.impossible_factor:g}"
            )
        if not 0.0 <= self.max_zero_share <= 1.0:
            raise ConfigError(
                f"history max_zero_share must lie in [0, 1], found {self.max_zero_share:g}"
            )
        for name in ("max_spike_sessions", "max_stale_run", "max_abs_z", "min_sessions"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"history {name} must be positive, found {getattr(self, name):g}")
        if not 0.0 < self.stale_chance < 1.0:
            raise ConfigError(
                f"history stale_chance must lie in (0, 1), found {self.stale_chance:g}"
            )
        longest = 2 * self.window_sessions + max(
            self.max_spike_sessions, self.max_stale_run, _LONGEST_REST
        )
        if longest > HISTORY_SESSIONS:
            raise ConfigError(
                f"history limits must look back at most {HISTORY_SESSIONS} sessions, "
                f"found {longest}; shorten window_sessions"
            )


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one symbol; positions count its own sessions."""

    rule: str
    first: int
    """The first bar it concerns."""
    last: int
    """The last bar it concerns."""
    seen: int
    """The bar that revealed it; nothing later was looked at."""
    value: float
    """Ratio of the jump, number of unchanged closes, or share of them; as known when seen."""


def history_faults(
    close: Float[np.ndarray, " session"],
    high: Float[np.ndarray, " session"] | None = None,
    low: Float[np.ndarray, " session"] | None = None,
    limits: HistoryLimits | None = None,
) -> list[Fault]:
    """Faults in a symbol's closes, in the order in which they could be seen.

    Args:
        close: Positive closes of the symbol's own sessions, oldest first.
        high: Highs, NaN where unknown; a day that traded at both levels was no split.
        low: Lows, likewise.
        limits: From where on something is a fault.

    As of:
        Each fault depends on bars up to its ``seen`` and on no later one.
    """
    limits = limits or HistoryLimits()
    if len(close) < 2:
        return []
    unknown = np.full(len(close), np.nan)
    highs, lows = (unknown if field is None else field for field in (high, low))
    found = [
        *_jumps(np.log(close), np.log(highs), np.log(lows), limits),
        *_stale_runs(close[1:] == close[:-1], limits),
        *_idle_spans(close[1:] == close[:-1], limits),
    ]
    return sorted(found, key=lambda fault: (fault.seen, fault.first, fault.rule))


def findings_in(bars: pd.DataFrame, limits: HistoryLimits | None = None) -> pd.DataFrame:
    """Coded findings of several symbols' bars, each known once all of the bars behind it were.

    Args:
        bars: ``symbol, date, high, low, close, available_at, may_reveal``, ordered by symbol and
            date. A fault counts where ``may_reveal`` is True for the bar that showed it.
        limits: From where on something is a fault.

    Returns:
        ``rule, outcome, symbol, date, last_date, value, known_at``.
    """
    rows = []
    for symbol, own in bars.groupby("symbol", sort=False):
        close, high, low = (
            own[name].to_numpy(dtype=np.float64, na_value=np.nan)
            for name in ("close", "high", "low")
        )
        dates, known = own["date"].to_numpy(), own["available_at"].to_numpy()
        may_reveal = own["may_reveal"].to_numpy(dtype=bool)
        for fault in history_faults(close, high, low, limits):
            if may_reveal[fault.seen]:
                outcome = "withheld" if fault.rule in WITHHELD_RULES else "flagged"
                since = max(fault.seen - HISTORY_SESSIONS, 0)
                rows.append(
                    (
                        *(fault.rule, outcome, symbol, dates[fault.first], dates[fault.last]),
                        *(fault.value, known[since : fault.seen + 1].max()),
                    )
                )
    columns = ["rule", "outcome", "symbol", "date", "last_date", "value", "known_at"]
    return pd.DataFrame(rows, columns=columns)


def large_moves(
    close: Float[np.ndarray, " session"], limits: HistoryLimits | None = None
) -> list[int]:
    """Sessions whose move exceeds ``max_abs_z`` robust standard deviations of the year before.

    Not faults by themselves: a crash is one too. Each depends on bars up to it alone.
    """
    limits = limits or HistoryLimits()
    moves = np.diff(np.log(close))
    limit = limits.max_abs_z * sigma_before(moves, limits)
    extreme = np.abs(moves) > np.maximum(limit, LEAST_MOVE)
    return (np.flatnonzero(extreme) + 1).tolist()


def _jumps(
    log_close: np.ndarray, log_high: np.ndarray, log_low: np.ndarray, limits: HistoryLimits
) -> Iterator[Fault]:
    """Extreme moves: those that come back, and those that last in the ratio of a split or unit."""
    moves = np.diff(log_close)
    sigmas = sigma_before(moves, limits)
    impossible = np.log(limits.impossible_factor)
    candidates = np.flatnonzero(np.abs(moves) > 0.5 * _SPLITS[0]) + 1
    last, clear_from = len(log_close) - 1, 0
    for at in candidates:
        if at < clear_from:  # the way back of a spike
            continue
        move, before = moves[at - 1], log_close[at - 1]
        if abs(move) >= impossible:
            yield Fault("impossible_jump", int(at), int(at), int(at), float(np.exp(move)))
            horizon = min(at + limits.max_spike_sessions, last)
            away = np.abs(log_close[at + 1 : horizon + 1] - before)
            back = np.flatnonzero(away < _COMES_BACK * abs(move))
            if len(back):
                seen = int(at + 1 + back[0])
                yield Fault(DECIMAL_SPIKE, int(at), seen - 1, seen, float(np.exp(move)))
                clear_from = seen + 1
            elif at + limits.max_spike_sessions <= last:
                decades = move / np.log(10.0)
                is_decimal = abs(decades - round(decades)) < _DECIMAL_SLACK
                rule = "unit_switch" if is_decimal else "unadjusted_split"
                seen = int(at + limits.max_spike_sessions)
                yield Fault(rule, int(at), int(at), seen, float(np.exp(move)))
            continue
        sigma = sigmas[at - 1]
        if at < last and abs(move) > limits.max_abs_z * sigma:
            left = abs(log_close[at + 1] - before)
            if left < _COMES_BACK * abs(move):
                yield Fault("spike", int(at), int(at), int(at + 1), float(np.exp(move)))
                clear_from = at + 2
                continue
        if at + limits.max_spike_sessions > last or not abs(move) > 10.0 * sigma:
            continue
        after = log_close[at : at + limits.max_spike_sessions + 1]
        stays = np.abs(after - before).min() > 0.5 * abs(move)
        is_ratio = (np.abs(abs(move) - _SPLITS) < _SPLIT_SLACK * sigma).any()
        half_way = before + 0.5 * move
        edge = log_high[at] if move < 0 else -log_low[at]
        traded_between = edge > (half_way if move < 0 else -half_way)  # False where unknown
        if stays and is_ratio and not traded_between:
            seen = int(at + limits.max_spike_sessions)
            yield Fault("unadjusted_split", int(at), int(at), seen, float(np.exp(move)))


def sigma_before(
    moves: Float[np.ndarray, " move"], limits: HistoryLimits
) -> Float[np.ndarray, " move"]:
    """Robust standard deviation of the non-zero moves in the year before each; inf if unknown."""
    if len(moves) < 2:
        return np.full(len(moves), np.inf)
    size = np.where(moves == 0, np.nan, np.abs(moves))
    window = min(limits.window_sessions, len(size))
    median = bn.move_median(size, window, min_count=min(limits.min_sessions, window))
    sigma = SIGMA_PER_MEDIAN * np.concatenate([[np.nan], median[:-1]])
    return np.where(np.isnan(sigma), np.inf, sigma)


def _stale_runs(unchanged: Bool[np.ndarray, " move"], limits: HistoryLimits) -> Iterator[Fault]:
    for start, length in zip(*runs(unchanged), strict=True):
        if length <= limits.max_stale_run:
            continue
        past = unchanged[max(start - limits.window_sessions, 0) : start]
        habit = past.mean() if len(past) >= limits.min_sessions else 0.0
        usual = np.log(limits.stale_chance) / np.log(habit) if habit > 0 else 0.0
        allowed = max(limits.max_stale_run, int(min(usual, _LONGEST_REST)))
        if length > allowed:
            seen = int(start + allowed + 1)
            yield Fault("stale_run", int(start) + 1, seen, seen, allowed + 1.0)


def _idle_spans(unchanged: Bool[np.ndarray, " move"], limits: HistoryLimits) -> Iterator[Fault]:
    """Sessions at which a symbol stops trading: the share of unchanged closes crosses its limit."""
    total = np.concatenate([[0], np.cumsum(unchanged)])
    ends = np.arange(len(total))
    begins = np.maximum(ends - limits.window_sessions, 0)
    counted = ends - begins
    share = (total - total[begins]) / np.maximum(counted, 1)
    idle = (counted >= limits.min_sessions) & (share > limits.max_zero_share)
    idle_before = np.concatenate([[0], np.cumsum(idle)[:-1]])
    is_news = idle_before == idle_before[begins]  # not a return to rest within the year
    for at in np.flatnonzero(idle & is_news):
        yield Fault("does_not_trade", int(at), int(at), int(at), float(share[at]))


def runs(is_part: Bool[np.ndarray, " move"]) -> tuple[np.ndarray, np.ndarray]:
    """First positions and lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_part, [False]]).astype(np.int8)))
    return edges[::2], edges[1::2] - edges[::2]
