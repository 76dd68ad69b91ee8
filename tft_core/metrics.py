"""Performance figures of a daily return series, with their errors.

An undefined figure is NaN: the Sharpe ratio of constant returns is unknown, not zero.
"""

import numpy as np
from jaxtyping import Float

from tft_core.schema import TRADING_DAYS_PER_YEAR


def sharpe_ann(returns: Float[np.ndarray, " time"]) -> float:
    """Annualised Sharpe ratio of daily returns; NaN below two days or without spread.

    Source:
        Sharpe 1994, the ex-post ratio, with the sample standard deviation (ddof 1).
    """
    if len(returns) < 2:
        return float("nan")
    spread = float(np.std(returns - returns[0], ddof=1))
    if not spread > 0.0:
        return float("nan")
    return float(np.mean(returns)) / spread * TRADING_DAYS_PER_YEAR**0.5


def sharpe_se_ann(returns: Float[np.ndarray, " time"], lags: int | None = None) -> float:
    """Standard error of the annualised Sharpe ratio, robust to serial correlation.

    The influence function of mean/std is averaged with a Newey–West (Bartlett) kernel.

    Args:
        lags: Bandwidth in days; default ``newey_west_lags``.

    Source:
        Lo 2002, "The Statistics of Sharpe Ratios", GMM form.
    """
    n = len(returns)
    sr = sharpe_ann(returns) / TRADING_DAYS_PER_YEAR**0.5
    if n < 10 or np.isnan(sr):
        return float("nan")
    z = (returns - returns.mean()) / returns.std(ddof=1)
    influence = z - 0.5 * sr * (z**2 - 1.0)
    bandwidth = newey_west_lags(n) if lags is None else lags
    variance = float(influence @ influence) / n
    for lag in range(1, bandwidth + 1):
        weight = 1.0 - lag / (bandwidth + 1)
        variance += 2.0 * weight * float(influence[lag:] @ influence[:-lag]) / n
    return float(np.sqrt(max(variance, 0.0) / n) * TRADING_DAYS_PER_YEAR**0.5)


def newey_west_lags(n_days: int) -> int:
    """Bandwidth in days of a Newey–West (Bartlett) variance: floor(4 (T/100)^(2/9)).

    Source:
        Newey & West 1994, the rule of thumb.
    """
    return int(4 * (n_days / 100) ** (2 / 9))


def total_return(returns: Float[np.ndarray, " time"]) -> float:
    """Compounded return of the whole series, as a fraction; NaN for an empty one."""
    return float(np.prod(1.0 + returns) - 1.0) if len(returns) else float("nan")


def max_drawdown(returns: Float[np.ndarray, " time"]) -> float:
    """Largest fall of compounded wealth from its running peak, as a positive fraction."""
    if not len(returns):
        return float("nan")
    wealth = np.cumprod(np.concatenate([[1.0], 1.0 + returns]))
    return float(np.max(1.0 - wealth / np.maximum.accumulate(wealth)))


def vol_ann(returns: Float[np.ndarray, " time"]) -> float:
    """Annualised volatility of daily returns; NaN below two days."""
    if len(returns) < 2:
        return float("nan")
    return float(np.std(returns, ddof=1)) * TRADING_DAYS_PER_YEAR**0.5


def summary(
    net: Float[np.ndarray, " time"],
    gross: Float[np.ndarray, " time"],
    turnover: Float[np.ndarray, " time"],
) -> dict[str, float]:
    """The figures every report shows of one path, undefined ones as NaN."""
    return {
        "sharpe_net": sharpe_ann(net),
        "sharpe_se": sharpe_se_ann(net),
        "sharpe_gross": sharpe_ann(gross),
        "return_total": total_return(net),
        "vol_ann": vol_ann(net),
        "max_drawdown": max_drawdown(net),
        "turnover_ann": float(np.mean(turnover)) * TRADING_DAYS_PER_YEAR
        if len(turnover)
        else float("nan"),
        "n_days": float(len(net)),
    }
