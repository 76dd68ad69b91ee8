"""Fractional differencing over a fixed window: memory kept, trend mostly removed."""

import numpy as np
from jaxtyping import Float

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import SIGMA_LOOKBACK, OwnSessions

ORDERS = (0.2, 0.4, 0.6, 0.8)
WINDOW = 252

_define = definer("frac")
_SOURCE = "López de Prado 2018, ch. 5, fixed-width window"

FEATURES = (
    *(
        _define(f"price_d{round(100 * d)}", "close", SIGMA_LOOKBACK, "daily volatilities",
                f"Σ w_k ln C_t−k / σ_t, k = 0…{WINDOW - 1}: w_0 = 1, w_k = −w_k−1 ({d} − k + 1) / "
                "k, the oldest w such that all sum to 0", _SOURCE)
        for d in ORDERS
    ),
    _define("price_z_d40_126", "close", WINDOW + 125, "standard deviations",
            "z-score over 126 sessions of Σ w_k ln C_t−k, weights as frac_price_d40",
            _SOURCE),
    _define("volume_d40", "volume", WINDOW, "log units",
            "Σ w_k ln V_t−k, weights as frac_price_d40", _SOURCE),
)  # fmt: skip


def difference_weights(order: float, window: int = WINDOW) -> Float[np.ndarray, " lag"]:
    """Weights of (1 − L)^order; the oldest one takes the rest, so that they sum to 0.

    A sum of 0 makes the result blind to the level, hence to the price's unit.
    """
    lags = np.arange(1, window)
    weights = np.concatenate([[1.0], np.cumprod((lags - 1.0 - order) / lags)])
    weights[-1] -= weights.sum()
    return weights


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    out: dict[str, np.ndarray] = {}
    n, sigma = bars.n_out, bars.asked(bars.sigma)
    path = k.fir(bars.log_close, difference_weights(0.4), n + 125)
    for d in ORDERS:
        memory = path if d == 0.4 else k.fir(bars.log_close, difference_weights(d), n)
        out[f"frac_price_d{round(100 * d)}"] = k.ratio(bars.asked(memory), sigma)
    out["frac_price_z_d40_126"] = k.move_zscore(path, 126, newest=n)
    out["frac_volume_d40"] = k.fir(bars.log_volume, difference_weights(0.4), n)
    return out


GROUP = FeatureGroup(
    name="frac",
    title="Fractional differencing",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
