"""Returns and momentum: how far and how steadily the price went."""

import numpy as np

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import SIGMA_LOOKBACK, OwnSessions

RETURNS = (1, 2, 5, 10, 21, 42, 63, 126, 189, 252)
SKIPS = ((63, 5), (126, 21), (252, 21))
SHARPES = (21, 63, 126, 252)
UP_SHARES = (21, 63, 252)
EFFICIENCIES = (21, 63, 252)
ACCELERATIONS = ((21, 63), (63, 252))
TRENDS = (63, 252)
MAX_STREAK = 21

_define = definer("ret")

FEATURES = (
    *(
        _define(f"{w}", "close", w + 1, "log return", f"ln(C_t / C_t−{w})")
        for w in RETURNS
    ),
    *(
        _define(
            f"skip_{w}_{s}", "close", w + 1, "log return",
            f"ln(C_t−{s} / C_t−{w})", "Jegadeesh & Titman 1993",
        )
        for w, s in SKIPS
    ),
    *(
        _define(
            f"sharpe_{w}", "close", w + 1, "daily Sharpe ratio",
            f"mean / deviation of the last {w} daily log returns",
        )
        for w in SHARPES
    ),
    *(
        _define(
            f"up_share_{w}", "close", w + 1, "share",
            f"share of the last {w} daily log returns that are above 0",
        )
        for w in UP_SHARES
    ),
    *(
        _define(
            f"efficiency_{w}", "close", w + 1, "ratio in [-1, 1]",
            f"ln(C_t / C_t−{w}) / Σ|r| over the same {w} sessions",
            "Kaufman 1995, efficiency ratio, signed",
        )
        for w in EFFICIENCIES
    ),
    *(
        _define(
            f"accel_{s}_{w}", "close", SIGMA_LOOKBACK, "daily volatilities",
            f"(ln(C_t / C_t−{s}) / {s} − ln(C_t / C_t−{w}) / {w}) / σ_t",
        )
        for s, w in ACCELERATIONS
    ),
    *(
        _define(
            f"trend_t_{w}", "close", w, "t statistic",
            f"least-squares slope of ln C on the session number over {w} sessions / its standard "
            f"error (residual variance with {w} − 2 degrees of freedom)",
        )
        for w in TRENDS
    ),
    _define(
        "streak", "close", MAX_STREAK + 1, "sessions",
        f"number of consecutive r > 0 up to now, or minus the number of consecutive r < 0, at "
        f"most {MAX_STREAK}; 0 if r_t = 0",
    ),
)  # fmt: skip


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    out: dict[str, np.ndarray] = {}
    price, ret, n, sigma = bars.log_close, bars.log_ret, bars.n_out, bars.asked(bars.sigma)
    over = {w: k.diff(price, w, n) for w in RETURNS}
    for w in RETURNS:
        out[f"ret_{w}"] = over[w]
    for w, s in SKIPS:
        out[f"ret_skip_{w}_{s}"] = k.lag(price, s, n) - k.lag(price, w, n)
    for w in SHARPES:
        out[f"ret_sharpe_{w}"] = k.ratio(*k.move_mean_std(ret, w, newest=n))
    rises = np.where(np.isnan(ret), np.nan, ret > 0.0)
    for w in UP_SHARES:
        out[f"ret_up_share_{w}"] = k.move_mean(rises, w, newest=n)
    for w in EFFICIENCIES:
        out[f"ret_efficiency_{w}"] = k.ratio(over[w], k.move_sum(np.abs(ret), w, newest=n))
    for s, w in ACCELERATIONS:
        out[f"ret_accel_{s}_{w}"] = k.ratio(over[s] / s - over[w] / w, sigma)
    for w in TRENDS:
        out[f"ret_trend_t_{w}"] = k.trend_t(price, w, n)
    out["ret_streak"] = _streak(ret, n)
    return out


def _streak(ret: np.ndarray, newest: int) -> np.ndarray:
    now = k.recent(ret, newest)
    length = np.zeros(now.shape)
    rising, falling = np.ones(now.shape, dtype=bool), np.ones(now.shape, dtype=bool)
    for back in range(MAX_STREAK):
        earlier = k.lag(ret, back, newest)
        rising &= earlier > 0.0
        falling &= earlier < 0.0
        length += rising.astype(np.float64) - falling
    return np.where(np.isnan(now), np.nan, length)


GROUP = FeatureGroup(
    name="ret",
    title="Returns and momentum",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
