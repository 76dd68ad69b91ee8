"""Markets and features with a planted truth, for tests and for showing what a selector finds.

Nothing here is used to train anything that is served.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from tft_core.errors import DataError
from tft_core.schema import BAR_COLUMNS, TRADING_DAYS_PER_YEAR

BETA = (1.0, -0.9, 0.8, -0.7, 0.6, -0.5)
"""Weights of the six informative features."""


def synthetic_market(
    n_assets: int = 4,
    n_sessions: int = 600,
    seed: int = 0,
    *,
    start: date | str = "2015-01-01",
    vol_ann: float = 0.15,
    trend_sharpe: float = 2.0,
    trend_sessions: int = 120,
    close_only: Sequence[str] = (),
    holidays: bool = True,
) -> pd.DataFrame:
    """Long daily bars on weekdays whose drift holds its sign for months.

    Each asset's drift is ± ``trend_sharpe`` annual standard deviations a year and flips after
    spans of ``trend_sessions`` on average, so trend following earns something and long-only
    little. Returns share one common factor (correlation .2). Symbols are ``S00, S01, …``.

    Args:
        n_assets: Number of symbols.
        n_sessions: Weekdays from ``start``; assets miss some of them with ``holidays``.
        seed: Same seed, same bars.
        start: First weekday.
        vol_ann: Annual volatility of the noise.
        trend_sharpe: Strength of the planted trend; 0 plants none.
        trend_sessions: Mean length of a trend.
        close_only: Symbols without open, high, low, volume and open interest.
        holidays: Each asset skips its own 1 % of the weekdays.
    """
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range(pd.Timestamp(start), periods=n_sessions).as_unit("us")
    symbols = np.array([f"S{i:02d}" for i in range(n_assets)], dtype=object)
    shape = (n_sessions, n_assets)
    daily_vol = vol_ann / TRADING_DAYS_PER_YEAR**0.5
    flips = rng.random(shape) < 1.0 / max(trend_sessions, 1)
    flips[0] = rng.random(n_assets) < 0.5
    sign = np.where(np.cumsum(flips, axis=0) % 2 == 0, 1.0, -1.0)
    noise = 0.2**0.5 * rng.standard_normal((n_sessions, 1)) + 0.8**0.5 * rng.standard_normal(shape)
    drift = sign * trend_sharpe / TRADING_DAYS_PER_YEAR**0.5
    close = 100.0 * np.exp(np.cumsum(daily_vol * (noise + drift), axis=0))
    previous = np.vstack([np.full((1, n_assets), 100.0), close[:-1]])
    opened = previous * np.exp(0.3 * daily_vol * rng.standard_normal(shape))
    reach = np.exp(0.5 * daily_vol * np.abs(rng.standard_normal((2, *shape))))
    high = np.maximum(opened, close) * reach[0]
    low = np.minimum(opened, close) / reach[1]
    volume = np.round(1e5 * np.exp(0.4 * rng.standard_normal(shape) + 0.3 * np.abs(noise)))
    interest = np.round(5e5 * np.exp(np.cumsum(0.02 * rng.standard_normal(shape), axis=0)))
    trades = rng.random(shape) >= (0.01 if holidays else 0.0)
    trades[[0, -1]] = True
    fields = (opened, high, low, close, volume, interest)
    wide = dict(zip(BAR_COLUMNS[2:], fields, strict=True))
    bars = pd.DataFrame(
        {
            "date": np.tile(dates.to_numpy(), n_assets),
            "symbol": np.repeat(symbols, n_sessions),
            **{name: values.T.ravel() for name, values in wide.items()},
        }
    )
    bare = bars["symbol"].isin(list(close_only))
    bars.loc[bare, [c for c in wide if c != "close"]] = np.nan
    return bars.loc[trades.T.ravel()].reset_index(drop=True)


@dataclass(frozen=True, slots=True)
class PlantedFeatures:
    """Features with a known part in the next day's return."""

    values: Float[np.ndarray, "time asset feature"]
    next_return: Float[np.ndarray, "time asset"]
    """Return of the day after each row, as a fraction."""
    names: tuple[str, ...]
    """``informative_i``, ``clone_i`` of it, ``noise_i``, ``shadow_i``."""
    signal: Float[np.ndarray, "time asset"]
    """Expected part of ``next_return``: what an oracle would know."""

    @property
    def is_informative(self) -> Bool[np.ndarray, " feature"]:
        """True for informative features and their clones."""
        return np.array([n.startswith(("informative", "clone")) for n in self.names])


def planted_features(
    n_features: int = 60,
    n_assets: int = 5,
    n_days: int = 4750,
    seed: int = 0,
    *,
    ic: float = 0.1,
    n_clones: int = 6,
    n_shadows: int = 0,
    nonlinear: bool = False,
    daily_vol: float = 0.01,
    persistence: float = 0.9,
    clone_rho: float = 0.97,
) -> PlantedFeatures:
    """Independent AR features of unit variance, six of which move the next day's return.

    Args:
        n_features: Informative, clones and noise together; shadows come on top.
        n_assets: Assets, each with features of its own.
        n_days: Days.
        seed: Same seed, same arrays.
        ic: Correlation between the signal and the next day's return; 0 plants none.
        n_clones: Noisy copies of the informative features, in their order.
        n_shadows: Time-shifted columns drawn from the others (see ``shadows``).
        nonlinear: Interactions and even effects in place of the weighted sum.
        daily_vol: Standard deviation of the returns.
        persistence: AR(1) coefficient of the features.
        clone_rho: Correlation of a clone with its original.

    Raises:
        DataError: Too few features for the clones, or an impossible correlation.

    Source:
        reference/vsn.md, "The fixture".
    """
    n_informative = len(BETA)
    if n_features < n_informative + n_clones or n_clones > n_informative:
        raise DataError(
            f"planted features must number at least {n_informative} + n_clones "
            f"(≤ {n_informative}), found {n_features} with {n_clones} clones; ask for more"
        )
    if not 0.0 <= ic < 1.0:
        raise DataError(f"planted ic must lie in [0, 1), found {ic:g}")
    rng = np.random.default_rng(seed)
    base = _autoregressive(rng, (n_days, n_assets, n_features - n_clones), persistence)
    informative, noise = base[..., :n_informative], base[..., n_informative:]
    fresh = _autoregressive(rng, (n_days, n_assets, n_clones), persistence)
    clones = clone_rho * informative[..., :n_clones] + (1 - clone_rho**2) ** 0.5 * fresh
    raw = _nonlinear_signal(informative) if nonlinear else informative @ np.array(BETA)
    signal = daily_vol * ic * (raw - raw.mean()) / raw.std()
    residual = daily_vol * (1 - ic**2) ** 0.5 * rng.standard_normal((n_days, n_assets))
    values = np.concatenate([informative, clones, noise], axis=-1)
    names = [f"informative_{i}" for i in range(n_informative)]
    names += [f"clone_{i}" for i in range(n_clones)]
    names += [f"noise_{i}" for i in range(noise.shape[-1])]
    if n_shadows:
        values = np.concatenate([values, shadows(values, n_shadows, seed + 1)], axis=-1)
        names += [f"shadow_{i}" for i in range(n_shadows)]
    return PlantedFeatures(values, signal + residual, tuple(names), signal)


def shadows(
    values: Float[np.ndarray, "time asset feature"],
    n_shadows: int,
    seed: int = 0,
    *,
    shuffle: bool = False,
) -> Float[np.ndarray, "time asset shadow"]:
    """Real columns moved away from their time: same distribution, no information.

    Args:
        values: The columns to draw from.
        n_shadows: How many; columns are drawn without replacement while they last.
        seed: Same seed, same shadows.
        shuffle: Permute the days in place of a circular shift, which keeps persistence.
    """
    rng = np.random.default_rng(seed)
    n_days, _, n_features = values.shape
    order = np.concatenate(
        [rng.permutation(n_features) for _ in range(-(-n_shadows // n_features))]
    )[:n_shadows]
    if shuffle:
        return np.stack([values[rng.permutation(n_days)][..., j] for j in order], axis=-1)
    shifts = rng.integers(n_days // 4, n_days - n_days // 4, size=n_shadows)
    moved = [np.roll(values[..., j], s, axis=0) for j, s in zip(order, shifts, strict=True)]
    return np.stack(moved, axis=-1)


def _autoregressive(
    rng: np.random.Generator, shape: tuple[int, int, int], persistence: float
) -> np.ndarray:
    shocks = rng.standard_normal(shape)
    out = np.empty(shape)
    out[0] = shocks[0]
    scale = (1 - persistence**2) ** 0.5
    for t in range(1, shape[0]):
        out[t] = persistence * out[t - 1] + scale * shocks[t]
    return out


def _nonlinear_signal(x: Float[np.ndarray, "time asset six"]) -> np.ndarray:
    return (
        np.sign(x[..., 0]) * x[..., 1]
        + np.maximum(np.abs(x[..., 2]) - 1.0, 0.0)
        + 0.8 * x[..., 3] * (x[..., 4] > 0)
        - 0.7 * x[..., 5]
    )
