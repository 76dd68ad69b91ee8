"""Cross-section and breadth: an asset against the dated universe, and the universe itself."""

import bottleneck as bn
import numpy as np

from tft_core.features import kernels as k
from tft_core.features.market import MarketGrid
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import SIGMA_LOOKBACK

RANKED = (5, 21, 63, 126, 252)
RELATIVE = (1, 21, 63, 252)
MEANS = (1, 21, 63)

_define = definer("xs")

FEATURES = (
    *(
        _define(f"rank_ret_{w}", "close", w + 1, "rank in [-1, 1]",
                f"rank of ln(C_t / C_t−{w}) within the universe, 2 (rank − 1)/(n − 1) − 1",
                "Asness et al. 2013")
        for w in RANKED
    ),
    _define("rank_vol_63", "close", 64, "rank in [-1, 1]",
            "rank of vol_cc_63 within the universe, as xs_rank_ret_5"),
    _define("rank_sharpe_252", "close", 253, "rank in [-1, 1]",
            "rank of ret_sharpe_252 within the universe, as xs_rank_ret_5"),
    *(
        _define(f"rel_ret_{w}", "close", SIGMA_LOOKBACK, "volatilities of the horizon",
                f"x − median of x over the universe: x = ln(C_t / C_t−{w}) / (σ_t √{w})")
        for w in RELATIVE
    ),
    _define("adv_share_1", "close", 2, "share", "share of the universe with r > 0"),
    _define("adv_share_5", "close", 6, "share", "mean of xs_adv_share_1 over 5 market sessions"),
    _define("adv_share_21", "close", 22, "share", "mean of xs_adv_share_1 over 21 market sessions"),
    *(
        _define(f"above_sma_{w}", "close", w, "share",
                f"share of the universe with C above its mean over {w} sessions")
        for w in (50, 200)
    ),
    _define("new_high_share_252", "close", 252, "share",
            "share of the universe with range_close_pos_252 ≥ 0.98"),
    _define("new_low_share_252", "close", 252, "share",
            "share of the universe with range_close_pos_252 ≤ 0.02"),
    *(
        _define(f"mean_ret_{w}", "close", SIGMA_LOOKBACK, "volatilities of the horizon",
                f"mean over the universe of ln(C_t / C_t−{w}) / (σ_t √{w})")
        for w in MEANS
    ),
    *(
        _define(f"dispersion_{w}", "close", SIGMA_LOOKBACK, "volatilities of the horizon",
                f"deviation over the universe of ln(C_t / C_t−{w}) / (σ_t √{w})")
        for w in (1, 21)
    ),
    _define("dispersion_z_252", "close", SIGMA_LOOKBACK + 251, "standard deviations",
            "z-score of xs_dispersion_21 over 252 market sessions"),
    _define("vol_ratio_mean", "close", 253, "log ratio",
            "mean over the universe of ln(vol_cc_21 / vol_cc_252)"),
    _define("mom_breadth_252", "close", 253, "share",
            "share of the universe with ln(C_t / C_t−252) > 0"),
)  # fmt: skip


def compute(grid: MarketGrid) -> dict[str, np.ndarray]:
    """All features of the group."""
    own, out, n = grid.own, {}, grid.n_out
    reach = grid.own_reach(n)
    ret, close, sigma = own.log_ret, k.recent(own.close, reach), k.recent(own.sigma, reach)
    over = {w: k.diff(own.log_close, w, reach) for w in {*RANKED, *RELATIVE, *MEANS}}
    scaled = {w: grid.members(k.ratio(over[w], sigma * w**0.5), n) for w in {*RELATIVE, *MEANS}}
    for w in RANKED:
        out[f"xs_rank_ret_{w}"] = _rank(grid.members(over[w], n))
    close_vol = {w: k.move_std(ret, w, newest=reach) for w in (21, 63, 252)}
    out["xs_rank_vol_63"] = _rank(grid.members(close_vol[63], n))
    sharpe = k.ratio(k.move_mean(ret, 252, newest=reach), close_vol[252])
    out["xs_rank_sharpe_252"] = _rank(grid.members(sharpe, n))
    for w in RELATIVE:
        out[f"xs_rel_ret_{w}"] = scaled[w] - bn.nanmedian(scaled[w], axis=1)[:, None]
    month = k.recent(ret, grid.own_reach(n + 20))
    risers = _share(grid, month, month > 0.0, n + 20)
    for w in (1, 5, 21):
        out[f"xs_adv_share_{w}"] = k.move_mean(risers[None], w, newest=n)[0]
    for w in (50, 200):
        mean = k.move_mean(own.close, w, newest=reach)
        # a price that never moved is not above its mean, whatever the last bit says
        out[f"xs_above_sma_{w}"] = _share(grid, mean, close > mean * (1.0 + 1e-12), n)
    low, high = (move(own.close, 252, newest=reach) for move in (k.move_min, k.move_max))
    place = k.ratio(close - low, high - low)
    out["xs_new_high_share_252"] = _share(grid, place, place >= 0.98, n)
    out["xs_new_low_share_252"] = _share(grid, place, place <= 0.02, n)
    for w in MEANS:
        out[f"xs_mean_ret_{w}"] = bn.nanmean(scaled[w], axis=1)
    for w in (1, 21):
        out[f"xs_dispersion_{w}"] = _deviation(scaled[w])
    out["xs_dispersion_z_252"] = k.move_zscore(_dispersions(grid, n + 251)[None], 252, newest=n)[0]
    log_ratio = k.log(k.ratio(close_vol[21], close_vol[252]))
    out["xs_vol_ratio_mean"] = bn.nanmean(grid.members(log_ratio, n), axis=1)
    out["xs_mom_breadth_252"] = _share(grid, over[252], over[252] > 0.0, n)
    return out


def _dispersions(grid: MarketGrid, newest: int) -> np.ndarray:
    """``xs_dispersion_21`` of the newest market sessions."""
    reach = grid.own_reach(newest)
    sigma = k.recent(grid.own.sigma, reach)
    scaled = k.ratio(k.diff(grid.own.log_close, 21, reach), sigma * 21**0.5)
    return _deviation(grid.members(scaled, newest))


def _share(grid: MarketGrid, values: np.ndarray, is_true: np.ndarray, newest: int) -> np.ndarray:
    return bn.nanmean(grid.members(np.where(np.isnan(values), np.nan, is_true), newest), axis=1)


def _rank(values: np.ndarray) -> np.ndarray:
    """Rank from -1 (lowest) to 1 among the known; ties share their mean rank."""
    known = np.isfinite(values).sum(axis=1, keepdims=True)
    # rounded: equal returns must tie whatever their last bit is
    rank = bn.nanrankdata(np.round(values, 12), axis=1)
    return k.ratio(2.0 * (rank - 1.0), known - 1.0) - 1.0


def _deviation(values: np.ndarray) -> np.ndarray:
    deviation = bn.nanstd(values, axis=1)
    return np.where(np.isfinite(values).sum(axis=1) >= 2, deviation, np.nan)


GROUP = FeatureGroup(
    name="xs",
    title="Cross-section and breadth",
    axis="market",
    features=FEATURES,
    compute=compute,
)
