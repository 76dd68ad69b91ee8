"""Change points: where in a recent window the mean or the volatility broke, and how much.

Every split of a grid is tried on volatility-scaled returns that are already known, so the
break is found when it can be seen, never dated back.
"""

import numpy as np

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import SIGMA_LOOKBACK, OwnSessions

MEAN_SPLITS = {21: range(4, 18), 63: range(6, 58, 3), 126: range(12, 115, 6)}
"""Window → sessions after the break that are tried."""
VOL_WINDOWS = (63, 126)
VARIANCE_FLOOR = 0.01
"""Added to each side's variance (in units of σ²), so that stale prices give no infinite score."""

_define = definer("cpd")
_SOURCE = "Page 1957; Horváth & Rice 2014 (maximal likelihood ratio)"


def _lookback(window: int) -> int:
    return SIGMA_LOOKBACK + window


def _tried(window: int) -> str:
    splits = MEAN_SPLITS[window]
    return f"{splits[0]}, {splits[1]}, …, {splits[-1]} sessions after"


FEATURES = (
    *(
        _define(f"mean_score_{w}", "close", _lookback(w), "share",
                f"largest share, over the splits, of the sum of squares of the last {w} z about "
                f"their mean that the two sides' means explain; splits: {_tried(w)}", _SOURCE)
        for w in MEAN_SPLITS
    ),
    *(
        _define(f"mean_loc_{w}", "close", _lookback(w), "share of the window",
                f"sessions after the best split of cpd_mean_score_{w} / {w}; the newest of "
                "equals", _SOURCE)
        for w in MEAN_SPLITS
    ),
    *(
        _define(f"mean_shift_{w}", "close", _lookback(w), "standard deviations",
                f"mean of z after minus before the best split of cpd_mean_score_{w}", _SOURCE)
        for w in MEAN_SPLITS
    ),
    *(
        _define(f"vol_score_{w}", "close", _lookback(w), "nats per session",
                f"largest, over the splits of cpd_mean_score_{w}, of ln v(all) − a ln v(after) − "
                f"(1 − a) ln v(before): v = mean of z² + {VARIANCE_FLOOR}, a = share after",
                _SOURCE)
        for w in VOL_WINDOWS
    ),
    *(
        _define(f"vol_loc_{w}", "close", _lookback(w), "share of the window",
                f"sessions after the best split of cpd_vol_score_{w} / {w}", _SOURCE)
        for w in VOL_WINDOWS
    ),
    _define("cusum_up_63", "close", _lookback(64), "standard deviations",
            "(S_t − lowest S of t−63 … t) / √63: S = running sum of z", "Page 1957"),
    _define("cusum_down_63", "close", _lookback(64), "standard deviations",
            "(highest S of t−63 … t − S_t) / √63: S = running sum of z", "Page 1957"),
)  # fmt: skip


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    out: dict[str, np.ndarray] = {}
    scaled, n = bars.z_ret, bars.n_out
    known = ~np.isnan(scaled)
    is_known = bars.asked(known)
    filled = np.where(known, scaled, 0.0)
    total, squares = np.cumsum(filled, axis=-1), np.cumsum(filled**2, axis=-1)
    for w, splits in MEAN_SPLITS.items():
        enough = is_known & (k.window_sum(known, w, n) >= k.required(w, None))
        score, location, shift = _mean_break(total, squares, w, splits, n)
        varies = enough & (score > 0.0)
        out[f"cpd_mean_score_{w}"] = np.where(enough, score, np.nan)
        out[f"cpd_mean_loc_{w}"] = np.where(varies, location / w, np.nan)
        out[f"cpd_mean_shift_{w}"] = np.where(varies, shift, np.nan)
        if w in VOL_WINDOWS:
            score, location = _variance_break(squares, w, splits, n)
            out[f"cpd_vol_score_{w}"] = np.where(enough, score, np.nan)
            out[f"cpd_vol_loc_{w}"] = np.where(enough & (score > 0.0), location / w, np.nan)
    path = np.where(known, total, np.nan)
    now = bars.asked(path)
    out["cpd_cusum_up_63"] = (now - k.move_min(path, 64, newest=n)) / 63**0.5
    out["cpd_cusum_down_63"] = (k.move_max(path, 64, newest=n) - now) / 63**0.5
    return out


def _mean_break(
    total: np.ndarray, squares: np.ndarray, window: int, splits: range, newest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    whole = k.diff(total, window, newest)
    spread = k.diff(squares, window, newest) - whole**2 / window
    spread = np.where(spread > 1e-9, spread, np.nan)
    best = np.full(whole.shape, -1.0)
    location, shift = np.zeros(whole.shape), np.zeros(whole.shape)
    for after in splits:
        recent = k.diff(total, after, newest)
        step = recent / after - (whole - recent) / (window - after)
        explained = np.round(after * (window - after) / window * step**2 / spread, 9)
        better = explained > best
        best = np.where(better, explained, best)
        location = np.where(better, after, location)
        shift = np.where(better, step, shift)
    return np.where(best >= 0.0, best, np.nan), location, shift


def _variance_break(
    squares: np.ndarray, window: int, splits: range, newest: int
) -> tuple[np.ndarray, np.ndarray]:
    whole = k.diff(squares, window, newest)
    single = np.log(whole / window + VARIANCE_FLOOR)
    best, location = np.full(whole.shape, -1.0), np.zeros(whole.shape)
    for after in splits:
        recent = k.diff(squares, after, newest)
        share = after / window
        split = share * np.log(recent / after + VARIANCE_FLOOR)
        split += (1.0 - share) * np.log((whole - recent) / (window - after) + VARIANCE_FLOOR)
        gain = np.round(single - split, 9)
        better = gain > best
        best = np.where(better, gain, best)
        location = np.where(better, after, location)
    return np.where(best >= 0.0, best, np.nan), location


GROUP = FeatureGroup(
    name="cpd",
    title="Change points",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
