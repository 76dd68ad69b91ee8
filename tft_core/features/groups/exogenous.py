"""Exogenous series: four slots, each filled by a named series of the store.

Windows count weekdays of the series as it was known then; an empty slot is NaN.
"""

import numpy as np

from tft_core.features import kernels as k
from tft_core.features.registry import N_EXOGENOUS_SLOTS, FeatureGroup, definer
from tft_core.features.sessions import OwnSessions

Z_WINDOWS = (21, 63, 252)
CHANGES = (5, 21)

_define = definer("exo")
_SLOTS = tuple(range(1, N_EXOGENOUS_SLOTS + 1))


def _declare(slot: int):
    yield from (
        _define(
            f"{slot}_z{w}",
            "series",
            w,
            "standard deviations",
            f"series {slot}: z-score of its level over {w} weekdays",
        )
        for w in Z_WINDOWS
    )
    yield from (
        _define(
            f"{slot}_chg{w}",
            "series",
            253,
            "volatilities of the horizon",
            f"series {slot}: change over {w} weekdays / (deviation of the last 252 changes from "
            f"weekday to weekday × √{w})",
        )
        for w in CHANGES
    )
    yield _define(f"{slot}_corr63", "series close", 64, "correlation",
                  f"series {slot}: correlation of its change since the asset's previous session "
                  "with r over 63 sessions")  # fmt: skip


FEATURES = tuple(feature for slot in _SLOTS for feature in _declare(slot))


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    return {name: values for slot in _SLOTS for name, values in _slot(bars, slot).items()}


def _slot(bars: OwnSessions, slot: int) -> dict[str, np.ndarray]:
    known = bars.exogenous.slot(slot)
    names = [f.name for f in FEATURES if f.name.startswith(f"exo_{slot}_")]
    if known is None:
        return {name: np.full(bars.shape, np.nan) for name in names}
    level = known[None]
    daily = k.move_std(k.diff(level), 252)
    on_weekdays = {
        **{f"exo_{slot}_z{w}": k.move_zscore(level, w) for w in Z_WINDOWS},
        **{f"exo_{slot}_chg{w}": k.ratio(k.diff(level, w), daily * w**0.5) for w in CHANGES},
    }
    out = {name: bars.exogenous.at(path[0], bars.day) for name, path in on_weekdays.items()}
    change = k.diff(bars.exogenous.at(known, bars.day))
    out[f"exo_{slot}_corr63"] = k.move_corr(bars.log_ret, change, 63)
    return out


GROUP = FeatureGroup(
    name="exo",
    title="Exogenous series",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
