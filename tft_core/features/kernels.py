"""Rolling arithmetic with finite memory on wide (asset, session) arrays.

Rows are assets, columns the asset's own sessions in time order; every function works along
the last axis, looks only backwards and gives NaN where its window is not filled. Sums are
built without subtraction, so a huge value leaves no residue once it has left the window.
Functions of a window take ``newest``: only so many of the newest columns are computed and
returned, which is what makes a single day cheap. Definitions of single features stay in
``groups/``.
"""

from collections.abc import Callable
from functools import lru_cache

import bottleneck as bn
import numpy as np
from jaxtyping import Float

from tft_core.data.panel import along_own_sessions

MAX_LAG = 252
"""Length of a truncated exponential kernel, in sessions, unless a definition says less."""

MIN_SHARE = 0.8
"""Share of a window's sessions that must hold a number."""

_CONVOLVE = 1_500
"""Result columns × columns read below which a weighted sum is summed directly."""

_CONSTANT = 1e-13
"""A variance below this share of the mean square is rounding noise: the window is constant."""

Wide = Float[np.ndarray, "asset session"]


def ratio(numerator: np.ndarray | float, denominator: np.ndarray | float) -> np.ndarray:
    """Quotient that is NaN wherever it is undefined: 0/0, x/0, or not finite."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = np.asarray(numerator, dtype=np.float64) / denominator
    is_finite = np.isfinite(quotient)
    return quotient if is_finite.all() else np.where(is_finite, quotient, np.nan)


def log(values: np.ndarray) -> np.ndarray:
    """Natural logarithm; NaN for zero and negative numbers."""
    return np.log(np.where(values > 0.0, values, np.nan))


def recent(values: np.ndarray, columns: int | None) -> np.ndarray:
    """The newest columns of an array, or all there are."""
    width = values.shape[-1]
    return values if columns is None or columns >= width else values[..., width - columns :]


def _reach(newest: int | None, window: int) -> int | None:
    """Columns that a window reads for its ``newest`` results."""
    return None if newest is None else newest + window - 1


def lag(values: np.ndarray, sessions: int = 1, newest: int | None = None) -> np.ndarray:
    """Value of ``sessions`` columns earlier."""
    width = values.shape[-1]
    if newest is not None and newest + sessions <= width:
        return values[..., width - newest - sessions : width - sessions]
    return recent(_lagged(values, sessions), newest)


def _lagged(values: np.ndarray, sessions: int) -> np.ndarray:
    out = np.full(values.shape, np.nan)
    if sessions == 0:
        out[...] = values
    elif sessions < values.shape[-1]:
        out[..., sessions:] = values[..., :-sessions]
    return out


def diff(values: np.ndarray, sessions: int = 1, newest: int | None = None) -> np.ndarray:
    """Value minus the value ``sessions`` columns earlier."""
    return recent(values, newest) - lag(values, sessions, newest)


def required(window: int, min_obs: int | None) -> int:
    """Numbers a window needs: ``min_obs``, by default the minimal share of its length."""
    return int(np.ceil(MIN_SHARE * window)) if min_obs is None else min_obs


# -- sums and moments -------------------------------------------------------------------


def window_sum(values: np.ndarray, window: int, newest: int | None = None) -> np.ndarray:
    """Sum over the last ``window`` columns of an array without NaN; short at the start.

    Sums of 1, 2, 4, … columns are put together, the same tree of additions in every place, so
    the result depends on the window's numbers alone, to the last bit. (The newest column alone
    is summed in one go, which may differ from the tree in the last bit.)

    Args:
        values: Finite numbers, or flags to count.
        window: Number of columns, the current one included.
        newest: Columns of the result.
    """
    is_flag = values.dtype == bool
    if newest == 1 and values.shape[-1]:
        total = recent(values, window).sum(axis=-1, keepdims=True)
        return total.astype(np.int16) if is_flag else total
    power = recent(values, _reach(newest, window)).astype(np.int16 if is_flag else np.float64)
    total, covered, size = None, 0, 1
    while True:
        if window & size:
            total = power.copy() if total is None else _add_lagged(total, power, covered)
            covered += size
        if covered == window:
            return recent(total if total is not None else power, newest)
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
    known: np.ndarray, window: int, min_obs: int | None, newest: int | None, *filled: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Window means of several arrays that are 0 where not ``known``."""
    count = window_sum(known, window, newest)
    share = np.where(count >= required(window, min_obs), 1.0 / np.maximum(count, 1), np.nan)
    return tuple(window_sum(values, window, newest) * share for values in filled)


def _variance(mean_square: np.ndarray, mean: np.ndarray) -> np.ndarray:
    variance = mean_square - mean * mean
    return np.where(variance <= _CONSTANT * mean_square, 0.0 * mean_square, variance)


def _filled(
    window: int, newest: int | None, *arrays: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Where all arrays hold a number, and the arrays with 0 elsewhere."""
    read = [recent(values, _reach(newest, window)) for values in arrays]
    missing = np.isnan(read[0])
    for values in read[1:]:
        missing = missing | np.isnan(values)
    return ~missing, tuple(np.where(missing, 0.0, values) for values in read)


def move_sum(
    values: np.ndarray, window: int, min_obs: int | None = None, newest: int | None = None
) -> np.ndarray:
    """Sum of the numbers in each window; NaN below ``min_obs`` of them."""
    known, (x,) = _filled(window, newest, values)
    count = window_sum(known, window, newest)
    return np.where(count >= required(window, min_obs), window_sum(x, window, newest), np.nan)


def move_mean(
    values: np.ndarray, window: int, min_obs: int | None = None, newest: int | None = None
) -> np.ndarray:
    """Mean of the numbers in each window."""
    known, (x,) = _filled(window, newest, values)
    return _means(known, window, min_obs, newest, x)[0]


def move_mean_std(
    values: np.ndarray, window: int, min_obs: int | None = None, newest: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population deviation of each window; exactly 0 where the window is constant."""
    known, (x,) = _filled(window, newest, values)
    mean, mean_square = _means(known, window, min_obs, newest, x, x * x)
    return mean, np.sqrt(_variance(mean_square, mean))


def move_var(
    values: np.ndarray, window: int, min_obs: int | None = None, newest: int | None = None
) -> np.ndarray:
    """Population variance of each window; exactly 0 where the window is constant."""
    return move_mean_std(values, window, min_obs, newest)[1] ** 2


def move_std(
    values: np.ndarray, window: int, min_obs: int | None = None, newest: int | None = None
) -> np.ndarray:
    """Population standard deviation of each window."""
    return move_mean_std(values, window, min_obs, newest)[1]


def move_cov(
    left: np.ndarray,
    right: np.ndarray,
    window: int,
    min_obs: int | None = None,
    newest: int | None = None,
) -> np.ndarray:
    """Population covariance over the columns where both sides hold a number."""
    known, (x, y) = _filled(window, newest, left, right)
    mean_x, mean_y, mean_xy = _means(known, window, min_obs, newest, x, y, x * y)
    return mean_xy - mean_x * mean_y


def move_corr(
    left: np.ndarray,
    right: np.ndarray,
    window: int,
    min_obs: int | None = None,
    newest: int | None = None,
) -> np.ndarray:
    """Pearson correlation; NaN where a side is constant."""
    known, (x, y) = _filled(window, newest, left, right)
    mean_x, mean_y, square_x, square_y, mean_xy = _means(
        known, window, min_obs, newest, x, y, x * x, y * y, x * y
    )
    scale = np.sqrt(_variance(square_x, mean_x) * _variance(square_y, mean_y))
    return np.clip(ratio(mean_xy - mean_x * mean_y, scale), -1.0, 1.0)


def move_zscore(
    values: np.ndarray, window: int, min_obs: int | None = None, newest: int | None = None
) -> np.ndarray:
    """(value − mean) / population standard deviation of the window that ends with it."""
    mean, deviation = move_mean_std(values, window, min_obs, newest)
    return ratio(recent(values, newest) - mean, deviation)


def move_skew_kurt(
    values: np.ndarray, window: int, newest: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Skewness and kurtosis (normal: 3) of each window, from population moments."""
    known, (x,) = _filled(window, newest, values)
    square = x * x
    m1, m2, m3, m4 = _means(known, window, None, newest, x, square, square * x, square * square)
    variance = _variance(m2, m1)
    third = m3 - 3.0 * m1 * m2 + 2.0 * m1 * m1 * m1
    fourth = m4 - 4.0 * m1 * m3 + 6.0 * m1 * m1 * m2 - 3.0 * (m1 * m1) * (m1 * m1)
    return ratio(third, variance * np.sqrt(variance)), ratio(fourth, variance * variance)


# -- order statistics -------------------------------------------------------------------


def _bottleneck(name: str) -> Callable[..., np.ndarray]:
    move = getattr(bn, name)

    def moving(
        values: np.ndarray, window: int, min_obs: int | None = None, newest: int | None = None
    ) -> np.ndarray:
        values = recent(values, _reach(newest, window))
        if values.shape[-1] < window:
            return recent(np.full(values.shape, np.nan), newest)
        return recent(move(values, window, min_count=required(window, min_obs), axis=-1), newest)

    moving.__doc__ = f"bottleneck's ``{name}``: exact, no running sum."
    return moving


move_min, move_max = _bottleneck("move_min"), _bottleneck("move_max")
move_argmin, move_argmax = _bottleneck("move_argmin"), _bottleneck("move_argmax")
"""Columns since the extreme: 0 where the newest value is it."""
move_median = _bottleneck("move_median")
move_rank = _bottleneck("move_rank")
"""Rank of the newest value within its window, from -1 (lowest) to 1."""


# -- kernels ----------------------------------------------------------------------------


def fir(
    values: np.ndarray, weights: Float[np.ndarray, " lag"], newest: int | None = None
) -> np.ndarray:
    """Σ_k weights[k] · value(t − k); NaN while the window is short or holds a NaN."""
    out = weighted_sum(values, weights, newest)
    n_short = len(weights) - 1 - (values.shape[-1] - out.shape[-1])
    out[..., : max(n_short, 0)] = np.nan
    return out


def weighted_sum(
    values: np.ndarray, weights: Float[np.ndarray, " lag"], newest: int | None = None
) -> np.ndarray:
    """As ``fir``, counting columns before the first as 0."""
    before = len(weights) - 1
    values = recent(values, _reach(newest, len(weights)))
    n_rows, length = values.shape
    if newest is not None and newest * length < _CONVOLVE and newest <= length:
        return _single_sums(values, weights, newest)
    if newest is not None and length == newest + before:
        # every sum asked for is whole: nothing to pad
        whole = [np.convolve(row, weights, "valid") for row in values]
        return np.array(whole).reshape(n_rows, newest)
    # rows laid end to end with zeros between them: one convolution instead of one a row
    padded = np.zeros((n_rows + 1, length + before))
    padded[:-1, before:] = values
    filtered = np.convolve(padded.ravel()[: n_rows * (length + before) + before], weights, "valid")
    return recent(filtered.reshape(n_rows, length + before)[:, :length], newest)


def _single_sums(values: np.ndarray, weights: np.ndarray, newest: int) -> np.ndarray:
    """A few columns of ``weighted_sum``, each summed by itself."""
    out = np.empty((len(values), newest))
    width = values.shape[-1]
    for column in range(newest):
        end = width - newest + column + 1
        window = values[:, max(end - len(weights), 0) : end]
        out[:, column] = (window * weights[: window.shape[1]][::-1]).sum(axis=1)
    return out


def kernel_mass(
    known: np.ndarray, weights: Float[np.ndarray, " lag"], newest: int | None = None
) -> np.ndarray:
    """Sum of the weights that fall on known values."""
    if newest is not None and known.shape[-1] >= newest + len(weights) - 1 and known.all():
        return np.full((len(known), newest), np.cumsum(weights)[-1])
    return recent(_kernel_mass(known, weights), newest)


def _kernel_mass(known: np.ndarray, weights: np.ndarray) -> np.ndarray:
    first, n_known = known.argmax(axis=-1), known.sum(axis=-1)
    last = known.shape[-1] - 1 - known[..., ::-1].argmax(axis=-1)
    # without gaps the mass depends on the place since the first value only
    place = np.arange(known.shape[-1]) - first[..., None]
    mass = np.cumsum(weights)[np.clip(place, 0, len(weights) - 1)]
    mass = np.where(known, mass, 0.0)
    # row by row: what one asset gets must not depend on the others of its chunk
    has_gap = (n_known != last - first + 1) & (n_known > 0)
    if has_gap.any():
        mass[has_gap] = weighted_sum(known[has_gap].astype(np.float64), weights)
    return mass


@lru_cache(maxsize=128)
def ewm_weights(alpha: float, max_lag: int = MAX_LAG) -> Float[np.ndarray, " lag"]:
    """(1 − α)^k for k < ``max_lag``: an exponential kernel that ends."""
    weights = (1.0 - alpha) ** np.arange(max_lag)
    weights.flags.writeable = False
    return weights


def ewm_mean(
    values: np.ndarray,
    alpha: float,
    max_lag: int = MAX_LAG,
    min_obs: int = 1,
    newest: int | None = None,
) -> np.ndarray:
    """Exponentially weighted mean over the last ``max_lag`` columns, renormalised.

    Weights of missing values are left out and the others sum to 1, so the result does not
    depend on how much older history there is.

    Source:
        pandas ``ewm(alpha=…, adjust=True)`` applied to the trailing window.
    """
    known, (x,) = _filled(max_lag, newest, values)
    weights = ewm_weights(alpha, max_lag)
    total = weighted_sum(x, weights, newest)
    mass = kernel_mass(known, weights, newest)
    is_valid = recent(known, newest)
    if min_obs > 1:
        is_valid = is_valid & (window_sum(known, max_lag, newest) >= min_obs)
    return np.where(is_valid, ratio(total, mass), np.nan)


def ema(
    values: np.ndarray, span: int, max_lag: int = MAX_LAG, newest: int | None = None
) -> np.ndarray:
    """Truncated exponential mean with α = 2/(span + 1)."""
    return ewm_mean(values, 2.0 / (span + 1.0), max_lag, newest=newest)


def wilder(
    values: np.ndarray, period: int, max_lag: int = MAX_LAG, newest: int | None = None
) -> np.ndarray:
    """Truncated Wilder mean, α = 1/period."""
    return ewm_mean(values, 1.0 / period, max_lag, newest=newest)


def ewm_std_daily(
    returns: Wide,
    span: int = 60,
    max_lag: int = MAX_LAG,
    min_obs: int = 21,
    newest: int | None = None,
) -> Float[np.ndarray, "asset newest_session"]:
    """Exponentially weighted standard deviation of daily returns, truncated and unbiased.

    Args:
        returns: Simple daily returns over own sessions.
        span: α = 2/(span + 1).
        max_lag: Sessions the kernel reaches back; the weights are renormalised.
        min_obs: Returns needed before the first value.
        newest: Columns of the result.

    Source:
        X-Trend (arXiv 2310.10500v2) §3: σ_t with a 60-day span; the estimator is pandas
        ``ewm(span).std()`` on the trailing window.
    """
    known, (x,) = _filled(max_lag, newest, returns)
    weights = ewm_weights(2.0 / (span + 1.0), max_lag)
    mass, mass_squared = (kernel_mass(known, w, newest) for w in (weights, weights**2))
    mean = ratio(weighted_sum(x, weights, newest), mass)
    square = ratio(weighted_sum(x * x, weights, newest), mass)
    biased = square - mean * mean
    biased = np.where(biased <= _CONSTANT * square, np.nan, biased)
    unbiased = ratio(biased * mass * mass, mass * mass - mass_squared)
    enough = window_sum(known, max_lag, newest) >= min_obs
    return np.where(enough & recent(known, newest), np.sqrt(unbiased), np.nan)


def trend_weights(window: int) -> Float[np.ndarray, " lag"]:
    """Kernel whose weighted sum is the least-squares slope per column over the window."""
    centred = (window - 1) / 2.0 - np.arange(window)
    return centred / (centred**2).sum()


def trend(
    values: np.ndarray, window: int, newest: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares slope per column and residual variance of each window."""
    slope = fir(values, trend_weights(window), newest)
    total = move_var(values, window, window, newest)
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

    def sigma(packed: Float[np.ndarray, "session asset"]) -> Float[np.ndarray, "session asset"]:
        price = np.where(packed > 0.0, packed, np.nan).T
        return ewm_std_daily(ratio(price, lag(price)) - 1.0).T

    return along_own_sessions(close, np.isfinite(close), sigma)
