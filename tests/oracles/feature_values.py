"""Slow, obvious values of features at the last bar of one asset or of one market.

Written from the definitions with pandas, NumPy and TA-Lib on plain arrays; nothing here
imports the code under test.
"""

import math

import numpy as np
import pandas as pd
import scipy.signal
import scipy.stats
import talib


def own_values(bars: pd.DataFrame) -> dict[str, float]:
    """Features of the newest session from one asset's bars, oldest first."""
    return {
        **_returns(bars),
        **_paper(bars),
        **_volatility(bars),
        **_technical(bars),
        **_distribution(bars),
        **_liquidity(bars),
        **_open_interest(bars),
        **_ranges(bars),
        **_change_points(bars),
        **_fractional(bars),
        **_cycles(bars),
        **_calendar(bars),
    }


def _log_returns(bars: pd.DataFrame) -> pd.Series:
    return np.log(bars["close"]).diff()


def sigma_at(close: pd.Series, end: int) -> float:
    """EW deviation with span 60 of the 252 simple returns up to row ``end``."""
    returns = close.pct_change().iloc[max(end - 251, 1) : end + 1]
    return float(returns.ewm(span=60).std().iloc[-1])


def _sigma(bars: pd.DataFrame) -> float:
    return sigma_at(bars["close"], len(bars) - 1)


def _scaled_returns(bars: pd.DataFrame, n: int) -> np.ndarray:
    """The last n log returns, each over the σ known one session before."""
    log_returns = _log_returns(bars).to_numpy()
    last = len(bars)
    return np.array(
        [
            np.clip(log_returns[t] / sigma_at(bars["close"], t - 1), -10, 10)
            for t in range(last - n, last)
        ]
    )


def _truncated_mean(values: np.ndarray, alpha: float, length: int = 252) -> float:
    """Exponential mean by an explicit sum over the newest ``length`` values."""
    newest = values[::-1][:length]
    weights = np.array([(1 - alpha) ** lag for lag in range(len(newest))])
    return float((weights * newest).sum() / weights.sum())


def _truncated_path(values: np.ndarray, alpha: float, length: int, n: int) -> np.ndarray:
    end = len(values)
    return np.array(
        [_truncated_mean(values[:stop], alpha, length) for stop in range(end - n + 1, end + 1)]
    )


def _returns(bars: pd.DataFrame) -> dict[str, float]:
    close = bars["close"].to_numpy()
    r = _log_returns(bars).to_numpy()
    line = scipy.stats.linregress(np.arange(63), np.log(close[-63:]))
    signs = np.sign(r[::-1][:21])
    run = 0
    for sign in signs:
        if sign != signs[0]:
            break
        run += 1
    return {
        "ret_1": math.log(close[-1] / close[-2]),
        "ret_63": math.log(close[-1] / close[-64]),
        "ret_252": math.log(close[-1] / close[-253]),
        "ret_skip_252_21": math.log(close[-22] / close[-253]),
        "ret_sharpe_63": r[-63:].mean() / r[-63:].std(),
        "ret_up_share_21": float((r[-21:] > 0).mean()),
        "ret_efficiency_63": math.log(close[-1] / close[-64]) / np.abs(r[-63:]).sum(),
        "ret_accel_21_63": (r[-21:].mean() - r[-63:].mean()) / _sigma(bars),
        "ret_trend_t_63": line.slope / line.stderr,
        "ret_streak": float(run * signs[0]),
    }


def _paper(bars: pd.DataFrame) -> dict[str, float]:
    close = bars["close"]
    sigma = _sigma(bars)
    out = {
        f"paper_norm_ret_{h}": (close.iloc[-1] / close.iloc[-1 - h] - 1) / (sigma * math.sqrt(h))
        for h in (1, 21, 63, 126, 252)
    }
    prices = close.to_numpy()
    for short, long in ((8, 24), (16, 48), (32, 96)):
        signal = []
        for stop in range(len(prices) - 251, len(prices) + 1):
            window = pd.Series(prices[stop - 252 : stop])
            half_short = math.log(0.5) / math.log(1 - 1 / short)
            half_long = math.log(0.5) / math.log(1 - 1 / long)
            spread = (
                window.ewm(halflife=half_short).mean().iloc[-1]
                - window.ewm(halflife=half_long).mean().iloc[-1]
            )
            signal.append(spread / window.iloc[-60:].std(ddof=0))
        out[f"paper_macd_{short}_{long}"] = signal[-1] / np.std(signal)
    return out


def _volatility(bars: pd.DataFrame) -> dict[str, float]:
    r = _log_returns(bars).to_numpy()
    o, h, lo, c = (np.log(bars[name].to_numpy()) for name in ("open", "high", "low", "close"))
    n = 21
    rogers = ((h - o) * (h - c) + (lo - o) * (lo - c))[-n:].mean()
    garman = (0.5 * (h - lo) ** 2 - (2 * math.log(2) - 1) * (c - o) ** 2)[-n:].mean()
    overnight, intraday = (o[1:] - c[:-1])[-n:], (c - o)[-n:]
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    yang = overnight.var(ddof=1) + k * intraday.var(ddof=1) + (1 - k) * rogers
    log_vol = pd.Series(r).rolling(21).std(ddof=0).apply(math.log).to_numpy()[-252:]
    size = np.abs(r)
    bipower = math.pi / 2 * (size[-63:] * size[-64:-1]).mean()
    return {
        "vol_cc_21": r[-21:].std(),
        "vol_ewm_60": _sigma(bars),
        "vol_park_21": math.sqrt(((h - lo)[-n:] ** 2).mean() / (4 * math.log(2))),
        "vol_gk_21": math.sqrt(garman),
        "vol_rs_21": math.sqrt(rogers),
        "vol_yz_21": math.sqrt(yang),
        "vol_ratio_21_63": math.log(r[-21:].std() / r[-63:].std()),
        "vol_of_vol_252": log_vol.std(),
        "vol_z_21_252": (log_vol[-1] - log_vol.mean()) / log_vol.std(),
        "vol_rank_21_252": 2 * (log_vol < log_vol[-1]).sum() / 251 - 1,
        "vol_down_share_63": (r[-63:][r[-63:] < 0] ** 2).sum() / (r[-63:] ** 2).sum(),
        "vol_jump_share_63": 1 - bipower / (r[-63:] ** 2).mean(),
        "vol_leverage_252": np.corrcoef(r[-253:-1], size[-252:])[0, 1],
        "vol_cluster_252": np.corrcoef(size[-253:-1], size[-252:])[0, 1],
    }


def _technical(bars: pd.DataFrame) -> dict[str, float]:
    o, h, lo, c, v = (
        bars[name].to_numpy(dtype=float) for name in ("open", "high", "low", "close", "volume")
    )
    change = np.diff(c)
    up = _truncated_mean(np.maximum(change, 0), 1 / 14)
    down = _truncated_mean(np.maximum(-change, 0), 1 / 14)
    upper, middle, lower = talib.BBANDS(c, 20, 2, 2)
    fast, slow = _truncated_mean(c, 2 / 13), _truncated_mean(c, 2 / 27)
    sma = {n: c[-n:].mean() for n in (5, 20, 50)}
    sigma = _sigma(bars)
    true_range = np.maximum(h[1:], c[:-1]) - np.minimum(lo[1:], c[:-1])
    atr = _truncated_mean(true_range, 1 / 14)
    rise, fall = np.diff(h), -np.diff(lo)
    plus = np.where((rise > fall) & (rise > 0), rise, 0)
    minus = np.where((fall > rise) & (fall > 0), fall, 0)
    di = np.array(
        [
            _truncated_path(plus, 1 / 14, 252, 252),
            _truncated_path(minus, 1 / 14, 252, 252),
        ]
    )
    dx = np.abs(di[0] - di[1]) / (di[0] + di[1])
    vortex = np.abs(h[1:] - lo[:-1])[-14:].sum() - np.abs(lo[1:] - h[:-1])[-14:].sum()
    return {
        "ta_rsi_14": 100 * up / (up + down),
        "ta_bb_pctb_20": ((c - lower) / (upper - lower))[-1],
        "ta_bb_width_20": ((upper - lower) / middle)[-1],
        "ta_ppo_12_26": (fast - slow) / slow,
        "ta_sma_gap_50": math.log(c[-1] / sma[50]) / sigma,
        "ta_sma_cross_5_20": math.log(sma[5] / sma[20]) / sigma,
        "ta_linreg_slope_20": talib.LINEARREG_SLOPE(np.log(c), 20)[-1] / sigma,
        "ta_cci_20": talib.CCI(h, lo, c, 20)[-1],
        "ta_willr_14": talib.WILLR(h, lo, c, 14)[-1],
        "ta_stoch_d_14": talib.STOCHF(h, lo, c, 14, 3)[1][-1],
        "ta_aroon_25": talib.AROONOSC(h, lo, 25)[-1],
        "ta_mfi_14": talib.MFI(h, lo, c, v, 14)[-1],
        "ta_ultosc": talib.ULTOSC(h, lo, c)[-1],
        "ta_bop_14": talib.BOP(o, h, lo, c)[-14:].mean(),
        "ta_natr_14": atr / c[-1],
        "ta_di_diff_14": (di[0, -1] - di[1, -1]) / (di[0, -1] + di[1, -1]),
        "ta_adx_14": 100 * _truncated_mean(dx, 1 / 14),
        "ta_vortex_14": vortex / true_range[-14:].sum(),
        "ta_keltner_20": (c[-1] - _truncated_mean(c, 2 / 21)) / atr,
        "ta_ichimoku_9_26": math.log(talib.MIDPRICE(h, lo, 9)[-1] / talib.MIDPRICE(h, lo, 26)[-1])
        / sigma,
    }


def _distribution(bars: pd.DataFrame) -> dict[str, float]:
    c = bars["close"].to_numpy()
    r = _log_returns(bars).to_numpy()
    year = r[-252:]
    q05, q25, q50, q75, q95 = np.quantile(year, [0.05, 0.25, 0.5, 0.75, 0.95])
    lowest = -np.sort(year)
    five = np.log(c[5:] / c[:-5])[-126:]
    lags = np.array([1, 2, 4, 8, 16, 32])
    path = np.log(c[-252:])
    spread = [np.log((path[q:] - path[:-q]).std()) for q in lags]
    fluctuation = []
    for scale in (8, 16, 32, 64):
        residuals = []
        for start in range(252 - scale + 1):
            box = path[start : start + scale]
            fit = np.polyval(np.polyfit(np.arange(scale), box, 1), np.arange(scale))
            residuals.append(((box - fit) ** 2).mean())
        fluctuation.append(0.5 * math.log(np.mean(residuals)))
    patterns = [tuple(np.argsort(c[t - 2 : t + 1])) for t in range(len(c) - 63, len(c))]
    shares = pd.Series(patterns).value_counts(normalize=True).to_numpy()
    turns = (r[-63:] * r[-64:-1] < 0).mean()
    return {
        "dist_skew_63": scipy.stats.skew(r[-63:]),
        "dist_kurt_252": scipy.stats.kurtosis(year, fisher=False),
        "dist_q05_252": q05 / year.std(),
        "dist_tail_ratio_252": math.log(q95 / -q05),
        "dist_cvar05_252": np.sort(year)[:12].mean() / year.std(),
        "dist_hill_left_252": np.log(lowest[:12] / lowest[12]).mean(),
        "dist_iqr_252": (q75 - q25) / year.std(),
        "dist_quantile_skew_252": (q95 + q05 - 2 * q50) / (q95 - q05),
        "dist_max_21": r[-21:].max() / _sigma(bars),
        "dist_autocorr_1_63": np.corrcoef(r[-63:], r[-64:-1])[0, 1],
        "dist_var_ratio_5_126": math.log(five.var() / (5 * r[-126:].var())),
        "dist_hurst_252": np.polyfit(np.log(lags), spread, 1)[0],
        "dist_dfa_252": np.polyfit(np.log([8, 16, 32, 64]), fluctuation, 1)[0],
        "dist_entropy_63": -(shares * np.log(shares)).sum() / math.log(6),
        "dist_runs_63": (turns - 0.5) * 2 * math.sqrt(63),
    }


def _liquidity(bars: pd.DataFrame) -> dict[str, float]:
    h, lo, c, v = (bars[name].to_numpy(dtype=float) for name in ("high", "low", "close", "volume"))
    r = _log_returns(bars).to_numpy()
    lv = np.log(v)
    impact = np.abs(r) / (c * v)
    multiplier = ((c - lo) - (h - c)) / (h - lo)
    covariance = np.cov(r[-63:], r[-64:-1], ddof=0)[0, 1]
    return {
        "liq_volume_z_63": (lv[-1] - lv[-63:].mean()) / lv[-63:].std(),
        "liq_volume_ratio_5_63": math.log(v[-5:].mean() / v[-63:].mean()),
        "liq_amihud_21_252": math.log(impact[-21:].mean() / impact[-252:].mean()),
        "liq_volume_vol_21": np.diff(lv)[-21:].std(),
        "liq_obv_21": (np.sign(r) * v)[-21:].sum() / v[-21:].sum(),
        "liq_ret_volume_corr_63": np.corrcoef(r[-63:], np.diff(lv)[-63:])[0, 1],
        "liq_cmf_20": (multiplier * v)[-20:].sum() / v[-20:].sum(),
        "liq_force_21": (r * v)[-21:].sum() / np.abs(r * v)[-21:].sum(),
        "liq_vwap_gap_21": math.log(c[-1] / ((c * v)[-21:].sum() / v[-21:].sum())) / _sigma(bars),
        "liq_zero_share_63": float((np.diff(c)[-63:] == 0).mean()),
        "liq_roll_spread_63": 2 * math.sqrt(max(-covariance, 0)) / r[-63:].std(),
    }


def _open_interest(bars: pd.DataFrame) -> dict[str, float]:
    oi, v = bars["open_interest"].to_numpy(dtype=float), bars["volume"].to_numpy(dtype=float)
    r = _log_returns(bars).to_numpy()
    built, level = np.diff(oi)[-21:], np.log(oi)
    return {
        "oi_chg_5": math.log(oi[-1] / oi[-6]),
        "oi_z_63": (level[-1] - level[-63:].mean()) / level[-63:].std(),
        "oi_turnover_ratio_21_252": math.log((v / oi)[-21:].mean() / (v / oi)[-252:].mean()),
        "oi_price_corr_63": np.corrcoef(r[-63:], np.diff(level)[-63:])[0, 1],
        "oi_flow_21": (np.sign(r[-21:]) * built).sum() / np.abs(built).sum(),
        "oi_long_build_share_21": float(((r[-21:] > 0) & (built > 0)).mean()),
    }


def _ranges(bars: pd.DataFrame) -> dict[str, float]:
    o, h, lo, c = (bars[name].to_numpy(dtype=float) for name in ("open", "high", "low", "close"))
    year, quarter = c[-252:], c[-63:]
    gap, intraday = np.log(o[1:] / c[:-1]), np.log(c / o)
    squares = (gap[-63:] ** 2).sum(), (intraday[-63:] ** 2).sum()
    sigma = _sigma(bars)
    shadow = np.log(h / np.maximum(o, c)) - np.log(np.minimum(o, c) / lo)
    return {
        "range_close_pos_63": (c[-1] - quarter.min()) / (quarter.max() - quarter.min()),
        "range_drawdown_252": math.log(c[-1] / year.max()),
        "range_high_age_252": (251 - year.argmax()) / 251,
        "range_hl_norm": math.log(h[-1] / lo[-1]) / sigma,
        "range_close_loc_1": (2 * c[-1] - h[-1] - lo[-1]) / (h[-1] - lo[-1]),
        "range_body_1": (c[-1] - o[-1]) / (h[-1] - lo[-1]),
        "range_wick_skew_21": shadow[-21:].sum() / np.log(h / lo)[-21:].sum(),
        "range_gap_1": gap[-1] / sigma,
        "range_gap_share_63": squares[0] / sum(squares),
        "range_gap_sum_21": gap[-21:].sum() / (sigma * math.sqrt(21)),
        "range_gap_fill_corr_63": np.corrcoef(gap[-63:], intraday[-63:])[0, 1],
        "range_channel_pos_63": (c[-1] - lo[-63:].min()) / (h[-63:].max() - lo[-63:].min()),
    }


def _change_points(bars: pd.DataFrame) -> dict[str, float]:
    z = _scaled_returns(bars, 63)
    best = (-1.0, 0, 0.0)
    vol_best = (-1.0, 0)
    for after in range(6, 58, 3):
        old, new = z[:-after], z[-after:]
        between = len(old) * (old.mean() - z.mean()) ** 2 + after * (new.mean() - z.mean()) ** 2
        score = between / ((z - z.mean()) ** 2).sum()
        if score > best[0]:
            best = (score, after, new.mean() - old.mean())
        logs = [math.log((part**2).mean() + 0.01) for part in (z, new, old)]
        gain = logs[0] - after / 63 * logs[1] - (63 - after) / 63 * logs[2]
        if gain > vol_best[0]:
            vol_best = (gain, after)
    path = np.concatenate([[0.0], np.cumsum(z)])
    return {
        "cpd_mean_score_63": best[0],
        "cpd_mean_loc_63": best[1] / 63,
        "cpd_mean_shift_63": best[2],
        "cpd_vol_score_63": vol_best[0],
        "cpd_vol_loc_63": vol_best[1] / 63,
        "cpd_cusum_up_63": (path[-1] - path.min()) / math.sqrt(63),
        "cpd_cusum_down_63": (path.max() - path[-1]) / math.sqrt(63),
    }


def _fractional(bars: pd.DataFrame) -> dict[str, float]:
    def filtered(values: np.ndarray, order: float) -> float:
        weights = [1.0]
        for lag in range(1, 251):
            weights.append(-weights[-1] * (order - lag + 1) / lag)
        weights.append(-sum(weights))
        return sum(w * x for w, x in zip(weights, values[::-1][:252], strict=True))

    price, volume = np.log(bars["close"].to_numpy()), np.log(bars["volume"].to_numpy(dtype=float))
    return {
        "frac_price_d40": filtered(price, 0.4) / _sigma(bars),
        "frac_price_d80": filtered(price, 0.8) / _sigma(bars),
        "frac_volume_d40": filtered(volume, 0.4),
    }


def _cycles(bars: pd.DataFrame) -> dict[str, float]:
    z = _scaled_returns(bars, 126)
    tapered = (z - z.mean()) * scipy.signal.windows.hann(128, sym=True)[1:-1]
    steps = np.arange(126)
    power = {}
    for k in range(1, 64):
        angle = 2 * math.pi * k * steps / 126
        power[k] = (tapered @ np.cos(angle)) ** 2 + (tapered @ np.sin(angle)) ** 2
    total = sum(power.values())
    shares = np.array(list(power.values())) / total
    back = 2 * math.pi * 2 * (steps - 125) / 126  # angle against the newest session
    return {
        "cyc_power_21_31": sum(power[k] for k in (4, 5, 6)) / total,
        "cyc_peak_period": math.log(126 / max(power, key=power.__getitem__)),
        "cyc_spectral_entropy": -(shares * np.log(shares)).sum() / math.log(63),
        "cyc_cos_63": tapered @ np.cos(back) / math.sqrt(total),
        "cyc_sin_63": tapered @ np.sin(back) / math.sqrt(total),
    }


def _calendar(bars: pd.DataFrame) -> dict[str, float]:
    day = pd.Timestamp(bars["date"].iloc[-1])
    month = pd.bdate_range(day.replace(day=1), day + pd.offsets.MonthEnd(0))
    return {
        "cal_dow_sin": math.sin(2 * math.pi * day.day_of_week / 7),
        "cal_weekday_of_month": float((month <= day).sum()),
        "cal_weekdays_to_month_end": float((month > day).sum()),
        "cal_gap_days": float((day - pd.Timestamp(bars["date"].iloc[-2])).days),
    }


def market_values(closes: pd.DataFrame) -> pd.DataFrame:
    """Cross-section and correlation features at the last date.

    Args:
        closes: Closes of the universe, one column per symbol, no gap.

    Returns:
        One row per symbol.
    """
    last = len(closes)
    logs = np.log(closes)
    over = {w: logs.iloc[-1] - logs.iloc[-1 - w] for w in (1, 21, 63, 252)}
    sigma = pd.Series({s: sigma_at(closes[s], last - 1) for s in closes})
    scaled = {w: over[w] / (sigma * math.sqrt(w)) for w in over}
    daily = logs.diff()
    ranks = (over[63].rank() - 1) / (len(over[63]) - 1) * 2 - 1
    place = (closes.iloc[-1] - closes[-252:].min()) / (closes[-252:].max() - closes[-252:].min())
    z = pd.DataFrame(
        {
            s: [daily[s].iloc[t] / sigma_at(closes[s], t - 1) for t in range(last - 126, last)]
            for s in closes
        }
    )
    corr = z.corr().to_numpy()
    values, vectors = np.linalg.eigh(corr)
    n = len(corr)
    top = vectors[:, -1] * np.sign(vectors[:, -1].sum())
    edge = (1 + math.sqrt(n / 126)) ** 2
    quarter = z.iloc[-63:].corr().to_numpy()
    mean = z.mean(axis=1)
    beta = np.array([np.polyfit(mean[-63:], z[s][-63:], 1)[0] for s in closes])
    common = {
        "xs_adv_share_1": float((over[1] > 0).mean()),
        "xs_adv_share_5": float((daily[-5:] > 0).mean(axis=1).mean()),
        "xs_above_sma_50": float((closes.iloc[-1] > closes[-50:].mean()).mean()),
        "xs_new_high_share_252": float((place >= 0.98).mean()),
        "xs_mean_ret_21": float(scaled[21].mean()),
        "xs_dispersion_21": float(scaled[21].std(ddof=0)),
        "xs_mom_breadth_252": float((over[252] > 0).mean()),
        "rmt_top_share_126": values[-1] / n,
        "rmt_top_share_63": np.linalg.eigvalsh(quarter)[-1] / n,
        "rmt_absorption_126": values[-math.ceil(0.2 * n) :].sum() / n,
        "rmt_mp_excess_126": (values[values > edge] - edge).sum() / n,
        "rmt_eig_entropy_126": -(values / n * np.log(values / n)).sum() / math.log(n),
        "rmt_eff_bets_126": n / (values**2).sum(),
        "rmt_mean_corr_126": (corr.sum() - n) / (n * (n - 1)),
    }
    rows = pd.DataFrame(common, index=closes.columns)
    rows["xs_rank_ret_63"] = ranks
    rows["xs_rel_ret_21"] = scaled[21] - scaled[21].median()
    rows["rmt_loading_126"] = top * math.sqrt(n)
    rows["rmt_peer_corr_63"] = (quarter.sum(axis=1) - 1) / (n - 1)
    rows["rmt_mkt_corr_63"] = [np.corrcoef(mean[-63:], z[s][-63:])[0, 1] for s in closes]
    rows["rmt_mkt_beta_63"] = beta
    rows["rmt_resid_ret_21"] = (
        z.iloc[-21:].sum().to_numpy() - beta * mean.iloc[-21:].sum()
    ) / math.sqrt(21)
    return rows
