"""How much of a best-of-many Sharpe ratio is the choosing.

Probabilistic and deflated Sharpe ratio, the maximum to expect on noise, the number of trials
that effectively differed, and the record length that would convince.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from tft_core.errors import ConfigError
from tft_core.metrics import sharpe_ann
from tft_core.schema import TRADING_DAYS_PER_YEAR

_ANNUAL = TRADING_DAYS_PER_YEAR**0.5


def probabilistic_sharpe(
    returns: Float[np.ndarray, " time"], *, benchmark_ann: float = 0.0
) -> float:
    """Probability that the true Sharpe ratio exceeds a benchmark, given length, skew and tails.

    NaN where the returns have no Sharpe ratio (constant, or fewer than two).

    Args:
        returns: Daily returns.
        benchmark_ann: Annualised Sharpe ratio to beat.

    Source:
        Bailey & López de Prado 2012, "The Sharpe Ratio Efficient Frontier"; skfolio.
    """
    from skfolio.measures import probabilistic_sharpe_ratio  # loads scikit-learn and plotly

    if math.isnan(sharpe_ann(returns)):
        return float("nan")
    return float(
        probabilistic_sharpe_ratio(returns, benchmark_sharpe_ratio=benchmark_ann / _ANNUAL)
    )


def expected_max_sharpe_ann(n_trials: float, dispersion_ann: float) -> float:
    """Annualised Sharpe ratio that the best of ``n_trials`` shows when all of them are worth 0.

    Args:
        n_trials: Trials that effectively differed; may be fractional.
        dispersion_ann: Standard deviation of the trials' annualised Sharpe ratios.

    Source:
        Bailey & López de Prado 2014, "The Deflated Sharpe Ratio", eq. 1; skfolio.
    """
    from skfolio.measures import expected_max_sharpe_ratio

    if not (n_trials >= 1.0 and dispersion_ann >= 0.0):
        return float("nan")
    # the formula turns negative just above one trial, where the maximum can't be below the mean
    return max(float(expected_max_sharpe_ratio(n_trials, dispersion_ann)), 0.0)


def deflated_sharpe(
    returns: Float[np.ndarray, " time"], *, n_trials: float, dispersion_ann: float
) -> float:
    """Probability that a best-of-many Sharpe ratio is above what noise would have shown.

    Args:
        returns: Daily returns of the trial that was chosen for being best.
        n_trials: Trials that effectively differed (``effective_trials``).
        dispersion_ann: Standard deviation of the trials' annualised Sharpe ratios.

    Source:
        Bailey & López de Prado 2014, with an effective instead of the plain number of trials.
    """
    benchmark = expected_max_sharpe_ann(n_trials, dispersion_ann)
    return probabilistic_sharpe(returns, benchmark_ann=benchmark)


def effective_trials(daily: Float[np.ndarray, "time trial"]) -> float:
    """Number of independent trials that would spread their Sharpe ratios like these do.

    Each trial is scaled to unit volatility and the mean of all is removed on every day: what
    all trials share moves their common level but not which one is best, and the dispersion of
    their Sharpe ratios does not contain it either. Of the rest, the participation ratio of the
    covariance's eigenvalues is counted, with the trace terms corrected for finite time. So 40
    clones are one trial, ten clones each of four ideas are four, and 40 trials whose returns
    are equally correlated stay 40 (their dispersion is already the smaller one).

    Args:
        daily: Daily returns of complete trials, without NaN.

    Source:
        The unbiased tr(Σ²) is Srivastava 2005 (J. Japan Statist. Soc. 35), normal case.
    """
    n_days, n_trials = daily.shape
    # not by their deviation: that of a constant is round-off
    if n_days < 3 or not (np.ptp(daily, axis=0) > 0.0).all():
        return float("nan")
    scaled = (daily - daily.mean(axis=0)) / daily.std(axis=0)
    own = scaled - scaled.mean(axis=1, keepdims=True)
    covariance = own.T @ own / (n_days - 1)
    trace = float(np.trace(covariance))
    if n_trials == 1 or trace < 1e-12 * n_trials:
        return 1.0
    freedom = n_days - 1
    squares = float(np.sum(covariance**2)) - trace**2 / freedom
    squares *= freedom**2 / ((freedom - 1) * (freedom + 2))
    if squares <= 0.0:
        return float(n_trials)
    # removing the common mean takes one dimension: k independent groups leave k − 1
    return float(np.clip(1.0 + trace**2 / squares, 1.0, n_trials))


def min_track_record_days(
    sharpe: float,
    *,
    benchmark_ann: float = 0.0,
    skew: float = 0.0,
    kurtosis: float = 3.0,
    confidence: float = 0.95,
) -> float:
    """Days of record needed before a Sharpe ratio is significantly above a benchmark.

    Infinite where the Sharpe ratio is not above the benchmark at all.

    Args:
        sharpe: Annualised observed Sharpe ratio.
        kurtosis: Raw kurtosis of daily returns, 3 for normal ones.

    Source:
        Bailey & López de Prado 2012, eq. 9 (minimum track record length).
    """
    if not 0.5 < confidence < 1.0:
        raise ConfigError(f"confidence must lie in (0.5, 1), found {confidence:g}")
    daily, benchmark = sharpe / _ANNUAL, benchmark_ann / _ANNUAL
    if math.isnan(daily):
        return float("nan")
    if daily <= benchmark:
        return math.inf
    shape = 1.0 - skew * daily + (kurtosis - 1.0) / 4.0 * daily**2
    return 1.0 + shape * (float(stats.norm.ppf(confidence)) / (daily - benchmark)) ** 2


@dataclass(frozen=True, slots=True)
class Deflation:
    """What the best trial of a study is worth after the search; Sharpe ratios annualised."""

    n_trials: int
    """All trials, pruned ones included."""
    n_effective: float
    n_days: int
    sharpe: float
    expected_max: float
    """What the best of as many trials on noise would show over the same days."""
    probabilistic: float
    deflated: float
    min_record_days: float
    sentence: str


def deflate(daily: pd.DataFrame, best: int | str, *, n_trials: int | None = None) -> Deflation:
    """Deflate the best trial of a study.

    Pruned trials were tried too, and being pruned makes them the worse ones: the dispersion
    among the survivors alone would be too small. So dispersion and effective number come from
    the days that every trial was evaluated on; under the null the dispersion shrinks with the
    root of time, which carries it over to all days.

    Args:
        daily: Net daily returns, days × trials; NaN where a pruned trial was not evaluated.
        best: Column of the chosen trial; it must be complete.
        n_trials: All trials ever run for this choice, where that is more than the columns.

    Raises:
        ConfigError: The chosen trial is missing or incomplete.
    """
    if (
        best not in daily.columns
        or not np.isfinite(np.asarray(daily[best], dtype=np.float64)).all()
    ):
        raise ConfigError(f"best trial must be a complete column of daily, found {best!r}")
    returns = np.asarray(daily[best], dtype=np.float64)
    common = daily.dropna(axis=1, how="all").dropna(axis=0).to_numpy(dtype=np.float64)
    common = common[:, np.ptp(common, axis=0) > 0.0] if len(common) else common
    total = max(n_trials or 0, daily.shape[1])
    sharpes = [sharpe_ann(column) for column in common.T]
    dispersion = float(np.std(sharpes, ddof=1)) if len(sharpes) > 1 else 0.0
    dispersion *= math.sqrt(len(common) / len(returns))
    effective = effective_trials(common) * total / max(common.shape[1], 1)
    sharpe = sharpe_ann(returns)
    expected = expected_max_sharpe_ann(effective, dispersion)
    return Deflation(
        n_trials=total,
        n_effective=effective,
        n_days=len(returns),
        sharpe=sharpe,
        expected_max=expected,
        probabilistic=probabilistic_sharpe(returns),
        deflated=deflated_sharpe(returns, n_trials=effective, dispersion_ann=dispersion),
        min_record_days=min_track_record_days(
            sharpe,
            benchmark_ann=expected,
            skew=float(stats.skew(returns)),
            kurtosis=float(stats.kurtosis(returns, fisher=False)),
        ),
        sentence=(
            f"The best of {total} trials ({effective:.1f} effectively different ones) on noise "
            f"would show a Sharpe ratio of {expected:.2f} over these {len(returns)} days; "
            f"this one shows {sharpe:.2f}."
        ),
    )
