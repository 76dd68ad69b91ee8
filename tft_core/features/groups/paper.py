"""The eight inputs of X-Trend: volatility-scaled returns and MACD at three speeds."""

import numpy as np

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import SIGMA_LOOKBACK, OwnSessions

HORIZONS = (1, 21, 63, 126, 252)
MACD_SCALES = ((8, 24), (16, 48), (32, 96))
"""Short and long scale in sessions: α = 1/scale. The paper prints (16, 28), a misprint: Baz et
al. 2015 and the Momentum Transformer code have 48."""
PRICE_WINDOW, SIGNAL_WINDOW = 60, 252

_define = definer("paper")

FEATURES = (
    *(
        _define(
            f"norm_ret_{h}", "close", SIGMA_LOOKBACK, "volatilities of the horizon",
            f"(C_t / C_t−{h} − 1) / (σ_t √{h})",
            "X-Trend (arXiv 2310.10500v2) eq. 5",
        )
        for h in HORIZONS
    ),
    *(
        _define(
            f"macd_{s}_{w}", "close", k.MAX_LAG + SIGNAL_WINDOW - 1, "standard deviations",
            f"q / deviation of q over {SIGNAL_WINDOW} sessions, where q = (Wilder {s} of C − "
            f"Wilder {w} of C) / deviation of C over {PRICE_WINDOW} sessions",
            "X-Trend (arXiv 2310.10500v2) eq. 6; Baz et al. 2015",
        )
        for s, w in MACD_SCALES
    ),
)  # fmt: skip


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    out: dict[str, np.ndarray] = {}
    close, n, sigma = bars.close, bars.n_out, bars.asked(bars.sigma)
    for h in HORIZONS:
        simple = k.ratio(bars.asked(close), k.lag(close, h, n)) - 1.0
        out[f"paper_norm_ret_{h}"] = k.ratio(simple, sigma * h**0.5)
    path = n + SIGNAL_WINDOW - 1
    deviation = k.move_std(close, PRICE_WINDOW, newest=path)
    for s, w in MACD_SCALES:
        spread = k.wilder(close, s, newest=path) - k.wilder(close, w, newest=path)
        signal = k.ratio(spread, deviation)
        scale = k.move_std(signal, SIGNAL_WINDOW, newest=n)
        out[f"paper_macd_{s}_{w}"] = k.ratio(bars.asked(signal), scale)
    return out


GROUP = FeatureGroup(
    name="paper",
    title="The paper's eight",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
