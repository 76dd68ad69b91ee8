"""Open interest: growth, surprise, turnover against it, and who is building positions."""

import numpy as np

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import OwnSessions

_define = definer("oi")
_OI, _CO, _VO = "open_interest", "close open_interest", "volume open_interest"

FEATURES = (
    *(
        _define(f"chg_{w}", _OI, w + 1, "log change",
                f"ln(OI_t / OI_t−{w})")
        for w in (1, 5, 21, 63)
    ),
    *(
        _define(f"z_{w}", _OI, w, "standard deviations",
                f"z-score of ln OI over {w} sessions")
        for w in (63, 252)
    ),
    _define("turnover_z_63", _VO, 63, "standard deviations",
            "z-score of ln(V / OI) over 63 sessions"),
    _define("turnover_ratio_21_252", _VO, 252, "log ratio",
            "ln(mean of V / OI over 21 / over 252 sessions)"),
    _define("price_corr_63", _CO, 64, "correlation",
            "correlation of r with ln(OI_t / OI_t−1) over 63 sessions"),
    *(
        _define(f"flow_{w}", _CO, w + 1, "ratio in [-1, 1]",
                f"Σ sign(r) ΔOI / Σ |ΔOI| over {w} sessions")
        for w in (21, 63)
    ),
    _define("long_build_share_21", _CO, 22, "share",
            "share of the last 21 sessions with r > 0 and ΔOI > 0"),
)  # fmt: skip


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    out: dict[str, np.ndarray] = {}
    level, ret, n = bars.log_open_interest, bars.log_ret, bars.n_out
    for w in (1, 5, 21, 63):
        out[f"oi_chg_{w}"] = k.diff(level, w, n)
    for w in (63, 252):
        out[f"oi_z_{w}"] = k.move_zscore(level, w, newest=n)
    out["oi_turnover_z_63"] = k.move_zscore(bars.log_volume - level, 63, newest=n)
    turnover = k.ratio(bars.volume, bars.open_interest)
    out["oi_turnover_ratio_21_252"] = k.log_mean_ratio(turnover, 21, 252, n)
    change = k.diff(level)
    out["oi_price_corr_63"] = k.move_corr(ret, change, 63, newest=n)
    built = k.diff(bars.open_interest)
    for w in (21, 63):
        size = k.move_sum(np.where(np.isnan(ret), np.nan, np.abs(built)), w, newest=n)
        signed = k.move_sum(np.sign(ret) * built, w, newest=n)
        out[f"oi_flow_{w}"] = k.ratio(signed, size)
    both = np.where(np.isnan(ret + built), np.nan, (ret > 0.0) & (built > 0.0))
    out["oi_long_build_share_21"] = k.move_mean(both, 21, newest=n)
    return out


GROUP = FeatureGroup(
    name="oi",
    title="Open interest",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
