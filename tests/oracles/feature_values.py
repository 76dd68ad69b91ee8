"""Slow, obvious values of an asset's own features at its newest bar.

Written from the definitions of ``docs/features.md`` with pandas, NumPy, SciPy and TA-Lib on
plain arrays of one asset without gaps; nothing here imports the code under test. Features of
the market and of exogenous series are in ``feature_values_market.py``.
"""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import scipy.signal
import scipy.stats
import talib

YEAR = 252


class Asset:
    """Bars of one asset as plain arrays, oldest first, and what many features need."""

    def __init__(self, bars: pd.DataFrame) -> None:
        self.dates = pd.DatetimeIndex(bars["date"])
        self.o, self.h, self.lo, self.c, self.v, self.oi = (
            bars[name].to_numpy(dtype=float)
            for name in ("open", "high", "low", "close", "volume", "open_interest")
        )
        self.r = np.log(self.c[1:] / self.c[:-1])
        self.sigma = sigma_at(self.c, len(self.c) - 1)

    def scaled_returns(self, n: int) -> np.ndarray:
        return scaled_returns(self.c, n)


def own_values(bars: pd.DataFrame) -> dict[str, float]:
    """Features of the newest session from one asset's bars, oldest first."""
    asset = Asset(bars)
    values: dict[str, float] = {}
    for group in (_returns, _paper, _volatility, _moving_averages, _oscillators, _true_range,
                  _shape, _memory, _liquidity, _open_interest, _ranges, _change_points,
                  _fractional, _cycles, _calendar):  # fmt: skip
        part = group(asset)
        assert not values.keys() & part.keys()
        values |= part
    return {name: float(value) for name, value in values.items()}


def sigma_at(close: np.ndarray, end: int, span: int = 60) -> float:
    """EW deviation of the 252 simple returns up to row ``end``, as pandas defines it."""
    returns = pd.Series(close[max(end - YEAR, 0) : end + 1]).pct_change().iloc[1:]
    return float(returns.ewm(span=span).std().iloc[-1])


def scaled_returns(close: np.ndarray, n: int) -> np.ndarray:
    """The last n log returns, each over the σ known one session before, clipped at ±10."""
    return np.array(
        [
            np.clip(math.log(close[t] / close[t - 1]) / sigma_at(close, t - 1), -10, 10)
            for t in range(len(close) - n, len(close))
        ]
    )


def z_score(window: np.ndarray) -> float:
    return (window[-1] - window.mean()) / window.std()


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    return np.corrcoef(left, right)[0, 1]


def _truncated_mean(values: np.ndarray, alpha: float, length: int = YEAR) -> float:
    """Exponential mean by an explicit sum over the newest ``length`` values."""
    newest = values[::-1][:length]
    weights = np.array([(1 - alpha) ** lag for lag in range(len(newest))])
    return float((weights * newest).sum() / weights.sum())


def _ema(values: np.ndarray, span: int, length: int = YEAR) -> float:
    return _truncated_mean(values, 2 / (span + 1), length)


def _path(statistic, values: np.ndarray, n: int) -> np.ndarray:
    """A statistic of everything up to each of the last n places."""
    end = len(values)
    return np.array([statistic(values[:stop]) for stop in range(end - n + 1, end + 1)])


def _t_statistic(values: np.ndarray) -> float:
    line = scipy.stats.linregress(np.arange(len(values)), values)
    return line.slope / line.stderr


def _returns(a: Asset) -> dict[str, float]:
    c, r = a.c, a.r
    run = 0
    for sign in np.sign(r[::-1][:21]):
        if sign != np.sign(r[-1]):
            break
        run += 1
    out = {f"ret_{w}": math.log(c[-1] / c[-1 - w])
           for w in (1, 2, 5, 10, 21, 42, 63, 126, 189, 252)}  # fmt: skip
    for w, s in ((63, 5), (126, 21), (252, 21)):
        out[f"ret_skip_{w}_{s}"] = math.log(c[-1 - s] / c[-1 - w])
    for w in (21, 63, 126, 252):
        out[f"ret_sharpe_{w}"] = r[-w:].mean() / r[-w:].std()
    for w in (21, 63, 252):
        out[f"ret_up_share_{w}"] = (r[-w:] > 0).mean()
        out[f"ret_efficiency_{w}"] = r[-w:].sum() / np.abs(r[-w:]).sum()
    for s, w in ((21, 63), (63, 252)):
        out[f"ret_accel_{s}_{w}"] = (r[-s:].mean() - r[-w:].mean()) / a.sigma
    for w in (63, 252):
        out[f"ret_trend_t_{w}"] = _t_statistic(np.log(c[-w:]))
    return out | {"ret_streak": run * np.sign(r[-1])}


def _paper(a: Asset) -> dict[str, float]:
    out = {
        f"paper_norm_ret_{h}": (a.c[-1] / a.c[-1 - h] - 1) / (a.sigma * math.sqrt(h))
        for h in (1, 21, 63, 126, 252)
    }
    for short, long in ((8, 24), (16, 48), (32, 96)):
        signal = []
        for stop in range(len(a.c) - 251, len(a.c) + 1):
            window = pd.Series(a.c[stop - 252 : stop])
            half_short = math.log(0.5) / math.log(1 - 1 / short)
            half_long = math.log(0.5) / math.log(1 - 1 / long)
            spread = (
                window.ewm(halflife=half_short).mean().iloc[-1]
                - window.ewm(halflife=half_long).mean().iloc[-1]
            )
            signal.append(spread / window.iloc[-60:].std(ddof=0))
        out[f"paper_macd_{short}_{long}"] = signal[-1] / np.std(signal)
    return out


def _volatility(a: Asset) -> dict[str, float]:
    r, size = a.r, np.abs(a.r)
    o, h, lo, c = (np.log(x) for x in (a.o, a.h, a.lo, a.c))
    out = {f"vol_cc_{w}": r[-w:].std() for w in (5, 21, 63, 126, 252)}
    out["vol_ewm_60"] = a.sigma
    out["vol_ewm_20"] = sigma_at(a.c, len(a.c) - 1, span=20)
    for n in (21, 63):
        rogers = ((h - o) * (h - c) + (lo - o) * (lo - c))[-n:].mean()
        garman = (0.5 * (h - lo) ** 2 - (2 * math.log(2) - 1) * (c - o) ** 2)[-n:].mean()
        overnight, intraday = (o[1:] - c[:-1])[-n:], (c - o)[-n:]
        k = 0.34 / (1.34 + (n + 1) / (n - 1))
        yang = overnight.var(ddof=1) + k * intraday.var(ddof=1) + (1 - k) * rogers
        out[f"vol_park_{n}"] = math.sqrt(((h - lo)[-n:] ** 2).mean() / (4 * math.log(2)))
        out[f"vol_gk_{n}"], out[f"vol_rs_{n}"] = math.sqrt(garman), math.sqrt(rogers)
        out[f"vol_yz_{n}"] = math.sqrt(yang)
    out["vol_park_cc_21"] = math.log(out["vol_park_21"] / r[-21:].std())
    for s, w in ((5, 21), (21, 63), (21, 252)):
        out[f"vol_ratio_{s}_{w}"] = math.log(r[-s:].std() / r[-w:].std())
    log_vol = np.log(pd.Series(r).rolling(21).std(ddof=0).to_numpy())
    for w in (63, 252):
        out[f"vol_of_vol_{w}"] = log_vol[-w:].std()
        out[f"vol_down_share_{w}"] = (r[-w:][r[-w:] < 0] ** 2).sum() / (r[-w:] ** 2).sum()
    bipower = math.pi / 2 * (size[-63:] * size[-64:-1]).mean()
    return out | {
        "vol_z_21_252": z_score(log_vol[-252:]),
        "vol_rank_21_252": 2 * (log_vol[-252:] < log_vol[-1]).sum() / 251 - 1,
        "vol_jump_share_63": 1 - bipower / (r[-63:] ** 2).mean(),
        "vol_leverage_252": correlation(r[-253:-1], size[-252:]),
        "vol_cluster_252": correlation(size[-253:-1], size[-252:]),
    }


def _moving_averages(a: Asset) -> dict[str, float]:
    c, sigma = a.c, a.sigma
    out = {}
    for w in (20, 63):
        upper, middle, lower = talib.BBANDS(c, w, 2, 2)
        out[f"ta_bb_pctb_{w}"] = ((c - lower) / (upper - lower))[-1]
        if w == 20:
            out["ta_bb_width_20"] = ((upper - lower) / middle)[-1]
    ppo = _path(lambda x: (_ema(x, 12) - _ema(x, 26)) / _ema(x, 26), c, 63)
    out["ta_ppo_12_26"] = ppo[-1]
    out["ta_ppo_hist_9"] = ppo[-1] - _ema(ppo, 9, 63)
    once = _path(lambda x: _ema(x, 15, 126), c, 252)
    twice = _path(lambda x: _ema(x, 15, 126), once, 127)
    out["ta_trix_15"] = _ema(twice, 15, 126) / _ema(twice[:-1], 15, 126) - 1
    numerator, denominator = (
        _ema(_path(lambda y: _ema(y, 25), x, 126), 13, 126) for x in (a.r, np.abs(a.r))
    )
    out["ta_tsi_25_13"] = numerator / denominator
    mean = {n: c[-n:].mean() for n in (5, 20, 50, 100, 200)}
    for w in (20, 50, 200):
        out[f"ta_sma_gap_{w}"] = math.log(c[-1] / mean[w]) / sigma
    for s, w in ((5, 20), (20, 100), (50, 200)):
        out[f"ta_sma_cross_{s}_{w}"] = math.log(mean[s] / mean[w]) / sigma
    log_price = np.log(c)
    out["ta_linreg_slope_20"] = np.polyfit(np.arange(20), log_price[-20:], 1)[0] / sigma
    out["ta_tsf_gap_20"] = (log_price[-1] - talib.TSF(log_price, 20)[-1]) / sigma
    mid = {n: (a.h[-n:].max() + a.lo[-n:].min()) / 2 for n in (9, 26)}
    out["ta_ichimoku_9_26"] = math.log(mid[9] / mid[26]) / sigma
    return out


def _rsi(close: np.ndarray, period: int) -> float:
    change = np.diff(close)
    up = _truncated_mean(np.maximum(change, 0), 1 / period)
    return 100 * up / (up + _truncated_mean(np.maximum(-change, 0), 1 / period))


def _oscillators(a: Asset) -> dict[str, float]:
    o, h, lo, c, v = a.o, a.h, a.lo, a.c, a.v
    out = {f"ta_rsi_{p}": _rsi(c, p) for p in (7, 14, 21, 63)}
    rsi = _path(lambda x: _rsi(x, 14), c, 14)
    out["ta_stochrsi_14"] = (rsi[-1] - rsi.min()) / (rsi.max() - rsi.min())
    for w in (20, 63):
        out[f"ta_cci_{w}"] = talib.CCI(h, lo, c, w)[-1]
    for w in (14, 63):
        out[f"ta_willr_{w}"] = talib.WILLR(h, lo, c, w)[-1]
    for w in (25, 63):
        out[f"ta_aroon_{w}"] = talib.AROONOSC(h, lo, w)[-1]
    return out | {
        "ta_stoch_d_14": talib.STOCHF(h, lo, c, 14, 3)[1][-1],
        "ta_mfi_14": talib.MFI(h, lo, c, v, 14)[-1],
        "ta_ultosc": talib.ULTOSC(h, lo, c, 7, 14, 28)[-1],
        "ta_bop_14": talib.BOP(o, h, lo, c)[-14:].mean(),
    }


def _true_range(a: Asset) -> dict[str, float]:
    h, lo, c = a.h, a.lo, a.c
    true_range = np.maximum(h[1:], c[:-1]) - np.minimum(lo[1:], c[:-1])
    atr = _truncated_mean(true_range, 1 / 14)
    rise, fall = np.diff(h), -np.diff(lo)
    plus, minus = (
        _path(lambda x: _truncated_mean(x, 1 / 14), move, 252)
        for move in (
            np.where((rise > fall) & (rise > 0), rise, 0),
            np.where((fall > rise) & (fall > 0), fall, 0),
        )
    )
    direction = (plus - minus) / (plus + minus)
    vortex = np.abs(h[1:] - lo[:-1])[-14:].sum() - np.abs(lo[1:] - h[:-1])[-14:].sum()
    spread = _path(lambda x: _ema(x, 9, 63), h - lo, 87)
    mass = spread[-25:] / _path(lambda x: _ema(x, 9, 63), spread, 25)
    return {
        "ta_natr_14": atr / c[-1],
        "ta_atr_ratio_14_63": math.log(atr / _truncated_mean(true_range, 1 / 63)),
        "ta_di_diff_14": direction[-1],
        "ta_adx_14": 100 * _truncated_mean(np.abs(direction), 1 / 14),
        "ta_vortex_14": vortex / true_range[-14:].sum(),
        "ta_keltner_20": (c[-1] - _ema(c, 20)) / atr,
        "ta_mass_25": mass.sum(),
    }


def _shape(a: Asset) -> dict[str, float]:
    r, year = a.r, a.r[-YEAR:]
    q05, q25, q50, q75, q95 = np.quantile(year, [0.05, 0.25, 0.5, 0.75, 0.95])
    losses = -np.sort(year)
    out = {}
    for w in (63, 126, 252):
        out[f"dist_skew_{w}"] = scipy.stats.skew(r[-w:])
        out[f"dist_kurt_{w}"] = scipy.stats.kurtosis(r[-w:], fisher=False)
    return out | {
        "dist_q05_252": q05 / year.std(),
        "dist_q95_252": q95 / year.std(),
        "dist_tail_ratio_252": math.log(q95 / -q05),
        "dist_cvar05_252": np.sort(year)[:12].mean() / year.std(),
        "dist_hill_left_252": np.log(losses[:12] / losses[12]).mean(),
        "dist_iqr_252": (q75 - q25) / year.std(),
        "dist_quantile_skew_252": (q95 + q05 - 2 * q50) / (q95 - q05),
        "dist_max_21": r[-21:].max() / a.sigma,
        "dist_min_21": r[-21:].min() / a.sigma,
    }


def _memory(a: Asset) -> dict[str, float]:
    c, r = a.c, a.r
    out = {}
    for lag, w in ((1, 21), (1, 63), (1, 252), (5, 252), (21, 252)):
        out[f"dist_autocorr_{lag}_{w}"] = correlation(r[-w:], r[-w - lag : -lag])
    for q, w in ((5, 126), (10, 252), (21, 252)):
        long = np.log(c[q:] / c[:-q])[-w:]
        out[f"dist_var_ratio_{q}_{w}"] = math.log(long.var() / (q * r[-w:].var()))
    path, lags = np.log(c[-YEAR:]), np.array([1, 2, 4, 8, 16, 32])
    spread = [np.log((path[q:] - path[:-q]).std()) for q in lags]
    out["dist_hurst_252"] = np.polyfit(np.log(lags), spread, 1)[0]
    scales, fluctuation = (8, 16, 32, 64), []
    for scale in scales:
        residuals = []
        for start in range(YEAR - scale + 1):
            box = path[start : start + scale]
            fit = np.polyval(np.polyfit(np.arange(scale), box, 1), np.arange(scale))
            residuals.append(((box - fit) ** 2).mean())
        fluctuation.append(0.5 * math.log(np.mean(residuals)))
    out["dist_dfa_252"] = np.polyfit(np.log(scales), fluctuation, 1)[0]
    for w in (63, 252):
        patterns = [tuple(np.argsort(c[t - 2 : t + 1])) for t in range(len(c) - w, len(c))]
        shares = pd.Series(patterns).value_counts(normalize=True).to_numpy()
        out[f"dist_entropy_{w}"] = -(shares * np.log(shares)).sum() / math.log(6)
    turns = [x * y < 0 for x, y in pairwise(r[-64:])]
    # under independence the number of turns has mean 63/2 and deviation √63/2
    return out | {"dist_runs_63": (sum(turns) - 31.5) / (math.sqrt(63) / 2)}


def _liquidity(a: Asset) -> dict[str, float]:
    h, lo, c, v, r = a.h, a.lo, a.c, a.v, a.r
    lv, dlv, signed = np.log(v), np.diff(np.log(v)), np.sign(a.r) * a.v[1:]
    impact = np.abs(r) / (c * v)[1:]
    illiquid = np.log(pd.Series(impact).rolling(21).mean().to_numpy())
    multiplier = ((c - lo) - (h - c)) / (h - lo)
    covariance = np.cov(r[-63:], r[-64:-1], ddof=0)[0, 1]
    out = {f"liq_volume_z_{w}": z_score(lv[-w:]) for w in (21, 63, 252)}
    for w in (21, 63):
        out[f"liq_obv_{w}"] = signed[-w:].sum() / v[-w:].sum()
        mean_price = (c * v)[-w:].sum() / v[-w:].sum()
        out[f"liq_vwap_gap_{w}"] = math.log(c[-1] / mean_price) / a.sigma
    return out | {
        "liq_volume_ratio_5_63": math.log(v[-5:].mean() / v[-63:].mean()),
        "liq_volume_trend_63": _t_statistic(lv[-63:]),
        "liq_amihud_5_63": math.log(impact[-5:].mean() / impact[-63:].mean()),
        "liq_amihud_21_252": math.log(impact[-21:].mean() / impact[-252:].mean()),
        "liq_amihud_z_252": z_score(illiquid[-252:]),
        "liq_volume_vol_21": dlv[-21:].std(),
        "liq_ret_volume_corr_63": correlation(r[-63:], dlv[-63:]),
        "liq_absret_volume_corr_63": correlation(np.abs(r)[-63:], lv[-63:]),
        "liq_cmf_20": (multiplier * v)[-20:].sum() / v[-20:].sum(),
        "liq_force_21": (r * v[1:])[-21:].sum() / np.abs(r * v[1:])[-21:].sum(),
        "liq_zero_share_63": (np.diff(c)[-63:] == 0).mean(),
        "liq_roll_spread_63": 2 * math.sqrt(max(-covariance, 0)) / r[-63:].std(),
        "liq_hl_spread_21": np.mean([_corwin_schultz(a, t) for t in range(len(c) - 21, len(c))]),
    }


def _corwin_schultz(a: Asset, t: int) -> float:
    """Equations 14 and 18 of the paper, with its overnight adjustment (section II.B)."""
    shift = 0.0
    if a.lo[t] > a.c[t - 1]:
        shift = math.log(a.lo[t] / a.c[t - 1])
    elif a.h[t] < a.c[t - 1]:
        shift = math.log(a.h[t] / a.c[t - 1])
    high, low = [math.log(a.h[t - 1])], [math.log(a.lo[t - 1])]
    high.append(math.log(a.h[t]) - shift)
    low.append(math.log(a.lo[t]) - shift)
    beta = sum((x - y) ** 2 for x, y in zip(high, low, strict=True))
    gamma = (max(high) - min(low)) ** 2
    k = 3 - 2 * math.sqrt(2)
    alpha = (math.sqrt(2 * beta) - math.sqrt(beta)) / k - math.sqrt(gamma / k)
    return max(2 * (math.exp(alpha) - 1) / (1 + math.exp(alpha)), 0.0)


def _open_interest(a: Asset) -> dict[str, float]:
    oi, level, built = a.oi, np.log(a.oi), np.diff(a.oi)
    turnover = a.v / oi
    out = {f"oi_chg_{w}": math.log(oi[-1] / oi[-1 - w]) for w in (1, 5, 21, 63)}
    out |= {f"oi_z_{w}": z_score(level[-w:]) for w in (63, 252)}
    for w in (21, 63):
        out[f"oi_flow_{w}"] = (np.sign(a.r) * built)[-w:].sum() / np.abs(built)[-w:].sum()
    return out | {
        "oi_turnover_z_63": z_score(np.log(turnover)[-63:]),
        "oi_turnover_ratio_21_252": math.log(turnover[-21:].mean() / turnover[-252:].mean()),
        "oi_price_corr_63": correlation(a.r[-63:], np.diff(level)[-63:]),
        "oi_long_build_share_21": ((a.r > 0) & (built > 0))[-21:].mean(),
    }


def _ranges(a: Asset) -> dict[str, float]:
    o, h, lo, c, sigma = a.o, a.h, a.lo, a.c, a.sigma
    year = c[-YEAR:]
    gap, intraday, spread = np.log(o[1:] / c[:-1]), np.log(c / o), np.log(h / lo)
    squares = (gap[-63:] ** 2).sum(), (intraday[-63:] ** 2).sum()
    shadow = np.log(h / np.maximum(o, c)) - np.log(np.minimum(o, c) / lo)
    location = (2 * c - h - lo) / (h - lo)
    out = {}
    for w in (21, 63, 126, 252):
        window = c[-w:]
        out[f"range_close_pos_{w}"] = (c[-1] - window.min()) / (window.max() - window.min())
    for w in (63, 252):
        out[f"range_drawdown_{w}"] = math.log(c[-1] / c[-w:].max())
    return out | {
        "range_runup_252": math.log(c[-1] / year.min()),
        "range_high_age_252": (251 - year.argmax()) / 251,
        "range_low_age_252": (251 - year.argmin()) / 251,
        "range_hl_norm": spread[-1] / sigma,
        "range_hl_ratio_5_63": math.log(spread[-5:].mean() / spread[-63:].mean()),
        "range_close_loc_1": location[-1],
        "range_close_loc_21": location[-21:].mean(),
        "range_body_1": (c[-1] - o[-1]) / (h[-1] - lo[-1]),
        "range_body_21": intraday[-21:].sum() / spread[-21:].sum(),
        "range_wick_skew_21": shadow[-21:].sum() / spread[-21:].sum(),
        "range_gap_1": gap[-1] / sigma,
        "range_gap_share_63": squares[0] / sum(squares),
        "range_gap_sum_21": gap[-21:].sum() / (sigma * math.sqrt(21)),
        "range_intraday_sum_21": intraday[-21:].sum() / (sigma * math.sqrt(21)),
        "range_gap_fill_corr_63": correlation(gap[-63:], intraday[-63:]),
        "range_channel_pos_63": (c[-1] - lo[-63:].min()) / (h[-63:].max() - lo[-63:].min()),
    }


def _change_points(a: Asset) -> dict[str, float]:
    out = {}
    scaled = a.scaled_returns(126)
    for w, splits in ((21, range(4, 18)), (63, range(6, 58, 3)), (126, range(12, 115, 6))):
        z = scaled[-w:]
        best, vol_best = (-1.0, 0, 0.0), (-1.0, 0)
        for after in splits:
            old, new = z[:-after], z[-after:]
            between = len(old) * (old.mean() - z.mean()) ** 2
            between += len(new) * (new.mean() - z.mean()) ** 2
            best = max(best, (between / ((z - z.mean()) ** 2).sum(), after,
                              new.mean() - old.mean()))  # fmt: skip
            logs = [math.log((part**2).mean() + 0.01) for part in (z, new, old)]
            gain = logs[0] - after / w * logs[1] - (w - after) / w * logs[2]
            vol_best = max(vol_best, (gain, after))
        out[f"cpd_mean_score_{w}"], out[f"cpd_mean_loc_{w}"] = best[0], best[1] / w
        out[f"cpd_mean_shift_{w}"] = best[2]
        if w > 21:
            out[f"cpd_vol_score_{w}"], out[f"cpd_vol_loc_{w}"] = vol_best[0], vol_best[1] / w
    path = np.concatenate([[0.0], np.cumsum(scaled[-63:])])
    return out | {
        "cpd_cusum_up_63": (path[-1] - path.min()) / math.sqrt(63),
        "cpd_cusum_down_63": (path.max() - path[-1]) / math.sqrt(63),
    }


def _fractional(a: Asset) -> dict[str, float]:
    def filtered(values: np.ndarray, order: float) -> float:
        weights = [1.0]
        for lag in range(1, 251):
            weights.append(-weights[-1] * (order - lag + 1) / lag)
        weights.append(-sum(weights))
        return sum(w * x for w, x in zip(weights, values[::-1][:252], strict=True))

    price = np.log(a.c)
    out = {f"frac_price_d{d}": filtered(price, d / 100) / a.sigma for d in (20, 40, 60, 80)}
    return out | {
        "frac_price_z_d40_126": z_score(_path(lambda x: filtered(x, 0.4), price, 126)),
        "frac_volume_d40": filtered(np.log(a.v), 0.4),
    }


def _cycles(a: Asset) -> dict[str, float]:
    z = a.scaled_returns(126)
    tapered = (z - z.mean()) * scipy.signal.windows.hann(128, sym=True)[1:-1]
    steps = np.arange(126)
    power = {}
    for k in range(1, 64):
        angle = 2 * math.pi * k * steps / 126
        power[k] = (tapered @ np.cos(angle)) ** 2 + (tapered @ np.sin(angle)) ** 2
    total = sum(power.values())
    shares = np.array(list(power.values())) / total
    out = {
        "cyc_peak_period": math.log(126 / max(power, key=power.__getitem__)),
        "cyc_spectral_entropy": -(shares * np.log(shares)).sum() / math.log(63),
    }
    for longest, shortest in ((126, 42), (31, 21), (18, 10), (10, 5)):
        # a bin belongs to the band its period falls in; 10 sessions belong to the slower band
        bins = [k for k in power if shortest <= 126 / k < longest + 1]
        if longest == 10:
            bins = [k for k in bins if 126 / k < 10]
        out[f"cyc_power_{shortest}_{longest}"] = sum(power[k] for k in bins) / total
    for period in (63, 21):
        back = 2 * math.pi * (steps - 125) / period  # angle against the newest session
        out[f"cyc_cos_{period}"] = tapered @ np.cos(back) / math.sqrt(total)
        out[f"cyc_sin_{period}"] = tapered @ np.sin(back) / math.sqrt(total)
    return out


def _calendar(a: Asset) -> dict[str, float]:
    day, before = a.dates[-1], a.dates[-2]
    month = pd.bdate_range(day.replace(day=1), day + pd.offsets.MonthEnd(0))
    quarter = pd.bdate_range(day, day + pd.offsets.QuarterEnd(0))
    year = pd.bdate_range(day, day + pd.offsets.YearEnd(0))
    fridays = [d for d in month if d.day_of_week == 4]
    monday = fridays[2] - pd.Timedelta(days=4)
    week, phase = 2 * math.pi * day.day_of_week / 7, 2 * math.pi * (day.day_of_year - 1)
    phase /= 366 if day.is_leap_year else 365
    return {
        "cal_dow_sin": math.sin(week),
        "cal_dow_cos": math.cos(week),
        "cal_year_sin": math.sin(phase),
        "cal_year_cos": math.cos(phase),
        "cal_weekday_of_month": (month <= day).sum(),
        "cal_weekdays_to_month_end": (month > day).sum(),
        "cal_turn_of_month": day in month[:3] or day == month[-1],
        "cal_quarter_end": (quarter > day).sum() < 5 and day.month % 3 == 0,
        "cal_year_end": (year > day).sum() < 10 and day.month == 12,
        "cal_expiry_week": monday <= day <= fridays[2],
        "cal_gap_days": (day - before).days,
    }
