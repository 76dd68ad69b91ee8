"""Rules every report sets beside the network: long-only, 12-month sign, MACD blend.

Raw outputs z in [−1, 1] from closes (NaN off session), volatility-scaled downstream like the
network's. NaN where the asset has no session or too little history. As of: the close of the row.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from tft_core.features.groups.paper import MACD_SCALES

TSMOM_SESSIONS = 252
PRICE_STD_SESSIONS, SIGNAL_STD_SESSIONS = 63, 252
"""As in the Momentum Transformer code; X-Trend's own input (``features.groups.paper``) takes 60."""
KERNEL_SESSIONS = 252
"""Moving averages are truncated here and renormalised, so history length can't matter."""
PEAK = 0.89
"""Divisor of φ in the paper. y·exp(−y²/4) itself peaks at √2·e^(−1/2) = 0.858, so |φ| < 0.97."""


def long_only(close: Float[np.ndarray, "time asset"]) -> Float[np.ndarray, "time asset"]:
    """z = 1 on every session."""
    return np.where(np.isfinite(close), 1.0, np.nan)


def tsmom(close: Float[np.ndarray, "time asset"]) -> Float[np.ndarray, "time asset"]:
    """Sign of the return over the last 252 own sessions.

    Source:
        Moskowitz, Ooi & Pedersen 2012, 12-month time-series momentum.
    """
    return _by_own_sessions(close, _tsmom_of)


def macd_blend(close: Float[np.ndarray, "time asset"]) -> Float[np.ndarray, "time asset"]:
    """Mean over three scales of φ(y) = y·exp(−y²/4)/0.89, y the twice normalised MACD.

    Source:
        Baz et al. 2015, "Dissecting investment strategies", as X-Trend's MACD reference.
    """
    return _by_own_sessions(close, _macd_of)


BASELINES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "long_only": long_only,
    "tsmom_12m": tsmom,
    "macd_blend": macd_blend,
}


def _tsmom_of(price: Float[np.ndarray, " session"]) -> Float[np.ndarray, " session"]:
    z = np.full(len(price), np.nan)
    z[TSMOM_SESSIONS:] = np.sign(price[TSMOM_SESSIONS:] - price[:-TSMOM_SESSIONS])
    return z


def _macd_of(price: Float[np.ndarray, " session"]) -> Float[np.ndarray, " session"]:
    responses = []
    spread = _rolling_std(price, PRICE_STD_SESSIONS)
    for short, long in MACD_SCALES:
        q = (_ewma(price, short) - _ewma(price, long)) / spread
        y = q / _rolling_std(q, SIGNAL_STD_SESSIONS)
        responses.append(y * np.exp(-(y**2) / 4.0) / PEAK)
    return np.clip(np.mean(responses, axis=0), -1.0, 1.0)


def _ewma(price: Float[np.ndarray, " session"], scale: int) -> Float[np.ndarray, " session"]:
    """Average with weights (1 − 1/scale)^k over the last 252 sessions; NaN before them."""
    weights = (1.0 - 1.0 / scale) ** np.arange(KERNEL_SESSIONS)
    out = np.full(len(price), np.nan)
    if len(price) >= KERNEL_SESSIONS:
        windows = np.lib.stride_tricks.sliding_window_view(price, KERNEL_SESSIONS)
        out[KERNEL_SESSIONS - 1 :] = windows @ (weights[::-1] / weights.sum())
    return out


def _rolling_std(
    values: Float[np.ndarray, " session"], sessions: int
) -> Float[np.ndarray, " session"]:
    """Standard deviation of full windows only; NaN where it is 0 or a value is missing."""
    out = np.full(len(values), np.nan)
    if len(values) >= sessions:
        windows = np.lib.stride_tricks.sliding_window_view(values, sessions)
        spread = windows.std(axis=1, ddof=1)
        out[sessions - 1 :] = np.where(spread > 0.0, spread, np.nan)
    return out


def _by_own_sessions(
    close: Float[np.ndarray, "time asset"],
    rule: Callable[[Float[np.ndarray, " session"]], Float[np.ndarray, " session"]],
) -> Float[np.ndarray, "time asset"]:
    """Apply a rule to each asset's own sessions and lay the result back on the dates."""
    out = np.full(close.shape, np.nan)
    has_session: Bool[np.ndarray, "time asset"] = np.isfinite(close)
    for asset in range(close.shape[1]):
        own = has_session[:, asset]
        out[own, asset] = rule(close[own, asset])
    return out
