"""Rolling arithmetic with finite memory on wide (asset, session) arrays.

Rows are assets, columns the asset's own sessions in time order; every function works along
the last axis, looks only backwards and gives NaN where its window is not filled. Sums are
built without subtraction (block prefix plus suffix), so a huge value leaves no residue once
it has left the window. Definitions of single features stay in ``groups/``.
"""

from collections.abc import Callable

import bottleneck as bn
import numpy as np
from jaxtyping import Float

MAX_LAG = 252
"""Length of a truncated exponential kernel, in sessions, unless a definition says less."""

MIN_SHARE = 0.8
"""Share of a window's sessions that must hold a number."""

_CONSTANT = 1e-13
"""A variance below this share of the mean square is rounding noise: the window is constant."""

Wide = Float[np.ndarray, "asset session"]


def ratio(numerator: np.ndarray | float, denominator: np.ndarray | float) -> np.ndarray:
    """Quotient that is NaN wherever it is undefined: 0/0, x/0, or not finite."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = np.asarray(numerator, dtype=np.float64) / denominator
    return finite(quotient)


def finite(values: np.ndarray) -> np.ndarray:
    """The values, with infinities as NaN."""
    return np.where(np.isfinite(values), values, np.nan)


def log(values: np.ndarray) -> np.ndarray:
    """Natural logarithm; NaN for zero and negative numbers."""
    return np.log(np.where(values > 0.0, values, np.nan))


def lag(values: np.ndarray, sessions: int = 1) -> np.ndarray:
    """Value of ``sessions`` columns earlier."""
    out = np.full(values.shape, np.nan)
    if sessions == 0:
        out[...] = values
    elif sessions < values.shape[-1]:
        out[..., sessions:] = values[..., :-sessions]
    return out


def diff(values: np.ndarray, sessions: int = 1) -> np.ndarray:
    """Value minus the value ``sessions`` columns earlier."""
    return values - lag(values, sessions)


def required(window: int, min_obs: int | None) -> int:
    """Numbers a window needs: ``min_obs``, by default the minimal share of its length."""
    return int(np.ceil(MIN_SHARE * window)) if min_obs is None else min_obs


# -- sums and moments -------------------------------------------------------------------


def window_sum(values: np.ndarray, window: int) -> np.ndarray:
    """Sum over the last ``window`` columns of an array without NaN; short at the start.

    Args:
        values: Finite numbers only.
        window: Number of columns, the current one included.
    """
    if window == 1:
        return values.astype(np.float64)
    length = values.shape[-1]
    blocks = -(-length // window)
    padded = np.zeros((*values.shape[:-1], blocks * window))
    padded[..., :length] = values
    cut = padded.reshape(*values.shape[:-1], blocks, window)
    head = np.cumsum(cut, axis=-1).reshape(padded.shape)
    tail = np.cumsum(cut[..., ::-1], axis=-1)[..., ::-1].reshape(padded.shape)
    # a window ending at t is the rest of one block (from t-window+1) plus the start of the next
    total = head[..., :length].copy()
    start = tail[..., 1 : max(length - window + 1, 1)]
    spans_two = np.arange(window, length) % window != window - 1
    total[..., window:] += np.where(spans_two, start, 0.0)
    return total


def move_count(values: np.ndarray, window: int) -> np.ndarray:
    """Number of non-NaN values in each window."""
    return window_sum(~np.isnan(values), window)


def move_sum(values: np.ndarray, window: int, min_obs: int | None = None) -> np.ndarray:
    """Sum of the numbers in each window; NaN below ``min_obs`` of them."""
    known = ~np.isnan(values)
    total = window_sum(np.where(known, values, 0.0), window)
    return np.where(window_sum(known, window) >= required(window, min_obs), total, np.nan)


def move_mean(values: np.ndarray, window: int, min_obs: int | None = None) -> np.ndarray:
    """Mean of the numbers in each window."""
    known = ~np.isnan(values)
    count = window_sum(known, window)
    total = window_sum(np.where(known, values, 0.0), window)
    return np.where(count >= required(window, min_obs), ratio(total, count), np.nan)


def move_var(values: np.ndarray, window: int, min_obs: int | None = None) -> np.ndarray:
    """Population variance of each window; exactly 0 where the window is constant."""
    return move_cov(values, values, window, min_obs)


def move_std(values: np.ndarray, window: int, min_obs: int | None = None) -> np.ndarray:
    """Population standard deviation of each window."""
    return np.sqrt(move_var(values, window, min_obs))


def move_cov(
    left: np.ndarray, right: np.ndarray, window: int, min_obs: int | None = None
) -> np.ndarray:
    """Population covariance over the columns where both sides hold a number."""
    known = ~(np.isnan(left) | np.isnan(right))
    count = window_sum(known, window)
    count = np.where(count >= required(window, min_obs), count, np.nan)
    x, y = np.where(known, left, 0.0), np.where(known, right, 0.0)
    mean_x = window_sum(x, window) / count
    mean_y = mean_x if left is right else window_sum(y, window) / count
    mean_xy = window_sum(x * y, window) / count
    covariance = mean_xy - mean_x * mean_y
    if left is not right:
        return covariance
    return np.where(covariance <= _CONSTANT * mean_xy, 0.0 * mean_xy, covariance)


def move_corr(
    left: np.ndarray, right: np.ndarray, window: int, min_obs: int | None = None
) -> np.ndarray:
    """Pearson correlation; NaN where a side is constant."""
    missing = np.isnan(left) | np.isnan(right)
    x, y = np.where(missing, np.nan, left), np.where(missing, np.nan, right)
    scale = np.sqrt(move_var(x, window, min_obs) * move_var(y, window, min_obs))
    return np.clip(ratio(move_cov(x, y, window, min_obs), scale), -1.0, 1.0)


def move_zscore(values: np.ndarray, window: int, min_obs: int | None = None) -> np.ndarray:
    """(value − mean) / population standard deviation of the window that ends with it."""
    return ratio(values - move_mean(values, window, min_obs), move_std(values, window, min_obs))


def move_moment_ratio(values: np.ndarray, window: int, order: int) -> np.ndarray:
    """Standardised central moment: 3 the skewness, 4 the kurtosis (normal: 3)."""
    m1, m2, m3 = (move_mean(values**k, window) for k in (1, 2, 3))
    variance = move_var(values, window)
    if order == 3:
        return ratio(m3 - 3.0 * m1 * m2 + 2.0 * m1**3, variance**1.5)
    m4 = move_mean(values**4, window)
    return ratio(m4 - 4.0 * m1 * m3 + 6.0 * m1**2 * m2 - 3.0 * m1**4, variance**2)


# -- order statistics -------------------------------------------------------------------


def _bottleneck(name: str) -> Callable[..., np.ndarray]:
    move = getattr(bn, name)

    def moving(values: np.ndarray, window: int, min_obs: int | None = None) -> np.ndarray:
        if values.shape[-1] < window:
            return np.full(values.shape, np.nan)
        return move(values, window, min_count=required(window, min_obs), axis=-1)

    moving.__doc__ = f"bottleneck's ``{name}``: exact, no running sum."
    return moving


move_min, move_max = _bottleneck("move_min"), _bottleneck("move_max")
move_argmin, move_argmax = _bottleneck("move_argmin"), _bottleneck("move_argmax")
"""Columns since the extreme: 0 where the newest value is it."""
move_median = _bottleneck("move_median")
move_rank = _bottleneck("move_rank")
"""Rank of the newest value within its window, from -1 (lowest) to 1."""


# -- kernels ----------------------------------------------------------------------------


def fir(values: np.ndarray, weights: Float[np.ndarray, " lag"]) -> np.ndarray:
    """Σ_k weights[k] · value(t − k); NaN while the window is short or holds a NaN."""
    length = values.shape[-1]
    out = np.full(values.shape, np.nan)
    if length >= len(weights):
        for row, filtered in zip(values, out, strict=True):
            filtered[len(weights) - 1 :] = np.convolve(row, weights, mode="valid")
    return out


def weighted_sum(values: np.ndarray, weights: Float[np.ndarray, " lag"]) -> np.ndarray:
    """As ``fir`` for an array without NaN, counting columns before the first as 0."""
    length = values.shape[-1]
    return np.stack([np.convolve(row, weights)[:length] for row in values])


def ewm_weights(alpha: float, max_lag: int = MAX_LAG) -> Float[np.ndarray, " lag"]:
    """(1 − α)^k for k < ``max_lag``: an exponential kernel that ends."""
    return (1.0 - alpha) ** np.arange(max_lag)


def ewm_mean(
    values: np.ndarray, alpha: float, max_lag: int = MAX_LAG, min_obs: int = 1
) -> np.ndarray:
    """Exponentially weighted mean over the last ``max_lag`` columns, renormalised.

    Weights of missing values are left out and the others sum to 1, so the result does not
    depend on how much older history there is.

    Source:
        pandas ``ewm(alpha=…, adjust=True)`` applied to the trailing window.
    """
    known = ~np.isnan(values)
    weights = ewm_weights(alpha, max_lag)
    total = weighted_sum(np.where(known, values, 0.0), weights)
    mass = weighted_sum(known.astype(np.float64), weights)
    enough = window_sum(known, max_lag) >= min_obs
    return np.where(enough & known, ratio(total, mass), np.nan)


def ema(values: np.ndarray, span: int, max_lag: int = MAX_LAG) -> np.ndarray:
    """Truncated exponential mean with α = 2/(span + 1)."""
    return ewm_mean(values, 2.0 / (span + 1.0), max_lag)


def wilder(values: np.ndarray, period: int, max_lag: int = MAX_LAG) -> np.ndarray:
    """Truncated Wilder mean, α = 1/period."""
    return ewm_mean(values, 1.0 / period, max_lag)


def ewm_std_daily(
    returns: Wide, span: int = 60, max_lag: int = MAX_LAG, min_obs: int = 21
) -> Wide:
    """Exponentially weighted standard deviation of daily returns, truncated and unbiased.

    Args:
        returns: Simple daily returns over own sessions.
        span: α = 2/(span + 1).
        max_lag: Sessions the kernel reaches back; the weights are renormalised.
        min_obs: Returns needed before the first value.

    Source:
        X-Trend (arXiv 2310.10500v2) §3: σ_t with a 60-day span; the estimator is pandas
        ``ewm(span).std()`` on the trailing window.
    """
    known = ~np.isnan(returns)
    weights = ewm_weights(2.0 / (span + 1.0), max_lag)
    x = np.where(known, returns, 0.0)
    mass = weighted_sum(known.astype(np.float64), weights)
    mass_squared = weighted_sum(known.astype(np.float64), weights**2)
    mean = ratio(weighted_sum(x, weights), mass)
    square = ratio(weighted_sum(x * x, weights), mass)
    biased = square - mean * mean
    biased = np.where(biased <= _CONSTANT * square, np.nan, biased)
    unbiased = ratio(biased * mass * mass, mass * mass - mass_squared)
    enough = window_sum(known, max_lag) >= min_obs
    return np.where(enough & known, np.sqrt(unbiased), np.nan)


def trend_weights(window: int) -> Float[np.ndarray, " lag"]:
    """Kernel whose weighted sum is the least-squares slope per column over the window."""
    centred = (window - 1) / 2.0 - np.arange(window)
    return centred / (centred**2).sum()


def trend(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares slope per column and residual variance of each window."""
    slope = fir(values, trend_weights(window))
    total = move_var(values, window, window)
    explained = slope**2 * (window**2 - 1.0) / 12.0
    residual = total - explained
    return slope, np.where(residual <= 1e-12 * total, 0.0 * total, residual)


# -- dates × assets ---------------------------------------------------------------------


def daily_volatility(close: Float[np.ndarray, "time asset"]) -> Float[np.ndarray, "time asset"]:
    """σ_t of each asset: exponentially weighted deviation (span 60) of its daily returns.

    Counted on the asset's own sessions, over at most 252 of them and at least 21 returns.
    NaN off its sessions, on shorter histories and where prices have not moved.

    As of:
        The close of row t.
    """
    has_session = np.isfinite(close)
    order = np.argsort(~has_session, axis=0, kind="stable")
    is_own = np.take_along_axis(has_session, order, axis=0)
    packed = np.where(is_own, np.take_along_axis(close, order, axis=0), np.nan).T
    packed = np.where(packed > 0.0, packed, np.nan)
    sigma = ewm_std_daily(ratio(packed, lag(packed)) - 1.0).T
    out = np.full(close.shape, np.nan)
    np.put_along_axis(out, order, np.where(is_own, sigma, np.nan), axis=0)
    return out
