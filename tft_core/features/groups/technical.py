"""Technical indicators in scale-free forms.

Indicators with a finite window come from TA-Lib. Its recursive ones (RSI, EMA, ATR, ADX, …)
remember all history, so here they are truncated kernels that tend to TA-Lib's values; the
tests compare both.
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import talib

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import SIGMA_LOOKBACK, OwnSessions, first_known

RSI_PERIODS = (7, 14, 21, 63)
SMA_GAPS = (20, 50, 200)
SMA_CROSSES = ((5, 20), (20, 100), (50, 200))
_FULL = k.MAX_LAG
_SHORT, _MEDIUM = 63, 126
"""Kernel lengths for fast smoothers, where the rest of the weights is below 1e-6."""

_define = definer("ta")
_HLC = "high low close"
_TALIB = "TA-Lib 0.8"

FEATURES = (
    *(
        _define(
            f"rsi_{p}", "close", _FULL + 1, "0–100",
            f"100 u / (u + d): u, d = Wilder {p} of max(ΔC, 0), of max(−ΔC, 0)",
            "Wilder 1978; tends to TA-Lib RSI",
        )
        for p in RSI_PERIODS
    ),
    _define(
        "stochrsi_14", "close", _FULL + 14, "0–1",
        "(ta_rsi_14 − its lowest) / (highest − lowest) of the last 14 sessions",
        "Chande & Kroll 1994",
    ),
    _define("bb_pctb_20", "close", 20, "bands", "(C − lower) / (upper − lower); bands: mean of C "
            "over 20 sessions ± 2 deviations", f"{_TALIB} BBANDS"),
    _define("bb_width_20", "close", 20, "ratio", "4 deviations of C over 20 sessions / its mean",
            f"{_TALIB} BBANDS"),
    _define("bb_pctb_63", "close", 63, "bands", "as ta_bb_pctb_20, over 63 sessions",
            f"{_TALIB} BBANDS"),
    _define("ppo_12_26", "close", _FULL, "ratio", "(EMA 12 of C − EMA 26 of C) / EMA 26 of C",
            "Appel; tends to TA-Lib PPO with EMA"),
    _define("ppo_hist_9", "close", _FULL + _SHORT - 1, "ratio",
            f"ta_ppo_12_26 minus its EMA 9 (at most {_SHORT} sessions)", "Appel"),
    _define("trix_15", "close", 3 * _MEDIUM - 1, "ratio",
            f"e_t / e_t−1 − 1: e is the EMA 15 of the EMA 15 of the EMA 15 of C, each of at most "
            f"{_MEDIUM} sessions", "Hutson; tends to TA-Lib TRIX"),
    _define("tsi_25_13", "close", _FULL + _MEDIUM, "ratio in [-1, 1]",
            f"s(r) / s(|r|): s is the EMA 13 (at most {_MEDIUM} sessions) of the EMA 25",
            "Blau 1991, true strength index"),
    *(
        _define(f"sma_gap_{w}", "close", SIGMA_LOOKBACK, "daily volatilities",
                f"ln(C / mean of C over {w} sessions) / σ_t")
        for w in SMA_GAPS
    ),
    *(
        _define(f"sma_cross_{s}_{w}", "close", SIGMA_LOOKBACK, "daily volatilities",
                f"ln(mean of C over {s} / over {w} sessions) / σ_t")
        for s, w in SMA_CROSSES
    ),
    _define("linreg_slope_20", "close", SIGMA_LOOKBACK, "daily volatilities",
            "least-squares slope of ln C on the session number over 20 sessions / σ_t",
            f"{_TALIB} LINEARREG_SLOPE"),
    _define("tsf_gap_20", "close", SIGMA_LOOKBACK, "daily volatilities",
            "(ln C − f) / σ_t: f extends the least-squares line of ln C over 20 sessions by one "
            "session",
            f"{_TALIB} TSF"),
    *(
        _define(f"cci_{w}", _HLC, w, "index",
                f"(p − m) / (0.015 mean of |p − m|): p = (H+L+C)/3, m its mean over {w} sessions",
                f"Lambert 1980; {_TALIB} CCI")
        for w in (20, 63)
    ),
    *(
        _define(f"willr_{w}", _HLC, w, "-100–0",
                f"−100 (highest H − C) / (highest H − lowest L) of {w} sessions",
                f"{_TALIB} WILLR")
        for w in (14, 63)
    ),
    _define("stoch_d_14", _HLC, 16, "0–100",
            "mean over 3 sessions of 100 (C − lowest L) / (highest H − lowest L) of 14 sessions",
            f"{_TALIB} STOCHF"),
    *(
        _define(f"aroon_{w}", "high low", w + 1, "-100–100",
                f"100 (age of the lowest L − age of the highest H) / {w}: sessions since the "
                f"extreme of {w} + 1 sessions", f"{_TALIB} AROONOSC")
        for w in (25, 63)
    ),
    _define("mfi_14", "high low close volume", 15, "0–100",
            "100 a / (a + b): Σ pV over 14 sessions "
            "in which p = (H+L+C)/3 rose (a), fell (b)",
            "Quong & Soudack 1989; TA-Lib MFI without its absolute threshold"),
    _define("ultosc", _HLC, 29, "0–100",
            "100 (4 a_7 + 2 a_14 + a_28) / 7: a_n = Σ(C − min(L, C_t−1)) / "
            "Σ(max(H, C_t−1) − min(L, C_t−1)) over n sessions",
            f"Williams 1976; {_TALIB} ULTOSC"),
    _define("bop_14", "open high low close", 14, "ratio in [-1, 1]",
            "mean of (C − O) / (H − L) over 14 sessions",
            f"{_TALIB} BOP"),
    _define("natr_14", _HLC, _FULL + 1, "ratio",
            "atr_14 / C: atr_n = Wilder n of the true range max(H, C_t−1) − min(L, C_t−1)",
            "Wilder 1978; tends to TA-Lib NATR"),
    _define("atr_ratio_14_63", _HLC, _FULL + 1, "log ratio",
            "ln(atr_14 / atr_63), see ta_natr_14"),
    _define("adx_14", _HLC, 2 * _FULL, "0–100", "100 × Wilder 14 of |ta_di_diff_14|",
            "Wilder 1978; tends to TA-Lib ADX"),
    _define("di_diff_14", _HLC, _FULL + 1, "ratio in [-1, 1]",
            "(p − m) / (p + m): Wilder 14 of the rise of H where it "
            "exceeds the fall of L and 0, and of the fall of L where it exceeds the rise of H and "
            "0", "Wilder 1978"),
    _define("vortex_14", _HLC, 15, "ratio",
            "(Σ|H_t − L_t−1| − Σ|L_t − H_t−1|) / Σ true range, 14 sessions",
            "Botes & Siepman 2010"),
    _define("keltner_20", _HLC, _FULL + 1, "average true ranges",
            "(C − EMA 20 of C) / atr_14, see ta_natr_14", "Keltner channel position"),
    _define("ichimoku_9_26", "high low close", SIGMA_LOOKBACK, "daily volatilities",
            "ln(m_9 / m_26) / σ_t: m_n = (highest H + lowest L of n sessions) / 2",
            f"{_TALIB} MIDPRICE"),
    _define("mass_25", "high low", 2 * _SHORT + 23, "index",
            "Σ over 25 sessions of e / EMA 9 of e: e = EMA 9 of H − L, each of at most 63 sessions",
            "Dorsey 1992, mass index"),
)  # fmt: skip


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    # TA-Lib has absolute thresholds: prices relative to the first close are of order 1
    first = first_known(bars.close)
    high, low, close, open_ = (
        k.ratio(price, first) for price in (bars.high, bars.low, bars.close, bars.open)
    )
    return {
        **_close_only(bars, close),
        **_oscillators(open_, high, low, close, bars.n_out),
        **_money_flow(high, low, close, bars.volume, bars.n_out),
        **_true_range(high, low, close, bars.n_out),
        **_mid_prices(bars, high, low),
    }


@cache
def _talib(name: str) -> Callable[..., Any]:
    """A TA-Lib function without its wrapper for pandas and polars, which costs more than it."""
    return inspect.unwrap(getattr(talib, name))


def windowed(
    function: Callable[..., np.ndarray | tuple[np.ndarray, ...]],
    *inputs: np.ndarray,
    window: int,
    newest: int | None = None,
) -> tuple[np.ndarray, ...]:
    """A TA-Lib function with a finite window, asset by asset; NaN where a window has a gap.

    Missing values are bridged by the last known one for TA-Lib, whose running sums a NaN
    would poison for ever, and every window that holds one is NaN afterwards.
    """
    inputs = tuple(k.recent(values, k.reach(newest, window)) for values in inputs)
    known = np.all([np.isfinite(values) for values in inputs], axis=0)
    clean = k.window_sum(known, window, newest) == window
    outputs: list[np.ndarray] = []
    is_whole, start = known.all(axis=1), known.argmax(axis=1)
    for asset in np.flatnonzero(known.any(axis=1)):
        first, own = int(start[asset]), known[asset]
        if known.shape[1] - first < window:
            continue
        if is_whole[asset]:
            result = function(*(x[asset] for x in inputs))
        else:
            last = np.maximum.accumulate(np.where(own, np.arange(len(own)), 0))[first:]
            result = function(*(x[asset, last] for x in inputs))
        for i, values in enumerate(result if isinstance(result, tuple) else (result,)):
            if i == len(outputs):
                outputs.append(np.full(known.shape, np.nan))
            outputs[i][asset, first:] = values
    if not outputs:
        return (np.full(clean.shape, np.nan),) * 3
    return tuple(np.where(clean, k.recent(values, newest), np.nan) for values in outputs)


def _close_only(bars: OwnSessions, close: np.ndarray) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    n, now, sigma = bars.n_out, bars.asked(close), bars.asked(bars.sigma)
    change = k.diff(close)
    gain = np.where(np.isnan(change), np.nan, np.maximum(change, 0.0))
    loss = np.where(np.isnan(change), np.nan, np.maximum(-change, 0.0))
    for p in RSI_PERIODS:
        path = n + 13 if p == 14 else n
        up, down = k.wilder(gain, p, newest=path), k.wilder(loss, p, newest=path)
        rsi = 100.0 * k.ratio(up, up + down)
        out[f"ta_rsi_{p}"] = bars.asked(rsi)
        if p == 14:
            low, high = (move(rsi, 14, newest=n) for move in (k.move_min, k.move_max))
            spread = _positive(high - low, 1e-9)
            out["ta_stochrsi_14"] = k.ratio(bars.asked(rsi) - low, spread)
    for w in (20, 63):
        upper, middle, lower = windowed(
            lambda x, w=w: _talib("BBANDS")(x, w, 2.0, 2.0), close, window=w, newest=n
        )
        width = _positive(upper - lower, 1e-9 * middle)
        out[f"ta_bb_pctb_{w}"] = k.ratio(now - lower, width)
        if w == 20:
            out["ta_bb_width_20"] = k.ratio(upper - lower, middle)
    out |= _smoothed(bars, close)
    windows = sorted({*SMA_GAPS, *(w for pair in SMA_CROSSES for w in pair)})
    log_mean = {w: k.log(k.move_mean(close, w, newest=n)) for w in windows}
    for w in SMA_GAPS:
        out[f"ta_sma_gap_{w}"] = k.ratio(k.log(now) - log_mean[w], sigma)
    for s, w in SMA_CROSSES:
        out[f"ta_sma_cross_{s}_{w}"] = k.ratio(log_mean[s] - log_mean[w], sigma)
    log_close = bars.log_close
    slope = windowed(lambda x: _talib("LINEARREG_SLOPE")(x, 20), log_close, window=20, newest=n)[0]
    out["ta_linreg_slope_20"] = k.ratio(slope, sigma)
    forecast = windowed(lambda x: _talib("TSF")(x, 20), log_close, window=20, newest=n)[0]
    out["ta_tsf_gap_20"] = k.ratio(bars.asked(log_close) - forecast, sigma)
    return out


def _smoothed(bars: OwnSessions, close: np.ndarray) -> dict[str, np.ndarray]:
    """Exponential means of exponential means; each pass reads as far as the next one looks."""
    n, out = bars.n_out, {}
    path = n + _SHORT - 1
    slow = k.ema(close, 26, newest=path)
    ppo = k.ratio(k.ema(close, 12, newest=path) - slow, slow)
    out["ta_ppo_12_26"] = bars.asked(ppo)
    out["ta_ppo_hist_9"] = bars.asked(ppo) - k.ema(ppo, 9, _SHORT, n)
    triple = close
    for passes_left in (2, 1, 0):
        triple = k.ema(triple, 15, _MEDIUM, n + 1 + passes_left * (_MEDIUM - 1))
    out["ta_trix_15"] = k.ratio(bars.asked(triple), k.lag(triple, 1, n)) - 1.0
    path = n + _MEDIUM - 1
    twice = (
        k.ema(k.ema(moves, 25, newest=path), 13, _MEDIUM, n)
        for moves in (bars.log_ret, np.abs(bars.log_ret))
    )
    out["ta_tsi_25_13"] = k.ratio(*twice)
    return out


def _oscillators(
    open_: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray, n: int
) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    hlc = (high, low, close)
    typical = k.recent((high + low + close) / 3.0, n + 62)
    for w in (20, 63):
        cci = windowed(lambda h, lo, c, w=w: _talib("CCI")(h, lo, c, w), *hlc, window=w, newest=n)
        moves = k.move_max(typical, w, newest=n) > k.move_min(typical, w, newest=n)
        out[f"ta_cci_{w}"] = np.where(moves, cci[0], np.nan)
    for w in (14, 63):
        willr = windowed(
            lambda h, lo, c, w=w: _talib("WILLR")(h, lo, c, w), *hlc, window=w, newest=n
        )
        moves = k.move_max(high, w, newest=n) > k.move_min(low, w, newest=n)
        out[f"ta_willr_{w}"] = np.where(moves, willr[0], np.nan)
    fast = windowed(lambda h, lo, c: _talib("STOCHF")(h, lo, c, 14, 3), *hlc, window=16, newest=n)
    moves = k.move_max(high, 14, newest=n + 2) > k.move_min(low, 14, newest=n + 2)
    moves = k.window_sum(moves, 3, n) == 3
    out["ta_stoch_d_14"] = np.where(moves, fast[1], np.nan)
    for w in (25, 63):
        aroon = windowed(
            lambda h, lo, w=w: _talib("AROONOSC")(h, lo, w), high, low, window=w + 1, newest=n
        )
        out[f"ta_aroon_{w}"] = aroon[0]
    ultosc = windowed(
        lambda h, lo, c: _talib("ULTOSC")(h, lo, c, 7, 14, 28), *hlc, window=29, newest=n
    )
    true_range = _true_ranges(*(k.recent(price, n + 7) for price in hlc))
    out["ta_ultosc"] = np.where(k.move_max(true_range, 7, newest=n) > 0.0, ultosc[0], np.nan)
    power = windowed(_talib("BOP"), open_, *hlc, window=1, newest=n + 13)[0]
    power = np.where(k.recent(high > low, n + 13), power, np.nan)
    out["ta_bop_14"] = k.move_mean(power, 14, newest=n)
    return out


def _money_flow(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray, n: int
) -> dict[str, np.ndarray]:
    high, low, close, volume = (k.recent(x, n + 14) for x in (high, low, close, volume))
    typical = (high + low + close) / 3.0
    # a typical price that repeats must not count as a move because of its last bit
    step = np.round(k.ratio(typical, k.lag(typical)) - 1.0, 12)
    flow = typical * volume
    up = np.where(step > 0.0, flow, 0.0 * (step + flow))
    down = np.where(step < 0.0, flow, 0.0 * (step + flow))
    positive, negative = (k.move_sum(x, 14, newest=n) for x in (up, down))
    return {"ta_mfi_14": 100.0 * k.ratio(positive, positive + negative)}


def _true_range(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, n: int
) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    now = k.recent(close, n)
    ranges = _true_ranges(high, low, close)
    atr = k.wilder(ranges, 14, newest=n)
    out["ta_natr_14"] = k.ratio(atr, now)
    out["ta_atr_ratio_14_63"] = k.log(k.ratio(atr, k.wilder(ranges, 63, newest=n)))
    rise, fall = k.diff(high), -k.diff(low)
    unknown = np.isnan(rise) | np.isnan(fall)
    tick = 1e-9 * close  # moves that differ by less are equal, whatever their last bit
    plus = np.where((rise > fall + tick) & (rise > tick), rise, 0.0)
    minus = np.where((fall > rise + tick) & (fall > tick), fall, 0.0)
    path = n + _FULL - 1
    up = k.wilder(np.where(unknown, np.nan, plus), 14, newest=path)
    down = k.wilder(np.where(unknown, np.nan, minus), 14, newest=path)
    direction = k.ratio(up - down, up + down)
    out["ta_di_diff_14"] = k.recent(direction, n)
    out["ta_adx_14"] = 100.0 * k.wilder(np.abs(direction), 14, newest=n)
    rise = np.abs(k.recent(high, n + 13) - k.lag(low, 1, n + 13))
    fall = np.abs(k.recent(low, n + 13) - k.lag(high, 1, n + 13))
    vortex = k.move_sum(rise, 14, newest=n) - k.move_sum(fall, 14, newest=n)
    out["ta_vortex_14"] = k.ratio(vortex, k.move_sum(ranges, 14, newest=n))
    out["ta_keltner_20"] = k.ratio(now - k.ema(close, 20, newest=n), atr)
    spread = k.ema(high - low, 9, _SHORT, n + _SHORT + 23)
    mass = k.ratio(k.recent(spread, n + 24), k.ema(spread, 9, _SHORT, n + 24))
    out["ta_mass_25"] = k.move_sum(mass, 25, newest=n)
    return out


def _mid_prices(bars: OwnSessions, high: np.ndarray, low: np.ndarray) -> dict[str, np.ndarray]:
    n = bars.n_out
    fast = windowed(lambda h, lo: _talib("MIDPRICE")(h, lo, 9), high, low, window=9, newest=n)[0]
    slow = windowed(lambda h, lo: _talib("MIDPRICE")(h, lo, 26), high, low, window=26, newest=n)[0]
    return {"ta_ichimoku_9_26": k.ratio(k.log(k.ratio(fast, slow)), bars.asked(bars.sigma))}


def _true_ranges(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> np.ndarray:
    before = k.lag(close)
    return np.maximum(high, before) - np.minimum(low, before)


def _positive(values: np.ndarray, floor: np.ndarray | float) -> np.ndarray:
    """The values above a floor; below it they are rounding noise and unknown."""
    return np.where(values > floor, values, np.nan)


GROUP = FeatureGroup(
    name="ta",
    title="Technical indicators",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
