"""Rolling arithmetic with finite memory on wide (asset, session) arrays.

Rows are assets, columns the asset's own sessions in time order; every function works along
the last axis, looks only backwards and gives NaN where its window is not filled. Sums are
built without subtraction, so a huge value leaves no residue once it has left the window.
Definitions of single features stay in ``groups/``.
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

    Sums of 1, 2, 4, … columns are put together, the same tree of additions in every place, so
    the result depends on the window's numbers alone, to the last bit.

    Args:
        values: Finite numbers, or flags to count.
        window: Number of columns, the current one included.
    """
    power = values.astype(np.int16 if values.dtype == bool else np.float64)
    total, covered, size = None, 0, 1
    while True:
        if window & size:
            total = power.copy() if total is None else _add_lagged(total, power, covered)
            covered += size
        if covered == window:
            return total if total is not None else power
        power = _doubled(power, size)
        size *= 2


def _doubled(power: np.ndarray, columns: int) -> np.ndarray:
    """Sums of twice as many columns."""
    out = np.empty_like(power)
    out[..., :columns] = power[..., :columns]
    np.add(power[..., columns:], power[..., :-columns], out=out[..., columns:])
    return out


def _add_lagged(total: np.ndarray, addend: np.ndarray, columns: int) -> np.ndarray:
    """``total`` plus ``addend`` of ``columns`` columns earlier, in place."""
    if columns < total.shape[-1]:
        total[..., columns:] += addend[..., : total.shape[-1] - columns]
    return total


def _means(
    known: np.ndarray, window: int, min_obs: int | None, *filled: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Window means of several arrays that are 0 where not ``known``."""
    count = window_sum(known, window)
    share = np.where(count >= required(window, min_obs), 1.0 / np.maximum(count, 1), np.nan)
    return tuple(window_sum(values, window) * share for values in filled)


def _variance(mean_square: np.ndarray, mean: np.ndarray) -> np.ndarray:
    variance = mean_square - mean * mean
    return np.where(variance <= _CONSTANT * mean_square, 0.0 * mean_square, variance)


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
    return _means(known, window, min_obs, np.where(known, values, 0.0))[0]


def move_mean_std(
    values: np.ndarray, window: int, min_obs: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population deviation of each window; exactly 0 where the window is constant."""
    known = ~np.isnan(values)
    x = np.where(known, values, 0.0)
    mean, mean_square = _means(known, window, min_obs, x, x * x)
    return mean, np.sqrt(_variance(mean_square, mean))


def move_var(values: np.ndarray, window: int, min_obs: int | None = None) -> np.ndarray:
    """Population variance of each window; exactly 0 where the window is constant."""
    return move_mean_std(values, window, min_obs)[1] ** 2


def move_std(values: np.ndarray, window: int, min_obs: int | None = None) -> np.ndarray:
    """Population standard deviation of each window."""
    return move_mean_std(values, window, min_obs)[1]


def move_cov(
    left: np.ndarray, right: np.ndarray, window: int, min_obs: int | None = None
) -> np.ndarray:
    """Population covariance over the columns where both sides hold a number."""
    known = ~(np.isnan(left) | np.isnan(right))
    x, y = np.where(known, left, 0.0), np.where(known, right, 0.0)
    mean_x, mean_y, mean_xy = _means(known, window, min_obs, x, y, x * y)
    return mean_xy - mean_x * mean_y


def move_corr(
    left: np.ndarray, right: np.ndarray, window: int, min_obs: int | None = None
) -> np.ndarray:
    """Pearson correlation; NaN where a side is constant."""
    known = ~(np.isnan(left) | np.isnan(right))
    x, y = np.where(known, left, 0.0), np.where(known, right, 0.0)
    mean_x, mean_y, square_x, square_y, mean_xy = _means(
        known, window, min_obs, x, y, x * x, y * y, x * y
    )
    scale = np.sqrt(_variance(square_x, mean_x) * _variance(square_y, mean_y))
    return np.clip(ratio(mean_xy - mean_x * mean_y, scale), -1.0, 1.0)


def move_zscore(values: np.ndarray, window: int, min_obs: int | None = None) -> np.ndarray:
    """(value − mean) / population standard deviation of the window that ends with it."""
    mean, deviation = move_mean_std(values, window, min_obs)
    return ratio(values - mean, deviation)


def move_skew_kurt(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Skewness and kurtosis (normal: 3) of each window, from population moments."""
    known = ~np.isnan(values)
    x = np.where(known, values, 0.0)
    square = x * x
    m1, m2, m3, m4 = _means(known, window, None, x, square, square * x, square * square)
    variance = _variance(m2, m1)
    third = m3 - 3.0 * m1 * m2 + 2.0 * m1**3
    fourth = m4 - 4.0 * m1 * m3 + 6.0 * m1**2 * m2 - 3.0 * m1**4
    return ratio(third, variance**1.5), ratio(fourth, variance**2)


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
    out = weighted_sum(values, weights)
    out[..., : len(weights) - 1] = np.nan
    return out


def weighted_sum(values: np.ndarray, weights: Float[np.ndarray, " lag"]) -> np.ndarray:
    """As ``fir``, counting columns before the first as 0."""
    n_rows, length = values.shape
    before = len(weights) - 1
    # rows laid end to end with zeros between them: one convolution instead of one a row
    padded = np.zeros((n_rows + 1, length + before))
    padded[:-1, before:] = values
    filtered = np.convolve(padded.ravel()[: n_rows * (length + before) + before], weights, "valid")
    return filtered.reshape(n_rows, length + before)[:, :length]


def kernel_mass(known: np.ndarray, weights: Float[np.ndarray, " lag"]) -> np.ndarray:
    """Sum of the weights that fall on known values."""
    first, n_known = known.argmax(axis=-1), known.sum(axis=-1)
    last = known.shape[-1] - 1 - known[..., ::-1].argmax(axis=-1)
    if not np.all((n_known == last - first + 1) | (n_known == 0)):
        return weighted_sum(known.astype(np.float64), weights)
    # no gaps: the mass depends on the place since the first value only
    place = np.arange(known.shape[-1]) - first[..., None]
    mass = np.cumsum(weights)[np.clip(place, 0, len(weights) - 1)]
    return np.where(known, mass, 0.0)


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
    mass = kernel_mass(known, weights)
    enough = window_sum(known, max_lag) >= min_obs
    return np.where(enough & known, ratio(total, mass), np.nan)


def ema(values: np.ndarray, span: int, max_lag: int = MAX_LAG) -> np.ndarray:
    """Truncated exponential mean with α = 2/(span + 1)."""
    return ewm_mean(values, 2.0 / (span + 1.0), max_lag)


def wilder(values: np.ndarray, period: int, max_lag: int = MAX_LAG) -> np.ndarray:
    """Truncated Wilder mean, α = 1/period."""
    return ewm_mean(values, 1.0 / period, max_lag)


def ewm_std_daily(returns: Wide, span: int = 60, max_lag: int = MAX_LAG, min_obs: int = 21) -> Wide:
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
    mass, mass_squared = kernel_mass(known, weights), kernel_mass(known, weights**2)
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
