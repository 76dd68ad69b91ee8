"""Cycles: the spectrum of scaled returns in the last half year and its phase today."""

import numpy as np

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import SIGMA_LOOKBACK, OwnSessions

WINDOW = 126
BANDS = {"42_126": (1, 3), "21_31": (4, 6), "10_18": (7, 12), "5_10": (13, 25)}
"""Periods in sessions → first and last Fourier bin of 126."""
PHASES = {63: 2, 21: 6}
"""Period in sessions → Fourier bin."""

_define = definer("cyc")
_LOOKBACK = SIGMA_LOOKBACK + WINDOW

FEATURES = (
    *(
        _define(f"power_{band}", "close", _LOOKBACK, "share",
                f"Σ P_k / Σ P over bins k = {first}…{last} of {WINDOW // 2}: P_k = squared Fourier "
                f"amplitude at period {WINDOW}/k of the last {WINDOW} z less their mean, times "
                "sin²(π i / 127), i = 1…126")
        for band, (first, last) in BANDS.items()
    ),
    _define("peak_period", "close", _LOOKBACK, "log sessions",
            "ln(126 / k) of the bin k with the largest P_k (the slowest of equals)"),
    _define("spectral_entropy", "close", _LOOKBACK, "share of the maximum",
            "−Σ p ln p / ln 63: p = P_k / Σ P; 1 is white noise"),
    *(
        _define(f"{part}_{period}", "close", _LOOKBACK, "ratio in [-1, 1]",
                f"Σ x_j {part}(2π (j − t) / {period}) / √Σ P: x = the tapered z of the window, "
                "j − t ≤ 0 their sessions from now")
        for period in PHASES
        for part in ("cos", "sin")
    ),
)  # fmt: skip


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    scaled, n = bars.z_ret, bars.n_out
    out = {f.name: np.full((len(scaled), n), np.nan) for f in FEATURES}
    taper = np.hanning(WINDOW + 2)[1:-1]
    for part, windows in k.full_windows(scaled, WINDOW, n):
        start = n - windows.shape[1]
        centred = windows - windows.mean(axis=-1, keepdims=True)
        spectrum = np.fft.rfft(centred * taper, axis=-1)[..., 1:]
        power = spectrum.real**2 + spectrum.imag**2
        total = power.sum(axis=-1, keepdims=True)
        share = k.ratio(power, np.where(total > 1e-12, total, np.nan))
        for band, (first, last) in BANDS.items():
            out[f"cyc_power_{band}"][part, start:] = share[..., first - 1 : last].sum(axis=-1)
        # rounded: two equal peaks must not be told apart by their last bit
        peak = np.log(WINDOW / (1.0 + np.round(np.nan_to_num(share), 9).argmax(axis=-1)))
        out["cyc_peak_period"][part, start:] = np.where(np.isnan(share[..., 0]), np.nan, peak)
        surprise = -share * np.log(np.where(share > 0.0, share, 1.0))
        out["cyc_spectral_entropy"][part, start:] = surprise.sum(axis=-1) / np.log(WINDOW // 2)
        for period, bin_ in PHASES.items():
            # phase at the window's last point, not at its first
            turn = np.exp(2j * np.pi * bin_ * (WINDOW - 1) / WINDOW)
            wave = spectrum[..., bin_ - 1] * turn
            size = np.sqrt(total[..., 0])
            out[f"cyc_cos_{period}"][part, start:] = k.ratio(wave.real, size)
            out[f"cyc_sin_{period}"][part, start:] = k.ratio(-wave.imag, size)
    return out


GROUP = FeatureGroup(
    name="cyc",
    title="Cycles",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
