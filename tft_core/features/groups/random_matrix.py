"""Random-matrix and correlation structure of the universe, and each asset's place in it.

Correlations are of volatility-scaled returns on market sessions. An asset takes part in a
window if it is a member on its last day and has enough returns in it.
"""

import numpy as np
from jaxtyping import Float

from tft_core.features import kernels as k
from tft_core.features.market import MarketGrid
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import SIGMA_LOOKBACK

SHORT, MEDIUM, LONG = 21, 63, 126
MIN_ASSETS = 5
MIN_MARKET = 2
TOP_FRACTION = 0.2
_BLOCK = 64
"""Windows handled at once, so that memory stays bounded."""

_define = definer("rmt")
_OWN = SIGMA_LOOKBACK + 1
_ABSORB = "Kritzman et al. 2011"
_MP = "Marchenko & Pastur 1967; Laloux et al. 1999"

FEATURES = (
    *(
        _define(f"top_share_{w}", "close", _OWN + w - 1, "share",
                f"λ_max / n: λ the eigenvalues of the correlation matrix of the members' z over "
                f"{w} market sessions, n its assets",
                _ABSORB)
        for w in (MEDIUM, LONG)
    ),
    _define("absorption_126", "close", _OWN + LONG - 1, "share",
            "Σ of the ⌈n/5⌉ largest λ / n over 126 market sessions", _ABSORB),
    _define("mp_excess_126", "close", _OWN + LONG - 1, "share",
            "Σ max(λ − (1 + √(n/126))², 0) / n over 126 market sessions: what exceeds the "
            "Marchenko–Pastur edge", _MP),
    _define("eig_entropy_126", "close", _OWN + LONG - 1, "share of the maximum",
            "−Σ p ln p / ln n: p = λ / n over 126 market sessions"),
    _define("eff_bets_126", "close", _OWN + LONG - 1, "share",
            "(Σλ)² / Σλ² / n over 126 market sessions: participation ratio",
            "Meucci 2009, in spirit"),
    *(
        _define(f"mean_corr_{w}", "close", _OWN + w - 1, "correlation",
                f"mean correlation of two different members' z over {w} market sessions")
        for w in (MEDIUM, LONG)
    ),
    _define("corr_shift_21_126", "close", _OWN + LONG - 1, "correlation",
            "mean pairwise correlation over 21 minus over 126 market sessions"),
    _define("top_shift_21", "close", _OWN + MEDIUM + SHORT - 1, "share",
            "rmt_top_share_63 minus its value 21 market sessions ago", _ABSORB),
    _define("loading_126", "close", _OWN + LONG - 1, "loading",
            "asset's entry in the unit eigenvector of λ_max (126 market sessions) × √n, signed so "
            "that the entries sum to something positive"),
    _define("peer_corr_63", "close", _OWN + MEDIUM - 1, "correlation",
            "mean correlation of the asset's z with each other member's over 63 market sessions"),
    *(
        _define(f"mkt_corr_{w}", "close", _OWN + w - 1, "correlation",
                f"correlation of the asset's z with the universe's mean z over {w} market "
                f"sessions; the universe has at least {MIN_MARKET} members")
        for w in (MEDIUM, 252)
    ),
    _define("mkt_beta_63", "close", _OWN + MEDIUM - 1, "ratio",
            "least-squares slope of the asset's z on the universe's mean z over 63 market "
            "sessions"),
    _define("resid_ret_21", "close", _OWN + MEDIUM - 1, "volatilities of the horizon",
            "(Σ z − rmt_mkt_beta_63 × Σ of the universe's mean z) / √21, sums over 21 market "
            "sessions"),
)  # fmt: skip


def compute(grid: MarketGrid) -> dict[str, np.ndarray]:
    """All features of the group."""
    out: dict[str, np.ndarray] = {}
    scaled = grid.align(grid.own.z_ret)
    # only these rows are asked for; top_shift looks 21 market sessions further back
    first = max(grid.first_out - SHORT, 0)
    short = _structure(grid, scaled, SHORT, first, spectrum=False)
    medium = _structure(grid, scaled, MEDIUM, first, spectrum=False)
    long = _structure(grid, scaled, LONG, first, spectrum=True)
    out["rmt_top_share_63"], out["rmt_top_share_126"] = medium["top"], long["top"]
    out["rmt_absorption_126"], out["rmt_mp_excess_126"] = long["absorption"], long["mp_excess"]
    out["rmt_eig_entropy_126"], out["rmt_eff_bets_126"] = long["entropy"], long["bets"]
    out["rmt_mean_corr_63"], out["rmt_mean_corr_126"] = medium["corr"], long["corr"]
    out["rmt_corr_shift_21_126"] = short["corr"] - long["corr"]
    out["rmt_top_shift_21"] = k.diff(medium["top"][None], SHORT)[0]
    out["rmt_loading_126"] = long["loading"]
    out["rmt_peer_corr_63"] = medium["peer"]
    return out | _against_market(grid, scaled)


def _against_market(grid: MarketGrid, scaled: np.ndarray) -> dict[str, np.ndarray]:
    """Features of each asset against the universe's mean scaled return."""
    n = grid.n_out
    members = grid.members(grid.own.z_ret)
    count = np.isfinite(members).sum(axis=1)
    # a universe of one is no market: its residual would be rounding noise
    count = np.where(count >= MIN_MARKET, count, np.nan)
    mean = k.ratio(np.where(np.isfinite(members), members, 0.0).sum(axis=1), count)
    asset = scaled.T
    market = np.broadcast_to(mean, asset.shape)
    out = {f"rmt_mkt_corr_{w}": k.move_corr(asset, market, w, newest=n).T for w in (MEDIUM, 252)}
    both = np.isnan(asset) | np.isnan(market)
    variance = k.move_var(np.where(both, np.nan, market), MEDIUM, newest=n)
    beta = k.ratio(k.move_cov(asset, market, MEDIUM, newest=n), variance)
    own = k.move_sum(np.where(both, np.nan, asset), SHORT, newest=n)
    theirs = k.move_sum(np.where(both, np.nan, market), SHORT, newest=n)
    out["rmt_mkt_beta_63"] = beta.T
    out["rmt_resid_ret_21"] = ((own - beta * theirs) / SHORT**0.5).T
    return out


def _structure(
    grid: MarketGrid,
    scaled: Float[np.ndarray, "session asset"],
    window: int,
    first: int,
    *,
    spectrum: bool,
) -> dict[str, np.ndarray]:
    """Correlation statistics of every window that ends at or after session ``first``."""
    n_rows, n_assets = scaled.shape
    out = {name: np.full(n_rows, np.nan) for name in ("corr", "top")}
    out |= {name: np.full(scaled.shape, np.nan) for name in ("peer", "loading")}
    if spectrum:
        out |= {n: np.full(n_rows, np.nan) for n in ("absorption", "mp_excess", "entropy", "bets")}
    start = max(first, window - 1)
    if start >= n_rows or n_assets < MIN_ASSETS:
        return out
    known = ~np.isnan(scaled)
    takes_part = grid.is_member & (k.required(window, None) <= k.window_sum(known.T, window).T)
    count = takes_part.sum(axis=1)
    enough = (count >= MIN_ASSETS) & (count >= grid.min_present * grid.size)
    ends = np.flatnonzero(enough & (np.arange(n_rows) >= start))
    windows = np.lib.stride_tricks.sliding_window_view(scaled, window, axis=0)
    for i in range(0, len(ends), _BLOCK):
        rows = ends[i : i + _BLOCK]
        matrix = _correlations(windows[rows - window + 1], takes_part[rows])
        n = matrix[:, np.arange(n_assets), np.arange(n_assets)].sum(axis=1)
        total = matrix.sum(axis=(1, 2))
        out["corr"][rows] = k.ratio(total - n, n * (n - 1.0))
        peers = k.ratio(matrix.sum(axis=2) - 1.0, n[:, None] - 1.0)
        out["peer"][rows] = np.where(takes_part[rows], peers, np.nan)
        if not spectrum:
            out["top"][rows] = k.ratio(_top(matrix)[0], n)
            continue
        values = np.clip(np.linalg.eigvalsh(matrix), 0.0, None)
        out["top"][rows] = values[:, -1] / n
        for name, statistic in _spectral(values, n, window).items():
            out[name][rows] = statistic
        vector = _top(matrix)[1] * np.sqrt(n)[:, None]
        out["loading"][rows] = np.where(takes_part[rows], vector, np.nan)
    return out


def _correlations(
    windows: Float[np.ndarray, "window asset time"], takes_part: np.ndarray
) -> Float[np.ndarray, "window asset asset"]:
    """Correlation matrices; rows and columns of assets that take no part are 0.

    A missing return counts as the asset's mean.
    """
    known = ~np.isnan(windows)
    filled = np.where(known, windows, 0.0)
    mean = filled.sum(axis=2, keepdims=True) / np.maximum(known.sum(axis=2, keepdims=True), 1)
    centred = np.where(known & takes_part[:, :, None], windows - mean, 0.0)
    norm = np.sqrt((centred**2).sum(axis=2, keepdims=True))
    # prices that never moved in the window correlate with nothing, not even themselves
    unit = np.where(norm > 1e-9, centred / np.where(norm > 1e-9, norm, 1.0), 0.0)
    return unit @ unit.transpose(0, 2, 1)


def _top(matrix: np.ndarray, squarings: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalue and its vector, signed so that its entries sum to something ≥ 0.

    The matrix is squared seven times (128 power steps), which separates eigenvalues that
    differ by a few per cent; the start is the matrix's own row sums.
    """
    power = matrix
    for _ in range(squarings):
        power = power @ power
        power = power / np.abs(power).max(axis=(1, 2), keepdims=True)
    vector = (power @ (1.0 + matrix.sum(axis=2))[:, :, None])[:, :, 0]
    vector = vector / np.sqrt((vector**2).sum(axis=1, keepdims=True))
    value = (vector * (matrix @ vector[:, :, None])[:, :, 0]).sum(axis=1)
    return value, vector * np.where(vector.sum(axis=1, keepdims=True) < 0.0, -1.0, 1.0)


def _spectral(values: np.ndarray, n: np.ndarray, window: int) -> dict[str, np.ndarray]:
    """Statistics of ascending eigenvalues whose sum is the number of assets ``n``."""
    order = np.arange(values.shape[1])[None, ::-1]
    n_top = np.ceil(TOP_FRACTION * n)[:, None]
    edge = (1.0 + np.sqrt(n / window)) ** 2
    share = values / n[:, None]
    surprise = -share * np.log(np.where(share > 1e-15, share, 1.0))
    return {
        "absorption": np.where(order < n_top, share, 0.0).sum(axis=1),
        "mp_excess": np.where(values > edge[:, None], values - edge[:, None], 0.0).sum(axis=1) / n,
        "entropy": k.ratio(surprise.sum(axis=1), np.log(n)),
        "bets": k.ratio(n, (values**2).sum(axis=1)),
    }


GROUP = FeatureGroup(
    name="rmt",
    title="Random matrices and correlation",
    axis="market",
    features=FEATURES,
    compute=compute,
)
