"""Is what was published still what the record promised? Bootstrap bands for live figures.

A figure's band is where its mean over as many days would lie, were those days drawn from the
walk-forward record. Nothing here reads a ledger or a store.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from tft_core.errors import TftError
from tft_core.evidence.resampling import stationary_bootstrap

MIN_DAYS = 20
"""Fewer realised days judge nothing."""
N_RESAMPLES = 4000
BLOCK_DAYS = 10.0
"""Mean block of the stationary bootstrap: about two weeks, in which positions hang together."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """One live figure beside its band."""

    name: str
    value: float
    """Mean over the realised days; NaN without any."""
    low: float
    high: float
    n_days: int
    n_record: int

    @property
    def verdict(self) -> Literal["inside", "outside", "unknown"]:
        """``unknown`` while there are too few days, or the record says nothing of the figure."""
        if self.n_days < MIN_DAYS or not np.isfinite([self.value, self.low, self.high]).all():
            return "unknown"
        return "inside" if self.low <= self.value <= self.high else "outside"


def track(
    name: str,
    realised: Float[np.ndarray, " day"],
    record: Float[np.ndarray, " record_day"],
    *,
    level: float = 0.99,
    seed: int = 0,
) -> Tracked:
    """Compare the mean of realised days with the record's band.

    Args:
        realised: Figures by day, in order; undefined days are NaN and left out.
        record: The same figure on out-of-sample days.
        level: Share of windows of the record that lie inside.

    Source:
        Politis & Romano 1994, the stationary bootstrap (circular), blocks of 10 days on average.
    """
    if not 0.5 <= level < 1.0:
        raise TftError(f"level must lie in [0.5, 1), found {level:g}")
    live, past = realised[np.isfinite(realised)], record[np.isfinite(record)]
    low = high = float("nan")
    if len(live) and len(past) >= MIN_DAYS:
        rng = np.random.default_rng(seed)
        drawn = stationary_bootstrap(len(past), (N_RESAMPLES, len(live)), BLOCK_DAYS, rng)
        means = past[drawn].mean(axis=1)
        low, high = (float(q) for q in np.quantile(means, [(1 - level) / 2, (1 + level) / 2]))
    value = float(live.mean()) if len(live) else float("nan")
    return Tracked(name, value, low, high, len(live), len(past))
