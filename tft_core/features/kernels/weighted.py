"""Windows whose sessions are weighted: truncated exponential means, trends, any finite filter."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from tft_core.data.panel import along_own_sessions
from tft_core.features.kernels.windows import (
    CONSTANT,
    filled,
    lag,
    move_var,
    ratio,
    reach,
    recent,
    window_sum,
)

MAX_LAG = 252
"""Length of a truncated exponential kernel, in sessions, unless a definition says less."""

_CONVOLVE = 1_500
"""Result columns × columns read below which a weighted sum is summed directly."""
_FEW_SUMS = 1_024
"""Result columns up to which one call for all rows is faster than a convolution of each."""


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
    values = recent(values, reach(newest, len(weights)))
    n_rows, length = values.shape
    if newest is not None and newest * length < _CONVOLVE and newest <= length:
        return _single_sums(values, weights, newest)
    if newest is not None and length == newest + before:
        # every sum asked for is whole: nothing to pad
        if newest <= _FEW_SUMS:
            windows = np.lib.stride_tricks.sliding_window_view(values, len(weights), axis=1)
            return np.vecdot(windows, weights[::-1].copy())  # the sums of convolve, bit by bit
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
    known, (x,) = filled(max_lag, newest, values)
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
    returns: Float[np.ndarray, "asset session"],
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
    known, (x,) = filled(max_lag, newest, returns)
    weights = ewm_weights(2.0 / (span + 1.0), max_lag)
    mass, mass_squared = (kernel_mass(known, w, newest) for w in (weights, weights**2))
    mean = ratio(weighted_sum(x, weights, newest), mass)
    square = ratio(weighted_sum(x * x, weights, newest), mass)
    biased = square - mean * mean
    biased = np.where(biased <= CONSTANT * square, np.nan, biased)
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


def trend_t(values: np.ndarray, window: int, newest: int | None = None) -> np.ndarray:
    """Least-squares slope over its standard error, with window − 2 degrees of freedom."""
    slope, residual = trend(values, window, newest)
    error = np.sqrt(residual * window / (window - 2.0) / (window * (window**2 - 1.0) / 12.0))
    return ratio(slope, error)


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
