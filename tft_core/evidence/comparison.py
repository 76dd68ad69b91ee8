"""Is one path of daily returns better than another, and which one may be shipped.

Paths are compared day by day, in pairs: what both share (the market, the model family)
cancels. Compare net returns of the same days, never two Sharpe ratios from two places.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from tft_core.errors import ConfigError
from tft_core.evidence.resampling import stationary_bootstrap
from tft_core.metrics import newey_west_lags, sharpe_ann
from tft_core.schema import TRADING_DAYS_PER_YEAR, PathName

Verdict = Literal["better", "not_distinguishable", "worse"]
MIN_DAYS = 60
"""Fewer common days than this say nothing, whatever they show."""
_ANNUAL = TRADING_DAYS_PER_YEAR**0.5
_MIN_BLOCK_DAYS = 5.0
_CHUNK = 200


@dataclass(frozen=True, slots=True)
class Comparison:
    """Difference of two annualised Sharpe ratios over the same days, with its interval."""

    verdict: Verdict
    difference: float
    low: float
    high: float
    p_value: float
    """Two-sided, of no difference."""
    confidence: float
    n_days: int
    block_days: float
    """Mean block length of the stationary bootstrap."""
    sentence: str


def compare(
    candidate: Float[np.ndarray, " time"],
    reference: Float[np.ndarray, " _"],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 42,
    names: tuple[str, str] = ("tuned", "default"),
) -> Comparison:
    """Compare two paths of the same days by a studentised stationary bootstrap.

    Days of both paths are drawn together in blocks of random length. Each resample's
    difference is divided by its own HAC standard error; the interval is symmetric.

    Args:
        candidate: Daily net returns, aligned with ``reference`` day by day, without NaN.
        confidence: Level of the interval that the verdict reads.

    Source:
        Ledoit & Wolf 2008, "Robust performance hypothesis testing with the Sharpe ratio";
        blocks of Politis & Romano 1994, length of Politis & White 2004 (arch).
    """
    if len(candidate) != len(reference):
        raise ConfigError(
            f"compared paths must have the same days, found {len(candidate)} and {len(reference)}"
        )
    if not 0.5 < confidence < 1.0:
        raise ConfigError(f"confidence must lie in (0.5, 1), found {confidence:g}")
    pair = np.column_stack([candidate, reference]).astype(np.float64)
    if not np.isfinite(pair).all():
        raise ConfigError("compared paths must hold finite returns, found NaN; align them first")
    n_days = len(pair)
    difference = sharpe_ann(pair[:, 0]) - sharpe_ann(pair[:, 1])
    if n_days < MIN_DAYS or math.isnan(difference):
        return _outcome(difference, math.nan, math.nan, confidence, n_days, math.nan, names)
    influence = _influence(pair[None])[0]
    if np.allclose(influence, 0.0, atol=1e-12):  # the same path, up to its scale
        return _outcome(0.0, 0.0, 1.0, confidence, n_days, math.nan, names)
    block = _block_length(influence)
    lags = newey_west_lags(n_days)
    error = float(_hac_error(influence[None], lags)[0])
    observed = difference / _ANNUAL
    rng = np.random.default_rng(seed)
    pivots = np.concatenate(
        [
            _pivots(pair, observed, block, lags, min(_CHUNK, n_resamples - done), rng)
            for done in range(0, n_resamples, _CHUNK)
        ]
    )
    reach = float(np.quantile(pivots, confidence)) * error * _ANNUAL
    exceeding = int(np.sum(pivots >= abs(observed) / error))
    p_value = (exceeding + 1) / (n_resamples + 1)
    return _outcome(difference, reach, p_value, confidence, n_days, block, names)


def choose_path(
    records: Sequence[pd.DataFrame], *, confidence: float = 0.9, seed: int = 42
) -> PathName:
    """Which path the next fold ships, from the records of earlier folds alone.

    The default configuration is shipped unless tuning is shown to be better; "not
    distinguishable" and no record at all ship it too.

    Args:
        records: One frame per earlier fold, oldest first: a date index and daily net returns
            in columns ``tuned`` and ``default``.
        confidence: Two-sided level; 0.9 asks for 95 % in the one direction that matters.

    As of:
        The last day in ``records``.
    """
    if not records:
        return "default"
    for record in records:
        missing = {"tuned", "default"} - set(record.columns)
        if missing:
            raise ConfigError(f"a record must have a column {missing.pop()!r}, found none")
    joined = pd.concat([record[["tuned", "default"]] for record in records])
    if not (joined.index.is_monotonic_increasing and joined.index.is_unique):
        raise ConfigError(
            "records must follow each other without overlap, found dates out of order"
        )
    outcome = compare(
        np.asarray(joined["tuned"], dtype=np.float64),
        np.asarray(joined["default"], dtype=np.float64),
        confidence=confidence,
        seed=seed,
    )
    return "tuned" if outcome.verdict == "better" else "default"


@dataclass(frozen=True, slots=True)
class SpaResult:
    """Test of superior predictive ability: does any rival beat the benchmark?"""

    benchmark: str
    p_value: float
    """Hansen's consistent p-value; small: at least one rival is better than the benchmark."""
    p_lower: float
    p_upper: float
    n_rivals: int
    n_days: int

    @property
    def sentence(self) -> str:
        name = self.benchmark.replace("_", " ")
        if math.isnan(self.p_value):
            return f"Whether anything beats {name} is undefined on {self.n_days} days."
        if self.n_rivals == 1:
            verb = "is" if self.p_value < 0.05 else "is not"
            return (
                f"Against {name}, the one other path {verb} better beyond luck "
                f"(SPA p = {self.p_value:.2f})."
            )
        found = "something" if self.p_value < 0.05 else "nothing"
        return (
            f"Against {name}, {found} among {self.n_rivals} others is better beyond the luck of "
            f"having looked at all of them (SPA p = {self.p_value:.2f})."
        )


def superior_ability(
    returns: pd.DataFrame, benchmark: str, *, n_resamples: int = 1000, seed: int = 42
) -> SpaResult:
    """Hansen's SPA over daily paths, each scaled to the same volatility.

    With ``benchmark="default"`` it asks whether the best of the others beats the default after
    paying for having looked at all of them; with ``"tuned"``, whether anything beats tuning.

    Args:
        returns: Daily net returns, days × paths, without NaN.

    Source:
        Hansen 2005, "A Test for Superior Predictive Ability"; ``arch.bootstrap.SPA``.
    """
    from arch.bootstrap import SPA

    if benchmark not in returns.columns or returns.shape[1] < 2:
        raise ConfigError(
            f"returns must hold {benchmark!r} and a rival, found {list(returns.columns)}"
        )
    if returns.isna().to_numpy().any():
        raise ConfigError("returns must be finite, found NaN; align the paths first")
    rivals = [name for name in returns.columns if name != benchmark]
    if len(returns) < MIN_DAYS or not (np.ptp(returns.to_numpy(), axis=0) > 0.0).all():
        undefined = float("nan")
        return SpaResult(benchmark, undefined, undefined, undefined, len(rivals), len(returns))
    losses = -returns / returns.std(ddof=1)
    gaps = losses[rivals].to_numpy() - losses[[benchmark]].to_numpy()
    distinct = [name for name, gap in zip(rivals, gaps.T, strict=True) if np.std(gap) > 1e-12]
    if not distinct:  # every rival is the benchmark itself
        return SpaResult(benchmark, 1.0, 1.0, 1.0, len(rivals), len(returns))
    test = SPA(
        losses[benchmark].to_numpy(),
        losses[distinct].to_numpy(),
        block_size=max(round(len(returns) ** (1 / 3)), int(_MIN_BLOCK_DAYS)),
        reps=n_resamples,
        seed=seed,
    )
    test.compute()
    found = {str(name): float(p) for name, p in test.pvalues.items()}
    return SpaResult(
        benchmark=benchmark,
        p_value=found["consistent"],
        p_lower=found["lower"],
        p_upper=found["upper"],
        n_rivals=len(rivals),
        n_days=len(returns),
    )


def _outcome(
    difference: float,
    reach: float,
    p_value: float,
    confidence: float,
    n_days: int,
    block: float,
    names: tuple[str, str],
) -> Comparison:
    low, high = difference - reach, difference + reach
    verdict: Verdict = "not_distinguishable"
    if low > 0.0:
        verdict = "better"
    elif high < 0.0:
        verdict = "worse"
    if math.isnan(reach):
        sentence = (
            f"{names[0]} and {names[1]} cannot be compared: {n_days} common days "
            f"(at least {MIN_DAYS} with some spread are needed)."
        )
    else:
        sentence = (
            f"Sharpe({names[0]}) − Sharpe({names[1]}) = {difference:+.2f}, {confidence:.0%} "
            f"interval [{low:+.2f}, {high:+.2f}] over {n_days} days: {names[0]} is "
            f"{verdict.replace('_', ' ')} {'from' if verdict[0] == 'n' else 'than'} {names[1]}."
        )
    return Comparison(verdict, difference, low, high, p_value, confidence, n_days, block, sentence)


def _influence(pairs: np.ndarray) -> np.ndarray:
    """Influence of each day on the daily Sharpe difference [resample, time]."""
    mean = pairs.mean(axis=1, keepdims=True)
    std = pairs.std(axis=1, ddof=1, keepdims=True)
    z = (pairs - mean) / std
    own = z - 0.5 * (mean / std) * (z**2 - 1.0)
    return own[:, :, 0] - own[:, :, 1]


def _hac_error(influence: np.ndarray, lags: int) -> np.ndarray:
    """Newey–West standard error of each row's mean influence [resample]."""
    n_days = influence.shape[1]
    variance = np.einsum("rt,rt->r", influence, influence) / n_days
    for lag in range(1, lags + 1):
        weight = 1.0 - lag / (lags + 1)
        product = np.einsum("rt,rt->r", influence[:, lag:], influence[:, :-lag])
        variance += 2.0 * weight * product / n_days
    return np.sqrt(np.maximum(variance, 0.0) / n_days)


def _block_length(influence: np.ndarray) -> float:
    """Mean block length in days, between a week and a quarter of the record."""
    from arch.bootstrap import optimal_block_length

    best = float(optimal_block_length(influence)["stationary"].iloc[0])
    return float(np.clip(best, _MIN_BLOCK_DAYS, len(influence) / 4))


def _pivots(
    pair: np.ndarray,
    observed: float,
    block: float,
    lags: int,
    n_resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """|Δ* − Δ| / s* of stationary-bootstrap resamples; a resample without spread is infinite."""
    drawn = pair[stationary_bootstrap(len(pair), (n_resamples, len(pair)), block, rng)]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = drawn.mean(axis=1) / drawn.std(axis=1, ddof=1)
        error = _hac_error(_influence(drawn), lags)
        pivot = np.abs(ratio[:, 0] - ratio[:, 1] - observed) / error
    return np.where(np.isfinite(pivot), pivot, np.inf)
