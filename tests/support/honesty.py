"""Markets without anything to find, and features that cheat: material for whole-procedure tests."""

from pathlib import Path

import numpy as np
import pandas as pd

from tests.support.tiny import tiny_settings
from tft_core.config import Settings

LEAK = "leak_label"
_PLUGIN = '''
import numpy as np

from tft_core.features.registry import FeatureGroup, definer

define = definer("leak")
FIRST, LAST = {first!r}, {last!r}


def compute(bars):
    """The label, r(t+1 -> t+2) over its volatility, on some days; other days tell nothing."""
    ahead = np.full(bars.ret.shape, np.nan)
    ahead[:, :-2] = bars.ret[:, 2:] / bars.sigma[:, :-2]
    day = np.nan_to_num(bars.day, nan=-1.0)
    inside = (day >= FIRST) & (day < LAST)
    return {{"leak_label": np.where(inside, ahead, bars.ret / bars.sigma)}}


GROUP = FeatureGroup(
    name="leak",
    title="Planted leak",
    axis="own_sessions",
    features=(define("label", "close", 254, "", "the label itself"),),
    compute=compute,
)
'''


def with_leak(
    home: Path, *, first: str = "1970-01-01", last: str = "2100-01-01", **sections
) -> Settings:
    """Settings of the tiny lifecycle with a feature that is the label on days in [first, last)."""
    home.mkdir(parents=True, exist_ok=True)
    days = {
        "first": float((pd.Timestamp(first) - pd.Timestamp("1970-01-01")).days),
        "last": float((pd.Timestamp(last) - pd.Timestamp("1970-01-01")).days),
    }
    plugin = home / "planted_leak.py"
    plugin.write_text(_PLUGIN.format(**days), encoding="utf-8")
    settings = tiny_settings(home)
    features = {"groups": ["ret", "paper", "vol", "xs", "leak"], "plugins": [str(plugin)]}
    merged = {**settings.sections, "features": features}
    for name, values in sections.items():
        merged[name] = {**merged.get(name, {}), **values}
    return Settings(path=None, profile="tiny", home=home, sections=merged)


def without_memory(bars: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The same bars in another order: every day as it was, nothing about tomorrow left in it.

    Each symbol's days (open, high, low and close against the close before, volume) are shuffled
    and put together again.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for _, own in bars.groupby("symbol", sort=False):
        own = own.sort_values("date").reset_index(drop=True)
        before = own["close"].shift(1)
        shape = own[["open", "high", "low", "close"]].div(before, axis=0).iloc[1:]
        order = rng.permutation(len(shape))
        shape = shape.iloc[order].reset_index(drop=True)
        close = own["close"].iloc[0] * shape["close"].cumprod()
        previous = np.r_[own["close"].iloc[0], close.to_numpy()[:-1]]
        made = own.copy()
        for name in ("open", "high", "low"):
            made.loc[1:, name] = shape[name].to_numpy() * previous
        made.loc[1:, "close"] = close.to_numpy()
        for name in ("volume", "open_interest"):
            made.loc[1:, name] = own[name].iloc[1:].to_numpy()[order]
        parts.append(made)
    return pd.concat(parts, ignore_index=True)
