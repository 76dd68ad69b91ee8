"""Volatility: estimators from closes and from ranges, their ratios, shape and memory."""

import numpy as np

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import SIGMA_LOOKBACK, OwnSessions

CLOSE_WINDOWS = (5, 21, 63, 126, 252)
RANGE_WINDOWS = (21, 63)
RATIOS = ((5, 21), (21, 63), (21, 252))
OF_VOL_WINDOWS = (63, 252)
DOWN_WINDOWS = (63, 252)

_define = definer("vol")
_BARS = "open high low close"

FEATURES = (
    *(
        _define(
            f"cc_{w}", "close", w + 1, "per day",
            f"deviation of the last {w} daily log returns",
        )
        for w in CLOSE_WINDOWS
    ),
    _define(
        "ewm_20", "close", SIGMA_LOOKBACK, "per day",
        "σ_t with span 20 instead of 60",
    ),
    _define(
        "ewm_60", "close", SIGMA_LOOKBACK, "per day",
        "σ_t: unbiased exponentially weighted deviation (span 60) of the last 252 simple returns",
        "X-Trend (arXiv 2310.10500v2) §3",
    ),
    *(
        _define(
            f"park_{w}", "high low", w, "per day",
            f"√(mean of ln(H/L)² over {w} sessions / (4 ln 2))", "Parkinson 1980",
        )
        for w in RANGE_WINDOWS
    ),
    *(
        _define(
            f"gk_{w}", _BARS, w, "per day",
            f"√ of the mean over {w} sessions of ½ ln(H/L)² − (2 ln 2 − 1) ln(C/O)²",
            "Garman & Klass 1980",
        )
        for w in RANGE_WINDOWS
    ),
    *(
        _define(
            f"rs_{w}", _BARS, w, "per day",
            f"√ of the mean over {w} sessions of ln(H/O) ln(H/C) + ln(L/O) ln(L/C)",
            "Rogers & Satchell 1991",
        )
        for w in RANGE_WINDOWS
    ),
    *(
        _define(
            f"yz_{w}", _BARS, w + 1, "per day",
            f"√(v_o + k v_c + (1 − k) rs²) over n = {w} sessions: v_o, v_c sample variances "
            f"(n − 1) of ln(O_t/C_t−1) and ln(C/O), rs as vol_rs_{w}, "
            "k = 0.34 / (1.34 + (n + 1)/(n − 1))",
            "Yang & Zhang 2000",
        )
        for w in RANGE_WINDOWS
    ),
    *(
        _define(
            f"ratio_{s}_{w}", "close", w + 1, "log ratio",
            f"ln(vol_cc_{s} / vol_cc_{w})",
        )
        for s, w in RATIOS
    ),
    *(
        _define(
            f"of_vol_{w}", "close", w + 21, "log units",
            f"deviation over {w} sessions of ln(vol_cc_21)",
        )
        for w in OF_VOL_WINDOWS
    ),
    _define(
        "z_21_252", "close", 273, "standard deviations",
        "z-score over 252 sessions of ln(vol_cc_21)",
    ),
    _define(
        "rank_21_252", "close", 273, "rank in [-1, 1]",
        "rank of vol_cc_21 among its last 252 values, −1 lowest, 1 highest, ties at their mean",
    ),
    *(
        _define(
            f"down_share_{w}", "close", w + 1, "share",
            f"Σ r² over the r < 0 / Σ r², the last {w} daily log returns",
        )
        for w in DOWN_WINDOWS
    ),
    _define(
        "jump_share_63", "close", 65, "share",
        "1 − (π/2) mean of |r_t||r_t−1| / mean of r_t², over 63 sessions",
        "Barndorff-Nielsen & Shephard 2004",
    ),
    _define(
        "leverage_252", "close", 254, "correlation",
        "correlation of r_t−1 with |r_t| over the pairs of the last 252 sessions",
    ),
    _define(
        "cluster_252", "close", 254, "correlation",
        "correlation of |r_t−1| with |r_t| over the pairs of the last 252 sessions",
    ),
    _define(
        "park_cc_21", "high low close", 22, "log ratio",
        "ln(vol_park_21 / vol_cc_21)",
    ),
)  # fmt: skip


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    out: dict[str, np.ndarray] = {}
    ret, n = bars.log_ret, bars.n_out
    close_vol = {w: k.move_std(ret, w, newest=n) for w in CLOSE_WINDOWS}
    for w in CLOSE_WINDOWS:
        out[f"vol_cc_{w}"] = close_vol[w]
    out["vol_ewm_20"] = k.ewm_std_daily(bars.ret, span=20, newest=n)
    out["vol_ewm_60"] = bars.asked(bars.sigma)
    out |= _range_estimators(bars)
    for s, w in RATIOS:
        out[f"vol_ratio_{s}_{w}"] = k.log(k.ratio(close_vol[s], close_vol[w]))
    log_vol = k.log(k.move_std(ret, 21, newest=n + 251))
    for w in OF_VOL_WINDOWS:
        out[f"vol_of_vol_{w}"] = k.move_std(log_vol, w, newest=n)
    out["vol_z_21_252"] = k.move_zscore(log_vol, 252, newest=n)
    # rounded: equal volatilities must tie whatever their last bit is
    out["vol_rank_21_252"] = k.move_rank(np.round(log_vol, 9), 252, newest=n)
    squared = ret**2
    falls = np.where(ret < 0.0, squared, 0.0 * squared)
    for w in DOWN_WINDOWS:
        lost = k.move_sum(falls, w, newest=n)
        out[f"vol_down_share_{w}"] = k.ratio(lost, k.move_sum(squared, w, newest=n))
    size = np.abs(ret)
    bipower = np.pi / 2.0 * k.move_mean(size * k.lag(size), 63, newest=n)
    out["vol_jump_share_63"] = 1.0 - k.ratio(bipower, k.move_mean(squared, 63, newest=n))
    out["vol_leverage_252"] = k.move_corr(k.lag(ret), size, 252, newest=n)
    out["vol_cluster_252"] = k.move_corr(k.lag(size), size, 252, newest=n)
    out["vol_park_cc_21"] = k.log(k.ratio(out["vol_park_21"], close_vol[21]))
    return out


def _range_estimators(bars: OwnSessions) -> dict[str, np.ndarray]:
    n, reach = bars.n_out, bars.n_out + max(RANGE_WINDOWS) - 1
    open_, high, low, close = (
        k.recent(price, reach) for price in (bars.open, bars.high, bars.low, bars.close)
    )
    high_open, low_open = k.log(k.ratio(high, open_)), k.log(k.ratio(low, open_))
    close_open = k.log(k.ratio(close, open_))
    overnight = k.log(k.ratio(open_, k.lag(bars.close, 1, reach)))
    range_sq = k.log(k.ratio(high, low)) ** 2
    klass = 0.5 * range_sq - (2.0 * np.log(2.0) - 1.0) * close_open**2
    satchell = high_open * (high_open - close_open) + low_open * (low_open - close_open)
    out: dict[str, np.ndarray] = {}
    for w in RANGE_WINDOWS:
        out[f"vol_park_{w}"] = np.sqrt(k.move_mean(range_sq, w, newest=n) / (4.0 * np.log(2.0)))
        out[f"vol_gk_{w}"] = _root(k.move_mean(klass, w, newest=n))
        rogers = k.move_mean(satchell, w, newest=n)
        out[f"vol_rs_{w}"] = _root(rogers)
        share = 0.34 / (1.34 + (w + 1.0) / (w - 1.0))
        sample = w / (w - 1.0)
        variance = (
            sample * k.move_var(overnight, w, newest=n)
            + share * sample * k.move_var(close_open, w, newest=n)
            + (1.0 - share) * rogers
        )
        out[f"vol_yz_{w}"] = _root(variance)
    return out


def _root(variance: np.ndarray) -> np.ndarray:
    """Square root; a bar whose close lies outside its range can make an estimate negative."""
    return np.sqrt(np.where(variance >= 0.0, variance, np.nan))


GROUP = FeatureGroup(
    name="vol",
    title="Volatility estimators",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
