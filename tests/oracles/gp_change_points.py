"""Change points by Gaussian processes, after X-Trend's Algorithm 1: slow and exact.

A window of prices is explained by one Matérn-3/2 process, and by two of them that hand over at
an unknown time; the share of the second one's likelihood is the severity of a change. NumPy and
SciPy only; nothing of the project is imported.

Source: Wood, Kessler, Roberts & Zohren, arXiv 2310.10500v2, appendix A; the kernels are those of
Wood, Roberts & Zohren 2021, "Slow momentum with fast reversion", eq. 9–14.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

ROOT3 = np.sqrt(3.0)
NUGGET = 1e-6
LOG_LENGTH, LOG_SCALE, LOG_NOISE = (-1.0, 6.0), (-5.0, 3.0), (-5.0, 1.0)
LOG_STEEPNESS = (-2.0, 3.0)


@dataclass(frozen=True)
class Change:
    """What the two processes say about one window."""

    severity: float
    """L_C/(L_M + L_C)."""
    location: float
    """Steps from the window's first price to the hand-over."""


def change(prices: np.ndarray) -> Change:
    """Severity and place of a change in one window of prices."""
    y = (prices - prices.mean()) / prices.std()
    one, nlml_one = _fit_one(y)
    location, nlml_two = _fit_two(y, one)
    severity = 1 / (1 + np.exp(np.clip(nlml_two - nlml_one, -50, 50)))
    return Change(severity=float(severity), location=location)


def segments(
    prices: np.ndarray,
    *,
    lookback: int,
    longest: int,
    shortest: int,
    severity: float,
    detect: Callable[[np.ndarray], Change] = change,
) -> list[tuple[int, int]]:
    """Algorithm 1: regimes (first, last) of a price history, walking back from its end.

    ``detect`` may be ``change`` with a memory: several severities ask for the same windows.
    """
    found: list[tuple[int, int]] = []
    t = last = len(prices) - 1
    while t >= lookback:
        seen = detect(prices[t - lookback : t + 1])
        if seen.severity >= severity:
            place = t - lookback + seen.location
            first = int(np.ceil(place))
            if last - first >= shortest:
                found.insert(0, (max(first, last - longest), last))
            t = last = min(int(np.floor(place)), t) - 1
            continue
        t -= 1
        if last - t >= longest:
            found.insert(0, (last - longest, last))
            t = last = last - longest
    return found


def _fit_one(y: np.ndarray) -> tuple[np.ndarray, float]:
    """Logarithms of length, scale and noise of the likeliest Matérn-3/2 process."""
    bounds = [LOG_LENGTH, LOG_SCALE, LOG_NOISE]
    starts = [(np.log(length), 0.0, -1.5) for length in (2.0, 10.0)]
    return _best(lambda theta: _nlml_one(theta, y), starts, bounds)


def _fit_two(y: np.ndarray, one: np.ndarray) -> tuple[float, float]:
    """Hand-over of the likeliest pair of processes; each start is two copies of the single one."""
    n, process = len(y), [LOG_LENGTH, LOG_SCALE]
    bounds = [(1.0, n - 2.0), LOG_STEEPNESS, *process, *process, LOG_NOISE]
    starts = [(share * (n - 1), 0.0, *one[:2], *one[:2], one[2]) for share in (0.25, 0.5, 0.75)]
    theta, nlml = _best(lambda theta: _nlml_two(theta, y), starts, bounds)
    return float(theta[0]), nlml


def _best(objective, starts, bounds) -> tuple[np.ndarray, float]:
    fits = [
        minimize(objective, np.array(start), jac=True, method="L-BFGS-B", bounds=bounds)
        for start in starts
    ]
    best = min(fits, key=lambda fit: fit.fun)
    return best.x, float(best.fun)


def _matern(log_length: float, log_scale: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """k(r) = s²(1 + √3 r/l)exp(−√3 r/l), and its derivative by log l."""
    gap = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) * ROOT3 / np.exp(log_length)
    decay = np.exp(2 * log_scale - gap)
    return (1 + gap) * decay, gap**2 * decay


def _nlml_one(theta: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    n = len(y)
    k, by_length = _matern(theta[0], theta[1], n)
    return _nlml(k, [by_length, 2 * k], theta[2], y)


def _nlml_two(theta: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """The kernel (1−a)(1−a')k₁ + a a' k₂ with a = sigmoid(steepness·(t − c))."""
    c, steepness, n = theta[0], np.exp(theta[1]), len(y)
    ahead = steepness * (np.arange(n) - c)
    a = 1 / (1 + np.exp(-np.clip(ahead, -50, 50)))
    b = 1 - a
    k1, k1_by_length = _matern(theta[2], theta[3], n)
    k2, k2_by_length = _matern(theta[4], theta[5], n)
    before, after = np.outer(b, b), np.outer(a, a)

    def through(da: np.ndarray) -> np.ndarray:
        up, down = np.outer(da, a), np.outer(da, b)
        return (up + up.T) * k2 - (down + down.T) * k1

    slope = a * b
    derivatives = [
        through(-steepness * slope), through(ahead * slope), before * k1_by_length,
        2 * before * k1, after * k2_by_length, 2 * after * k2,
    ]  # fmt: skip
    return _nlml(before * k1 + after * k2, derivatives, theta[6], y)


def _nlml(
    k: np.ndarray, derivatives: list[np.ndarray], log_noise: float, y: np.ndarray
) -> tuple[float, np.ndarray]:
    """Negative log marginal likelihood and its gradient; the last entry is by the noise."""
    n = len(y)
    noise = np.exp(2 * log_noise)
    factor = cho_factor(k + (noise + NUGGET) * np.eye(n), lower=True)
    alpha = cho_solve(factor, y)
    value = 0.5 * y @ alpha + np.log(np.diag(factor[0])).sum() + 0.5 * n * np.log(2 * np.pi)
    pull = cho_solve(factor, np.eye(n)) - np.outer(alpha, alpha)
    gradient = [0.5 * (pull * d).sum() for d in derivatives]
    return float(value), np.array([*gradient, np.trace(pull) * noise])
