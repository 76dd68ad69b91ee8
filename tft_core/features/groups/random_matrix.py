"""Random-matrix and correlation structure of the universe, and each asset's place in it.

Correlations are of volatility-scaled returns on market sessions. An asset takes part in a
window if it is a member on its last day and has enough returns in it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

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
    is_asked = np.arange(len(scaled)) >= grid.first_out
    # top_shift looks 21 market sessions back
    is_seen = is_asked | np.append(is_asked[SHORT:], np.zeros(min(SHORT, len(scaled)), dtype=bool))
    short = _over_windows(grid, scaled, SHORT, is_asked, _mean_correlation)
    medium = _over_windows(grid, scaled, MEDIUM, is_seen, _structure)
    long = _over_windows(grid, scaled, LONG, is_asked, _spectrum)
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


@dataclass(frozen=True, slots=True)
class _Units:
    """Each asset's centred returns in some windows as unit vectors: their products are the
    correlations, so that the sums of a correlation matrix need no matrix."""

    vectors: Float[np.ndarray, "window asset time"]
    """0 for an asset that takes no part, or whose price never moved: it correlates with nothing,
    not even itself."""
    n: Int[np.ndarray, " window"]
    """Assets whose vector is not 0."""

    @classmethod
    def of(
        cls, windows: Float[np.ndarray, "window asset time"], takes_part: np.ndarray
    ) -> "_Units":
        """A missing return counts as the asset's mean."""
        known = ~np.isnan(windows)
        filled = np.where(known, windows, 0.0)
        mean = filled.sum(axis=2, keepdims=True) / np.maximum(known.sum(axis=2, keepdims=True), 1)
        centred = np.where(known & takes_part[:, :, None], windows - mean, 0.0)
        norm = np.sqrt((centred**2).sum(axis=2, keepdims=True))
        moves = norm > 1e-9
        vectors = np.where(moves, centred / np.where(moves, norm, 1.0), 0.0)
        return cls(vectors, moves[:, :, 0].sum(axis=1))

    @property
    def is_wide(self) -> bool:
        """True for more assets than sessions."""
        return self.vectors.shape[1] > self.vectors.shape[2]

    def row_sums(self) -> Float[np.ndarray, "window asset"]:
        """Sum of each asset's correlations, its own 1 included."""
        return np.einsum("wat,wt->wa", self.vectors, self.vectors.sum(axis=1))

    def gram(self) -> Float[np.ndarray, "window side side"]:
        """The correlation matrix, or the products over the assets where those are more than the
        sessions: its eigenvalues are the same but for zeros."""
        by_time = self.vectors.transpose(0, 2, 1)
        return by_time @ self.vectors if self.is_wide else self.vectors @ by_time

    def as_assets(self, vector: Float[np.ndarray, "window side"]) -> np.ndarray:
        """The unit vector over the assets that belongs to an eigenvector of ``gram``."""
        if not self.is_wide:
            return vector
        wide = np.einsum("wat,wt->wa", self.vectors, vector)
        return wide / np.sqrt((wide**2).sum(axis=1, keepdims=True))


def _over_windows(
    grid: MarketGrid,
    scaled: Float[np.ndarray, "session asset"],
    window: int,
    is_wanted: Bool[np.ndarray, " session"],
    statistics: Callable[[_Units, int], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Statistics of the windows that end at the wanted sessions, NaN at all others."""
    n_rows, n_assets = scaled.shape
    none = statistics(_Units(np.empty((0, n_assets, window)), np.empty(0, dtype=int)), window)
    out = {name: np.full((n_rows, *like.shape[1:]), np.nan) for name, like in none.items()}
    if n_rows < window or n_assets < MIN_ASSETS:
        return out
    known = ~np.isnan(scaled)
    takes_part = grid.is_member & (k.required(window, None) <= k.window_sum(known.T, window).T)
    count = takes_part.sum(axis=1)
    enough = (count >= MIN_ASSETS) & (count >= grid.min_present * grid.size)
    ends = np.flatnonzero(enough & is_wanted & (np.arange(n_rows) >= window - 1))
    windows = np.lib.stride_tricks.sliding_window_view(scaled, window, axis=0)
    for i in range(0, len(ends), _BLOCK):
        rows = ends[i : i + _BLOCK]
        units = _Units.of(windows[rows - window + 1], takes_part[rows])
        for name, statistic in statistics(units, window).items():
            present = takes_part[rows] if statistic.ndim == 2 else True
            out[name][rows] = np.where(present, statistic, np.nan)
    return out


def _mean_correlation(units: _Units, window: int) -> dict[str, np.ndarray]:
    total = (units.vectors.sum(axis=1) ** 2).sum(axis=1)
    return {"corr": k.ratio(total - units.n, units.n * (units.n - 1.0))}


def _structure(units: _Units, window: int) -> dict[str, np.ndarray]:
    n = units.n
    return _mean_correlation(units, window) | {
        "peer": k.ratio(units.row_sums() - 1.0, n[:, None] - 1.0),
        "top": k.ratio(_top(units.gram())[0], n),
    }


def _spectrum(units: _Units, window: int) -> dict[str, np.ndarray]:
    n, gram = units.n, units.gram()
    values = np.clip(np.linalg.eigvalsh(gram), 0.0, None)
    vector = units.as_assets(_top(gram)[1])
    # an eigenvector has no sign of its own
    sign = np.where(vector.sum(axis=1, keepdims=True) < 0.0, -1.0, 1.0)
    return (
        _mean_correlation(units, window)
        | {
            "top": k.ratio(values.max(axis=1, initial=0.0), n),
            "loading": sign * vector * np.sqrt(n)[:, None],
        }
        | _spectral(values, n, window)
    )


def _top(matrix: np.ndarray, squarings: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalue and its unit vector.

    The matrix is squared ten times (1,024 power steps), which separates eigenvalues that
    differ by half a per cent; what is left is the vector times itself, and the column with the
    largest diagonal entry holds it best.
    """
    power = matrix
    for _ in range(squarings):
        power = power @ power
        power = power / np.abs(power).max(axis=(1, 2), keepdims=True, initial=0.0)
    best = np.diagonal(power, axis1=1, axis2=2).argmax(axis=1) if len(power) else []
    vector = power[np.arange(len(power)), :, best]
    vector = vector / np.sqrt((vector**2).sum(axis=1, keepdims=True))
    value = (vector * (matrix @ vector[:, :, None])[:, :, 0]).sum(axis=1)
    return value, vector


def _spectral(values: np.ndarray, n: np.ndarray, window: int) -> dict[str, np.ndarray]:
    """Statistics of ascending eigenvalues whose sum is the number of assets ``n``."""
    order = np.arange(values.shape[1])[None, ::-1]
    n_top = np.ceil(TOP_FRACTION * n)[:, None]
    edge = (1.0 + np.sqrt(n / window)) ** 2
    share = k.ratio(values, n[:, None])
    surprise = -share * np.log(np.where(share > 1e-15, share, 1.0))
    return {
        "absorption": np.where(order < n_top, share, 0.0).sum(axis=1),
        "mp_excess": k.ratio(np.maximum(values - edge[:, None], 0.0).sum(axis=1), n),
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
