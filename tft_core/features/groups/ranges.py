"""Ranges and gaps: where the close lies, and what happens overnight and within the day."""

import numpy as np

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import SIGMA_LOOKBACK, OwnSessions

CLOSE_WINDOWS = (21, 63, 126, 252)

_define = definer("range")
_OHLC = "open high low close"

FEATURES = (
    *(
        _define(f"close_pos_{w}", "close", w, "0–1",
                f"(C − lowest C) / (highest C − lowest C) of {w} sessions")
        for w in CLOSE_WINDOWS
    ),
    *(
        _define(f"drawdown_{w}", "close", w, "log return",
                f"ln(C / highest C of {w} sessions)")
        for w in (63, 252)
    ),
    _define("runup_252", "close", 252, "log return",
            "ln(C / lowest C of 252 sessions)"),
    *(
        _define(f"{side}_age_252", "close", 252, "share of the window",
                f"sessions since the {word} C of 252 sessions / 251",
                "Gray & Vogel; George & Hwang 2004")
        for side, word in (("high", "highest"), ("low", "lowest"))
    ),
    _define("hl_norm", "high low close", SIGMA_LOOKBACK, "daily volatilities",
            "ln(H / L) / σ_t"),
    _define("hl_ratio_5_63", "high low", 63, "log ratio",
            "ln(mean of ln(H/L) over 5 / over 63 sessions)"),
    _define("close_loc_1", "high low close", 1, "-1–1",
            "(2C − H − L) / (H − L)"),
    _define("close_loc_21", "high low close", 21, "-1–1",
            "mean over 21 sessions of (2C − H − L) / (H − L)"),
    _define("body_1", _OHLC, 1, "-1–1", "(C − O) / (H − L)"),
    _define("body_21", _OHLC, 21, "-1–1",
            "Σ ln(C/O) / Σ ln(H/L) over 21 sessions"),
    _define("wick_skew_21", _OHLC, 21, "ratio",
            "Σ (ln(H / max(O, C)) − ln(min(O, C) / L)) / Σ ln(H/L) over 21 sessions"),
    _define("gap_1", "open close", SIGMA_LOOKBACK, "daily volatilities",
            "ln(O_t / C_t−1) / σ_t"),
    _define("gap_share_63", "open close", 64, "share",
            "Σ g² / (Σ g² + Σ d²) over 63 sessions: g = ln(O_t / C_t−1), d = ln(C / O)"),
    _define("gap_sum_21", "open close", SIGMA_LOOKBACK, "volatilities of the horizon",
            "Σ ln(O_t / C_t−1) over 21 sessions / (σ_t √21)"),
    _define("intraday_sum_21", "open close", SIGMA_LOOKBACK, "volatilities of the horizon",
            "Σ ln(C / O) over 21 sessions / (σ_t √21)"),
    _define("gap_fill_corr_63", "open close", 64, "correlation",
            "correlation of ln(O_t / C_t−1) with ln(C_t / O_t) over 63 sessions"),
    _define("channel_pos_63", "high low close", 63, "0–1",
            "(C − lowest L) / (highest H − lowest L) of 63 sessions",
            "Donchian channel"),
)  # fmt: skip


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    out: dict[str, np.ndarray] = {}
    n, now, sigma = bars.n_out, bars.asked(bars.close), bars.asked(bars.sigma)
    top = {w: k.move_max(bars.close, w, newest=n) for w in CLOSE_WINDOWS}
    floor = {w: k.move_min(bars.close, w, newest=n) for w in CLOSE_WINDOWS}
    for w in CLOSE_WINDOWS:
        out[f"range_close_pos_{w}"] = k.ratio(now - floor[w], top[w] - floor[w])
    for w in (63, 252):
        out[f"range_drawdown_{w}"] = k.log(k.ratio(now, top[w]))
    out["range_runup_252"] = k.log(k.ratio(now, floor[252]))
    out["range_high_age_252"] = k.move_argmax(bars.close, 252, newest=n) / 251.0
    out["range_low_age_252"] = k.move_argmin(bars.close, 252, newest=n) / 251.0
    bottom, ceiling = k.move_min(bars.low, 63, newest=n), k.move_max(bars.high, 63, newest=n)
    out["range_channel_pos_63"] = k.ratio(now - bottom, ceiling - bottom)
    return out | _within_the_day(bars) | _overnight(bars, sigma)


def _within_the_day(bars: OwnSessions) -> dict[str, np.ndarray]:
    n = bars.n_out
    open_, high, low, close = (
        k.recent(price, n + 62) for price in (bars.open, bars.high, bars.low, bars.close)
    )
    spread, intraday = k.log(k.ratio(high, low)), k.log(k.ratio(close, open_))
    place = k.ratio(2.0 * close - high - low, high - low)
    total = k.move_sum(spread, 21, newest=n)
    # upper minus lower shadow, in logs
    shadows = k.log(k.ratio(high, np.maximum(open_, close)))
    shadows = shadows - k.log(k.ratio(np.minimum(open_, close), low))
    return {
        "range_hl_norm": k.ratio(bars.asked(spread), bars.asked(bars.sigma)),
        "range_hl_ratio_5_63": k.log_mean_ratio(spread, 5, 63, n),
        "range_close_loc_1": bars.asked(place),
        "range_close_loc_21": k.move_mean(place, 21, newest=n),
        "range_body_1": bars.asked(k.ratio(close - open_, high - low)),
        "range_body_21": k.ratio(k.move_sum(intraday, 21, newest=n), total),
        "range_wick_skew_21": k.ratio(k.move_sum(shadows, 21, newest=n), total),
    }


def _overnight(bars: OwnSessions, sigma: np.ndarray) -> dict[str, np.ndarray]:
    n, month = bars.n_out, sigma * 21**0.5
    open_, close = k.recent(bars.open, n + 62), k.recent(bars.close, n + 62)
    gap = k.log(k.ratio(open_, k.lag(bars.close, 1, n + 62)))
    intraday = k.log(k.ratio(close, open_))
    squares = [k.move_sum(move**2, 63, newest=n) for move in (gap, intraday)]
    return {
        "range_gap_1": k.ratio(bars.asked(gap), sigma),
        "range_gap_share_63": k.ratio(squares[0], squares[0] + squares[1]),
        "range_gap_sum_21": k.ratio(k.move_sum(gap, 21, newest=n), month),
        "range_intraday_sum_21": k.ratio(k.move_sum(intraday, 21, newest=n), month),
        "range_gap_fill_corr_63": k.move_corr(gap, intraday, 63, newest=n),
    }


GROUP = FeatureGroup(
    name="range",
    title="Ranges and gaps",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
