"""Distribution and memory of daily returns: shape, tails, autocorrelation, entropy."""

import numpy as np

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import SIGMA_LOOKBACK, OwnSessions

MOMENT_WINDOWS = (63, 126, 252)
AUTOCORRELATIONS = ((1, 21), (1, 63), (1, 252), (5, 252), (21, 252))
VARIANCE_RATIOS = ((5, 126), (10, 252), (21, 252))
HURST_LAGS = (1, 2, 4, 8, 16, 32)
DFA_SCALES = (8, 16, 32, 64)
YEAR = 252
TAIL = 12
"""Sessions in the lowest 5 % of a year."""

_define = definer("dist")

FEATURES = (
    *(
        _define(f"skew_{w}", "close", w + 1, "skewness",
                f"m₃ / m₂^1.5 of the last {w} daily log returns (population moments)")
        for w in MOMENT_WINDOWS
    ),
    *(
        _define(f"kurt_{w}", "close", w + 1, "kurtosis",
                f"m₄ / m₂² of the last {w} daily log returns (population moments; normal: 3)")
        for w in MOMENT_WINDOWS
    ),
    *(
        _define(f"q{q:02d}_252", "close", YEAR + 1, "standard deviations",
                f"q{q:02d} / deviation of the last 252 daily log returns")
        for q in (5, 95)
    ),
    _define("tail_ratio_252", "close", YEAR + 1, "log ratio",
            "ln(q95 / −q05) of the last 252 daily log returns; NaN unless q05 < 0 < q95"),
    _define("cvar05_252", "close", YEAR + 1, "standard deviations",
            f"mean of the {TAIL} lowest of the last 252 daily log returns / deviation of all"),
    _define("hill_left_252", "close", YEAR + 1, "1/tail exponent",
            f"mean of ln(x_i / x_{TAIL + 1}), i = 1…{TAIL}: x_i is the i-th largest loss −r of "
            "252 sessions; NaN unless all are losses", "Hill 1975"),
    _define("iqr_252", "close", YEAR + 1, "standard deviations",
            "(q75 − q25) / deviation of the last 252 daily log returns"),
    _define("quantile_skew_252", "close", YEAR + 1, "ratio in [-1, 1]",
            "(q95 + q05 − 2 q50) / (q95 − q05) of the last 252 daily log returns",
            "Bowley; Hinkley 1975"),
    _define("max_21", "close", SIGMA_LOOKBACK, "daily volatilities",
            "highest of the last 21 daily log returns / σ_t", "Bali, Cakici & Whitelaw 2011"),
    _define("min_21", "close", SIGMA_LOOKBACK, "daily volatilities",
            "lowest of the last 21 daily log returns / σ_t"),
    *(
        _define(f"autocorr_{lag}_{w}", "close", w + lag + 1, "correlation",
                f"correlation of r_t with r_t−{lag} over the pairs of the last {w} sessions")
        for lag, w in AUTOCORRELATIONS
    ),
    *(
        _define(f"var_ratio_{q}_{w}", "close", w + q, "log ratio",
                f"ln(v_{q} / ({q} v_1)): v_n = variance of the last {w} overlapping n-session log "
                "returns",
                "Lo & MacKinlay 1988")
        for q, w in VARIANCE_RATIOS
    ),
    _define("hurst_252", "close", YEAR, "exponent",
            "least-squares slope of ln s_n on ln n, n = 1, 2, 4, …, 32: s_n = deviation of "
            "ln(C_t / C_t−n) over the pairs within 252 closes",
            "structure-function Hurst exponent"),
    _define("dfa_252", "close", YEAR, "exponent",
            "least-squares slope of ln F_n on ln n, n = 8, 16, 32, 64: F_n² = mean over all boxes "
            "of n successive closes within 252 of the mean squared residual of ln C from its line",
            "Peng et al. 1994, with overlapping boxes"),
    *(
        _define(f"entropy_{w}", "close", w + 2, "share of the maximum",
                f"−Σ p ln p / ln 6: p = shares of the 6 orders of (C_t−2, C_t−1, C_t) over {w} "
                "sessions",
                "Bandt & Pompe 2002")
        for w in (63, 252)
    ),
    _define("runs_63", "close", 65, "standard deviations",
            "(share of the last 63 sessions with r_t r_t−1 < 0, minus ½) × 2 √63",
            "Wald & Wolfowitz 1940, with equal odds"),
)  # fmt: skip


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group."""
    out: dict[str, np.ndarray] = {}
    ret, n, sigma = bars.log_ret, bars.n_out, bars.asked(bars.sigma)
    for w in MOMENT_WINDOWS:
        out[f"dist_skew_{w}"], out[f"dist_kurt_{w}"] = k.move_skew_kurt(ret, w, n)
    out |= _order_statistics(ret, n)
    out["dist_max_21"] = k.ratio(k.move_max(ret, 21, newest=n), sigma)
    out["dist_min_21"] = k.ratio(k.move_min(ret, 21, newest=n), sigma)
    for lag, w in AUTOCORRELATIONS:
        out[f"dist_autocorr_{lag}_{w}"] = k.move_corr(ret, k.lag(ret, lag), w, newest=n)
    for q, w in VARIANCE_RATIOS:
        long = k.move_var(k.diff(bars.log_close, q, n + w - 1), w, newest=n)
        out[f"dist_var_ratio_{q}_{w}"] = k.log(k.ratio(long, q * k.move_var(ret, w, newest=n)))
    out["dist_hurst_252"] = _hurst(bars.log_close, n)
    out["dist_dfa_252"] = _dfa(bars.log_close, n)
    for w in (63, 252):
        out[f"dist_entropy_{w}"] = _permutation_entropy(bars.close, w, n)
    product = ret * k.lag(ret)
    turns = np.where(np.isnan(product), np.nan, product < 0.0)
    out["dist_runs_63"] = (k.move_mean(turns, 63, newest=n) - 0.5) * 2.0 * 63**0.5
    return out


def _order_statistics(ret: np.ndarray, newest: int) -> dict[str, np.ndarray]:
    names = ("q05", "q95", "tail_ratio", "cvar05", "hill_left", "iqr", "quantile_skew")
    shape = k.recent(ret, newest).shape
    out = {f"dist_{name}_252": np.full(shape, np.nan) for name in names}
    deviation = k.move_std(ret, YEAR, YEAR, newest)
    for part, windows in k.full_windows(ret, YEAR, newest):
        start = shape[1] - windows.shape[1]
        ordered = np.sort(windows, axis=-1)
        ordered[np.isnan(ordered[..., -1])] = np.nan
        q05, q25, q50, q75, q95 = (_quantile(ordered, q) for q in (0.05, 0.25, 0.5, 0.75, 0.95))
        scale = deviation[part, start:]
        tail = -ordered[..., : TAIL + 1]
        threshold = np.where(tail[..., -1] > 0.0, tail[..., -1], np.nan)
        rows = {
            "q05": k.ratio(q05, scale),
            "q95": k.ratio(q95, scale),
            "tail_ratio": k.log(k.ratio(q95, -q05)),
            "cvar05": k.ratio(ordered[..., :TAIL].mean(axis=-1), scale),
            "hill_left": k.log(k.ratio(tail[..., :TAIL], threshold[..., None])).mean(axis=-1),
            "iqr": k.ratio(q75 - q25, scale),
            "quantile_skew": k.ratio(q95 + q05 - 2.0 * q50, q95 - q05),
        }
        for name, values in rows.items():
            out[f"dist_{name}_252"][part, start:] = values
    return out


def _quantile(ordered: np.ndarray, share: float) -> np.ndarray:
    """Linear interpolation between order statistics, as NumPy's default."""
    place = share * (ordered.shape[-1] - 1)
    below = int(place)
    low, high = ordered[..., below], ordered[..., below + 1]
    return low + (place - below) * (high - low)


def _slope(levels: list[np.ndarray], scales: tuple[int, ...]) -> np.ndarray:
    x = np.log(np.array(scales, dtype=np.float64))
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    return np.sum([w * level for w, level in zip(weights, levels, strict=True)], axis=0)


def _hurst(log_close: np.ndarray, newest: int) -> np.ndarray:
    levels = [
        k.log(k.move_std(k.diff(log_close, q, newest + YEAR - q - 1), YEAR - q, newest=newest))
        for q in HURST_LAGS
    ]
    return _slope(levels, HURST_LAGS)


def _dfa(log_close: np.ndarray, newest: int) -> np.ndarray:
    levels = []
    for scale in DFA_SCALES:
        n_boxes = YEAR - scale + 1
        residual = k.trend(log_close, scale, newest + n_boxes - 1)[1]
        levels.append(0.5 * k.log(k.move_mean(residual, n_boxes, newest=newest)))
    return _slope(levels, DFA_SCALES)


def _permutation_entropy(close: np.ndarray, window: int, newest: int) -> np.ndarray:
    first, second, third = (k.lag(close, back, newest + window - 1) for back in (2, 1, 0))
    known = ~(np.isnan(first) | np.isnan(second) | np.isnan(third))
    pattern = 4 * (first < second) + 2 * (second < third) + (first < third)
    count = k.window_sum(known, window, newest)
    entropy = np.zeros(count.shape)
    for code in (0, 2, 3, 4, 5, 7):  # 1 and 6 contradict themselves
        share = k.ratio(k.window_sum(known & (pattern == code), window, newest), count)
        entropy -= np.where(share > 0.0, share * np.log(np.where(share > 0.0, share, 1.0)), 0.0)
    enough = k.recent(known, newest) & (count >= k.required(window, None))
    return np.where(enough, entropy / np.log(6.0), np.nan)


GROUP = FeatureGroup(
    name="dist",
    title="Distribution and memory",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
)
