"""Windows in which every session weighs the same: sums, moments, extremes and ranks."""

from collections.abc import Callable, Iterator

import bottleneck as bn
import numpy as np
from jaxtyping import Float

MIN_SHARE = 0.8
"""Share of a window's sessions that must hold a number."""

_FEW = 32
"""Windows of one asset up to which all assets are handled at once."""

CONSTANT = 1e-13
"""A variance below this share of the mean square is rounding noise: the window is constant."""


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


def reach(newest: int | None, window: int) -> int | None:
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
    power = recent(values, reach(newest, window)).astype(np.int16 if is_flag else np.float64)
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
    return np.where(variance <= CONSTANT * mean_square, 0.0 * mean_square, variance)


def filled(
    window: int, newest: int | None, *arrays: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Where all arrays hold a number, and the arrays with 0 elsewhere."""
    read = [recent(values, reach(newest, window)) for values in arrays]
    missing = np.isnan(read[0])
    for values in read[1:]:
        missing = missing | np.isnan(values)
    return ~missing, tuple(np.where(missing, 0.0, values) for values in read)


def move_sum(
    values: np.ndarray, window: int, min_obs: int | None = None, newest: int | None = None
) -> np.ndarray:
    """Sum of the numbers in each window; NaN below ``min_obs`` of them."""
    known, (x,) = filled(window, newest, values)
    count = window_sum(known, window, newest)
    return np.where(count >= required(window, min_obs), window_sum(x, window, newest), np.nan)


def move_mean(
    values: np.ndarray, window: int, min_obs: int | None = None, newest: int | None = None
) -> np.ndarray:
    """Mean of the numbers in each window."""
    known, (x,) = filled(window, newest, values)
    return _means(known, window, min_obs, newest, x)[0]


def move_mean_std(
    values: np.ndarray, window: int, min_obs: int | None = None, newest: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population deviation of each window; exactly 0 where the window is constant."""
    known, (x,) = filled(window, newest, values)
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
    known, (x, y) = filled(window, newest, left, right)
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
    known, (x, y) = filled(window, newest, left, right)
    mean_x, mean_y, square_x, square_y, mean_xy = _means(
        known, window, min_obs, newest, x, y, x * x, y * y, x * y
    )
    scale = np.sqrt(_variance(square_x, mean_x) * _variance(square_y, mean_y))
    return np.clip(ratio(mean_xy - mean_x * mean_y, scale), -1.0, 1.0)


def log_mean_ratio(
    values: np.ndarray, short: int, long: int, newest: int | None = None
) -> np.ndarray:
    """ln(mean over the short / over the long window)."""
    means = (move_mean(values, window, newest=newest) for window in (short, long))
    return log(ratio(*means))


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
    known, (x,) = filled(window, newest, values)
    square = x * x
    m1, m2, m3, m4 = _means(known, window, None, newest, x, square, square * x, square * square)
    variance = _variance(m2, m1)
    third = m3 - 3.0 * m1 * m2 + 2.0 * m1 * m1 * m1
    fourth = m4 - 4.0 * m1 * m3 + 6.0 * m1 * m1 * m2 - 3.0 * (m1 * m1) * (m1 * m1)
    return ratio(third, variance * np.sqrt(variance)), ratio(fourth, variance * variance)


def full_windows(
    values: np.ndarray, window: int, newest: int
) -> Iterator[tuple[slice, Float[np.ndarray, "asset session window"]]]:
    """Whole windows that end in the ``newest`` columns, for what needs all of a window's numbers.

    Where they are many, asset by asset, to stay in the cache; where they are few, all assets at
    once. None where the array is shorter than a window.

    Returns:
        Which rows, and their windows, the oldest first; the last one ends in the last column.
    """
    n_full = min(newest, values.shape[1] - window + 1)
    if n_full < 1:
        return
    parts = [slice(a, a + 1) for a in range(len(values))] if n_full > _FEW else [slice(None)]
    for part in parts:
        columns = recent(values[part], reach(n_full, window))
        yield part, np.lib.stride_tricks.sliding_window_view(columns, window, axis=1)


# -- order statistics -------------------------------------------------------------------


def _bottleneck(name: str) -> Callable[..., np.ndarray]:
    move = getattr(bn, name)

    def moving(
        values: np.ndarray, window: int, min_obs: int | None = None, newest: int | None = None
    ) -> np.ndarray:
        values = recent(values, reach(newest, window))
        if values.shape[-1] < window:
            return recent(np.full(values.shape, np.nan), newest)
        return recent(move(values, window, min_count=required(window, min_obs), axis=-1), newest)

    moving.__doc__ = f"bottleneck's ``{name}``: exact, no running sum."
    return moving


move_min = _bottleneck("move_min")
move_max = _bottleneck("move_max")
move_argmin = _bottleneck("move_argmin")
"""Columns since the least value: 0 where the newest is it."""
move_argmax = _bottleneck("move_argmax")
"""Columns since the greatest value: 0 where the newest is it."""
move_rank = _bottleneck("move_rank")
"""Rank of the newest value within its window, from -1 (lowest) to 1."""
