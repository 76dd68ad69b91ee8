"""Features as a competent researcher writes them in plain pandas: the rival of benchmarks.features.

One function per feature of the catalogue, three or so of each group, on long bars sorted by
symbol and date without gaps. Vectorised by groupby and rolling wherever pandas can; where it
can't, ``rolling.apply(raw=True)`` with the cheapest NumPy that gives the number.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

Column = Callable[["Bars"], pd.Series]


class Bars:
    """Long bars indexed by (symbol, date), and the columns that several features share."""

    def __init__(self, bars: pd.DataFrame) -> None:
        frame = bars.set_index(["symbol", "date"]).sort_index()
        self.open, self.high, self.low, self.close = (
            frame[name] for name in ("open", "high", "low", "close")
        )
        self.volume, self.open_interest = frame["volume"], frame["open_interest"]
        self.log = np.log(self.close)
        self.r = self.log.groupby(level=0).diff()
        returns = self.close.groupby(level=0).pct_change()
        self.sigma = _rolling(returns, 252, min_periods=21).apply(_ewm_std, raw=True)
        self.sigma = self.sigma.droplevel(0)
        self.z = (self.r / lag(self.sigma, 1)).clip(-10, 10)


def lag(x: pd.Series, n: int) -> pd.Series:
    return x.groupby(level=0).shift(n)


def diff(x: pd.Series, n: int = 1) -> pd.Series:
    return x.groupby(level=0).diff(n)


def _rolling(x: pd.Series, w: int, min_periods: int | None = None):
    return x.groupby(level=0).rolling(w, min_periods=min_periods or math.ceil(0.8 * w))


def mean(x: pd.Series, w: int) -> pd.Series:
    return _rolling(x, w).mean().droplevel(0)


def total(x: pd.Series, w: int) -> pd.Series:
    return _rolling(x, w).sum().droplevel(0)


def std(x: pd.Series, w: int) -> pd.Series:
    return _rolling(x, w).std(ddof=0).droplevel(0)


def top(x: pd.Series, w: int) -> pd.Series:
    return _rolling(x, w).max().droplevel(0)


def floor(x: pd.Series, w: int) -> pd.Series:
    return _rolling(x, w).min().droplevel(0)


def apply(x: pd.Series, w: int, statistic: Callable[[np.ndarray], float]) -> pd.Series:
    return _rolling(x, w, w).apply(statistic, raw=True).droplevel(0)


def corr(x: pd.Series, y: pd.Series, w: int) -> pd.Series:
    both = pd.DataFrame({"x": x, "y": y})
    parts = [
        part["x"].rolling(w, min_periods=math.ceil(0.8 * w)).corr(part["y"])
        for _, part in both.groupby(level=0)
    ]
    return pd.concat(parts)


def zscore(x: pd.Series, w: int) -> pd.Series:
    return (x - mean(x, w)) / std(x, w)


def dot(x: pd.Series, weights: np.ndarray) -> pd.Series:
    oldest_first = np.ascontiguousarray(weights[::-1])
    return apply(x, len(weights), lambda v: v @ oldest_first)


def ewm(x: pd.Series, alpha: float, length: int = 252) -> pd.Series:
    weights = (1 - alpha) ** np.arange(length)
    return dot(x, weights / weights.sum())


def _ewm_std(v: np.ndarray) -> float:
    v = v[~np.isnan(v)]
    w = (59 / 61) ** np.arange(len(v))[::-1]
    m = (w * v).sum() / w.sum()
    return math.sqrt((w * (v - m) ** 2).sum() / (w.sum() - (w * w).sum() / w.sum()))


def _true_range(b: Bars) -> pd.Series:
    before = lag(b.close, 1)
    return np.maximum(b.high, before) - np.minimum(b.low, before)


def _parkinson(b: Bars) -> pd.Series:
    return np.sqrt(mean(np.log(b.high / b.low) ** 2, 21) / (4 * math.log(2)))


def _yang_zhang(b: Bars) -> pd.Series:
    n, k = 21, 0.34 / (1.34 + 22 / 20)
    high, low, close = np.log(b.high / b.open), np.log(b.low / b.open), np.log(b.close / b.open)
    gap = np.log(b.open / lag(b.close, 1))
    rogers = mean(high * (high - close) + low * (low - close), n)
    scale = n / (n - 1)
    return np.sqrt(scale * std(gap, n) ** 2 + k * scale * std(close, n) ** 2 + (1 - k) * rogers)


def _macd(b: Bars) -> pd.Series:
    signal = (ewm(b.close, 1 / 8) - ewm(b.close, 1 / 24)) / std(b.close, 60)
    return signal / std(signal, 252)


def _rsi(b: Bars) -> pd.Series:
    change = diff(b.close)
    up, down = ewm(change.clip(lower=0), 1 / 14), ewm(-change.clip(upper=0), 1 / 14)
    return 100 * up / (up + down)


def _cci(b: Bars) -> pd.Series:
    p = (b.high + b.low + b.close) / 3
    return (p - mean(p, 20)) / (0.015 * apply(p, 20, lambda v: np.abs(v - v.mean()).mean()))


def _mfi(b: Bars) -> pd.Series:
    p = (b.high + b.low + b.close) / 3
    up = total((p * b.volume).where(diff(p) > 0, 0), 14)
    down = total((p * b.volume).where(diff(p) < 0, 0), 14)
    return 100 * up / (up + down)


def _slope_t(v: np.ndarray) -> float:
    x = np.arange(len(v)) - (len(v) - 1) / 2
    slope = x @ v / (x @ x)
    residual = v - v.mean() - slope * x
    return slope / math.sqrt(residual @ residual / (len(v) - 2) / (x @ x))


def _hurst(v: np.ndarray) -> float:
    lags = np.array([1, 2, 4, 8, 16, 32])
    x = np.log(lags) - np.log(lags).mean()
    return x @ np.log([(v[q:] - v[:-q]).std() for q in lags]) / (x @ x)


def _hill(v: np.ndarray) -> float:
    losses = -np.partition(v, 12)[:13]
    return np.log(losses / losses.min()).sum() / 12 if losses.min() > 0 else math.nan


def _entropy(b: Bars) -> pd.Series:
    one, two, three = lag(b.close, 2), lag(b.close, 1), b.close
    code = 4 * (one < two) + 2 * (two < three) + (one < three)
    out = 0.0
    for number in (0, 2, 3, 4, 5, 7):
        share = mean((code == number).astype(float).where(one.notna()), 63)
        out = out - (share * np.log(share.where(share > 0))).fillna(0)
    return out / math.log(6)


def _break_score(z: np.ndarray) -> float:
    n, centred = len(z), z - z.mean()
    sums, after = np.cumsum(centred[::-1]), np.arange(6, 58, 3)
    return (sums[after - 1] ** 2 * n / (after * (n - after))).max() / (centred @ centred)


def _cusum(v: np.ndarray) -> float:
    path = np.concatenate([[0.0], np.cumsum(v)])
    return (path[-1] - path.min()) / math.sqrt(len(v))


def _fractional(b: Bars) -> pd.Series:
    lags = np.arange(1, 252)
    weights = np.concatenate([[1.0], np.cumprod((lags - 1.4) / lags)])
    weights[-1] -= weights.sum()
    return dot(b.log, weights) / b.sigma


def _band_power(z: np.ndarray) -> float:
    power = np.abs(np.fft.rfft((z - z.mean()) * np.hanning(128)[1:-1])[1:]) ** 2
    return power[3:6].sum() / power.sum()


def _by_date(x: pd.Series):
    return x.groupby(level="date")


def _rank(b: Bars) -> pd.Series:
    by_date = _by_date(diff(b.log, 63))
    return (by_date.rank() - 1) / (by_date.transform("count") - 1) * 2 - 1


def _breadth(b: Bars) -> pd.Series:
    share = (
        (b.r > 0).astype(float).where(b.r.notna()).groupby(level="date").mean().rolling(5).mean()
    )
    return share.reindex(b.r.index.get_level_values("date")).set_axis(b.r.index)


def _top_share(b: Bars) -> pd.Series:
    z = b.z.unstack(level=0)
    n = z.shape[1]
    share = pd.Series(np.nan, z.index)
    for end in range(63, len(z) + 1):
        window = z.to_numpy()[end - 63 : end]
        if not np.isnan(window).any():
            share.iloc[end - 1] = np.linalg.eigvalsh(np.corrcoef(window.T))[-1] / n
    return share.reindex(b.r.index.get_level_values("date")).set_axis(b.r.index)


def _market_beta(b: Bars) -> pd.Series:
    market = _by_date(b.z).transform("mean")
    return corr(b.z, market, 63) * std(b.z, 63) / std(market, 63)


ROLLING: dict[str, Column] = {
    "ret_21": lambda b: diff(b.log, 21),
    "ret_sharpe_63": lambda b: mean(b.r, 63) / std(b.r, 63),
    "ret_up_share_252": lambda b: mean((b.r > 0).astype(float).where(b.r.notna()), 252),
    "ret_efficiency_63": lambda b: diff(b.log, 63) / total(b.r.abs(), 63),
    "paper_norm_ret_21": lambda b: b.close.groupby(level=0).pct_change(21) / b.sigma / 21**0.5,
    "vol_cc_63": lambda b: std(b.r, 63),
    "vol_park_21": _parkinson,
    "vol_yz_21": _yang_zhang,
    "vol_of_vol_252": lambda b: std(np.log(std(b.r, 21)), 252),
    "vol_jump_share_63": lambda b: (
        1 - math.pi / 2 * mean((b.r * lag(b.r, 1)).abs(), 63) / mean(b.r**2, 63)
    ),
    "vol_leverage_252": lambda b: corr(lag(b.r, 1), b.r.abs(), 252),
    "ta_bb_pctb_20": lambda b: (b.close - mean(b.close, 20)) / (4 * std(b.close, 20)) + 0.5,
    "ta_sma_gap_50": lambda b: np.log(b.close / mean(b.close, 50)) / b.sigma,
    "ta_willr_14": lambda b: (
        -100 * (top(b.high, 14) - b.close) / (top(b.high, 14) - floor(b.low, 14))
    ),
    "ta_mfi_14": _mfi,
    "dist_skew_63": lambda b: _rolling(b.r, 63).skew().droplevel(0) * 61 / math.sqrt(63 * 62),
    "dist_q05_252": lambda b: _rolling(b.r, 252).quantile(0.05).droplevel(0) / std(b.r, 252),
    "dist_autocorr_1_63": lambda b: corr(b.r, lag(b.r, 1), 63),
    "dist_var_ratio_5_126": lambda b: np.log(
        std(diff(b.log, 5), 126) ** 2 / (5 * std(b.r, 126) ** 2)
    ),
    "dist_entropy_63": _entropy,
    "liq_volume_z_63": lambda b: zscore(np.log(b.volume), 63),
    "liq_amihud_21_252": lambda b: np.log(
        mean(b.r.abs() / (b.close * b.volume), 21) / mean(b.r.abs() / (b.close * b.volume), 252)
    ),
    "liq_obv_21": lambda b: total(np.sign(b.r) * b.volume, 21) / total(b.volume, 21),
    "oi_z_63": lambda b: zscore(np.log(b.open_interest), 63),
    "oi_price_corr_63": lambda b: corr(b.r, diff(np.log(b.open_interest)), 63),
    "range_close_pos_63": lambda b: (
        (b.close - floor(b.close, 63)) / (top(b.close, 63) - floor(b.close, 63))
    ),
    "range_drawdown_252": lambda b: np.log(b.close / top(b.close, 252)),
    "xs_rank_ret_63": _rank,
    "xs_adv_share_5": _breadth,
    "xs_dispersion_21": lambda b: _by_date(diff(b.log, 21) / b.sigma / 21**0.5).transform(
        lambda v: v.std(ddof=0)
    ),
    "rmt_mkt_beta_63": _market_beta,
}
"""Features that groupby and rolling express."""

APPLIED: dict[str, Column] = {
    "ret_trend_t_63": lambda b: apply(b.log, 63, _slope_t),
    "paper_macd_8_24": _macd,
    "vol_ewm_60": lambda b: (
        _rolling(b.close.groupby(level=0).pct_change(), 252, 21)
        .apply(_ewm_std, raw=True)
        .droplevel(0)
    ),
    "ta_rsi_14": _rsi,
    "ta_cci_20": _cci,
    "ta_natr_14": lambda b: ewm(_true_range(b), 1 / 14) / b.close,
    "ta_aroon_25": lambda b: (
        100
        / 25
        * (apply(b.high, 26, lambda v: v.argmax()) - apply(b.low, 26, lambda v: v.argmin()))
    ),
    "dist_cvar05_252": lambda b: (
        apply(b.r, 252, lambda v: np.partition(v, 12)[:12].mean()) / std(b.r, 252)
    ),
    "dist_hill_left_252": lambda b: apply(b.r, 252, _hill),
    "dist_hurst_252": lambda b: apply(b.log, 252, _hurst),
    "liq_volume_trend_63": lambda b: apply(np.log(b.volume), 63, _slope_t),
    "range_high_age_252": lambda b: apply(b.close, 252, lambda v: (251 - v.argmax()) / 251),
    "cpd_mean_score_63": lambda b: apply(b.z, 63, _break_score),
    "cpd_cusum_up_63": lambda b: apply(b.z, 63, _cusum),
    "frac_price_d40": _fractional,
    "cyc_power_21_31": lambda b: apply(b.z, 126, _band_power),
    "rmt_top_share_63": _top_share,
}
"""Features that need a function of each window."""
