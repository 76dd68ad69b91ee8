"""Volume and liquidity: turnover, price impact, money flow, implied spreads."""

import numpy as np

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import SIGMA_LOOKBACK, OwnSessions, log_level

_define = definer("liq")
_CV = "close volume"

FEATURES = (
    *(
        _define(f"volume_z_{w}", "volume", w, "standard deviations",
                f"z-score of ln V over {w} sessions")
        for w in (21, 63, 252)
    ),
    _define("volume_ratio_5_63", "volume", 63, "log ratio",
            "ln(mean of V over 5 / over 63 sessions)"),
    _define("volume_trend_63", "volume", 63, "t statistic",
            "least-squares slope of ln V on the session number over 63 sessions / its standard "
            "error"),
    _define("amihud_5_63", _CV, 64, "log ratio",
            "ln(mean of a over 5 / over 63 sessions): a = |r| / (C V)", "Amihud 2002"),
    _define("amihud_21_252", _CV, 253, "log ratio",
            "ln(mean of a over 21 / over 252 sessions): a = |r| / (C V)", "Amihud 2002"),
    _define("amihud_z_252", _CV, 273, "standard deviations",
            "z-score over 252 sessions of ln(mean of |r| / (C V) over 21 sessions)",
            "Amihud 2002"),
    _define("volume_vol_21", "volume", 22, "log units",
            "deviation of ln(V_t / V_t−1) over 21 sessions"),
    *(
        _define(f"obv_{w}", _CV, w + 1, "ratio in [-1, 1]",
                f"Σ sign(r) V / Σ V over {w} sessions",
                "Granville 1963, on-balance volume, normalised")
        for w in (21, 63)
    ),
    _define("ret_volume_corr_63", _CV, 64, "correlation",
            "correlation of r with ln(V_t / V_t−1) over 63 sessions"),
    _define("absret_volume_corr_63", _CV, 64, "correlation",
            "correlation of |r| with ln V over 63 sessions"),
    _define("cmf_20", "high low close volume", 20, "ratio in [-1, 1]",
            "Σ V (2C − H − L) / (H − L) / Σ V over 20 sessions", "Chaikin"),
    _define("force_21", _CV, 22, "ratio in [-1, 1]",
            "Σ r V / Σ |r| V over 21 sessions", "Elder 1993"),
    *(
        _define(f"vwap_gap_{w}", _CV, SIGMA_LOOKBACK, "daily volatilities",
                f"ln(C / (Σ C V / Σ V over {w} sessions)) / σ_t")
        for w in (21, 63)
    ),
    _define("zero_share_63", "close", 64, "share",
            "share of the last 63 sessions with r = 0", "Lesmond, Ogden & Trzcinka 1999"),
    _define("roll_spread_63", "close", 65, "daily volatilities",
            "2 √max(−cov(r_t, r_t−1), 0) over 63 sessions / deviation of r", "Roll 1984"),
    _define("hl_spread_21", "high low close", 22, "ratio",
            "mean over 21 sessions of max(2(e^α − 1)/(1 + e^α), 0): α = (√(2β) − √β)/k − √(γ/k), "
            "k = 3 − 2√2, β = ln(H/L)² of both last sessions, γ = squared log range of the two "
            "together; today's H and L first divided by L/C_t−1 if L > C_t−1, by H/C_t−1 if "
            "H < C_t−1",
            "Corwin & Schultz 2012"),
)  # fmt: skip


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    out: dict[str, np.ndarray] = {}
    volume, log_volume, ret = bars.volume, bars.log_volume, bars.log_ret
    n, sigma = bars.n_out, bars.asked(bars.sigma)
    for w in (21, 63, 252):
        out[f"liq_volume_z_{w}"] = k.move_zscore(log_volume, w, newest=n)
    out["liq_volume_ratio_5_63"] = k.log_mean_ratio(volume, 5, 63, n)
    out["liq_volume_trend_63"] = k.trend_t(log_volume, 63, n)
    impact = k.ratio(np.abs(ret), bars.close * volume)
    out["liq_amihud_5_63"] = k.log_mean_ratio(impact, 5, 63, n)
    out["liq_amihud_21_252"] = k.log_mean_ratio(impact, 21, 252, n)
    illiquid = log_level(k.move_mean(impact, 21, newest=n + 251))
    out["liq_amihud_z_252"] = k.move_zscore(illiquid, 252, newest=n)
    change = k.diff(log_volume)
    out["liq_volume_vol_21"] = k.move_std(change, 21, newest=n)
    signed = np.sign(ret) * volume
    for w in (21, 63):
        traded = k.move_sum(np.where(np.isnan(signed), np.nan, volume), w, newest=n)
        out[f"liq_obv_{w}"] = k.ratio(k.move_sum(signed, w, newest=n), traded)
    out["liq_ret_volume_corr_63"] = k.move_corr(ret, change, 63, newest=n)
    out["liq_absret_volume_corr_63"] = k.move_corr(np.abs(ret), log_volume, 63, newest=n)
    close, high, low, traded = (
        k.recent(values, n + 19) for values in (bars.close, bars.high, bars.low, volume)
    )
    flow = k.ratio(2.0 * close - high - low, high - low) * traded
    traded = k.move_sum(np.where(np.isnan(flow), np.nan, traded), 20, newest=n)
    out["liq_cmf_20"] = k.ratio(k.move_sum(flow, 20, newest=n), traded)
    force = k.recent(ret * volume, n + 20)
    size = k.move_sum(np.abs(force), 21, newest=n)
    out["liq_force_21"] = k.ratio(k.move_sum(force, 21, newest=n), size)
    value = bars.close * volume
    for w in (21, 63):
        mean_price = k.ratio(k.move_sum(value, w, newest=n), k.move_sum(volume, w, newest=n))
        gap = k.log(k.ratio(bars.asked(bars.close), mean_price))
        out[f"liq_vwap_gap_{w}"] = k.ratio(gap, sigma)
    unchanged = np.where(np.isnan(ret), np.nan, ret == 0.0)
    out["liq_zero_share_63"] = k.move_mean(unchanged, 63, newest=n)
    bounce = k.move_cov(ret, k.lag(ret), 63, newest=n)
    bounce = np.where(np.isnan(bounce), np.nan, np.maximum(-bounce, 0.0))
    out["liq_roll_spread_63"] = k.ratio(2.0 * np.sqrt(bounce), k.move_std(ret, 63, newest=n))
    out["liq_hl_spread_21"] = k.move_mean(_high_low_spread(bars, n + 20), 21, newest=n)
    return out


def _high_low_spread(bars: OwnSessions, newest: int) -> np.ndarray:
    high, low = (k.recent(price, newest) for price in (bars.high, bars.low))
    # an overnight gap moves yesterday's range to where today's begins
    before = k.lag(bars.close, 1, newest)
    gap = np.where(low > before, k.ratio(low, before), 1.0)
    gap = np.where(high < before, k.ratio(high, before), gap)
    log_high, log_low = k.log(k.ratio(high, gap)), k.log(k.ratio(low, gap))
    old_high, old_low = k.log(k.lag(bars.high, 1, newest)), k.log(k.lag(bars.low, 1, newest))
    beta = (log_high - log_low) ** 2 + (old_high - old_low) ** 2
    gamma = (np.maximum(log_high, old_high) - np.minimum(log_low, old_low)) ** 2
    root = 3.0 - 2.0 * np.sqrt(2.0)
    alpha = (np.sqrt(2.0 * beta) - np.sqrt(beta)) / root - np.sqrt(gamma / root)
    spread = 2.0 * np.tanh(alpha / 2.0)
    return np.where(np.isnan(spread), np.nan, np.maximum(spread, 0.0))


GROUP = FeatureGroup(
    name="liq",
    title="Volume and liquidity",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
