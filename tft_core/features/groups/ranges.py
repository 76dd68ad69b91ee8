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
    close = bars.close
    top = {w: k.move_max(close, w) for w in CLOSE_WINDOWS}
    floor = {w: k.move_min(close, w) for w in CLOSE_WINDOWS}
    for w in CLOSE_WINDOWS:
        out[f"range_close_pos_{w}"] = k.ratio(close - floor[w], top[w] - floor[w])
    for w in (63, 252):
        out[f"range_drawdown_{w}"] = k.log(k.ratio(close, top[w]))
    out["range_runup_252"] = k.log(k.ratio(close, floor[252]))
    out["range_high_age_252"] = k.move_argmax(close, 252) / 251.0
    out["range_low_age_252"] = k.move_argmin(close, 252) / 251.0
    high, low, open_, last = (
        bars.relative_log(price) for price in (bars.high, bars.low, bars.open, bars.close)
    )
    spread = k.log(k.ratio(bars.high, bars.low))
    out["range_hl_norm"] = k.ratio(spread, bars.sigma)
    out["range_hl_ratio_5_63"] = k.log(k.ratio(k.move_mean(spread, 5), k.move_mean(spread, 63)))
    place = k.ratio(2.0 * close - bars.high - bars.low, bars.high - bars.low)
    out["range_close_loc_1"] = place
    out["range_close_loc_21"] = k.move_mean(place, 21)
    out["range_body_1"] = k.ratio(close - bars.open, bars.high - bars.low)
    intraday = k.log(k.ratio(close, bars.open))
    total = k.move_sum(spread, 21)
    out["range_body_21"] = k.ratio(k.move_sum(intraday, 21), total)
    shadows = (high - np.maximum(open_, last)) - (np.minimum(open_, last) - low)
    out["range_wick_skew_21"] = k.ratio(k.move_sum(shadows, 21), total)
    gap = k.log(k.ratio(bars.open, k.lag(close)))
    out["range_gap_1"] = k.ratio(gap, bars.sigma)
    overnight, within = k.move_sum(gap**2, 63), k.move_sum(intraday**2, 63)
    out["range_gap_share_63"] = k.ratio(overnight, overnight + within)
    month = bars.sigma * 21**0.5
    out["range_gap_sum_21"] = k.ratio(k.move_sum(gap, 21), month)
    out["range_intraday_sum_21"] = k.ratio(k.move_sum(intraday, 21), month)
    out["range_gap_fill_corr_63"] = k.move_corr(gap, intraday, 63)
    bottom, ceiling = k.move_min(bars.low, 63), k.move_max(bars.high, 63)
    out["range_channel_pos_63"] = k.ratio(close - bottom, ceiling - bottom)
    return out


GROUP = FeatureGroup(
    name="range",
    title="Ranges and gaps",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
