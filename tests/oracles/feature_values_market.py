"""Slow, obvious values of market-wide and exogenous features at the newest date.

As ``feature_values.py``: plain pandas and NumPy on closes without gaps.
"""

import math

import numpy as np
import pandas as pd

from tests.oracles.feature_values import correlation, scaled_returns, sigma_at, z_score


def exogenous_values(slot: int, known: pd.Series, bars: pd.DataFrame) -> dict[str, float]:
    """Features of one slot.

    Args:
        slot: Number of the slot.
        known: Value known at the end of each weekday up to the newest session.
        bars: One asset's bars, oldest first.
    """
    level = known.to_numpy()
    daily = np.diff(level)[-252:].std()
    out = {f"exo_{slot}_z{w}": z_score(level[-w:]) for w in (21, 63, 252)}
    for w in (5, 21):
        out[f"exo_{slot}_chg{w}"] = (level[-1] - level[-1 - w]) / (daily * math.sqrt(w))
    seen = known.reindex(pd.DatetimeIndex(bars["date"])).to_numpy()
    returns = np.diff(np.log(bars["close"].to_numpy()))
    out[f"exo_{slot}_corr63"] = correlation(np.diff(seen)[-63:], returns[-63:])
    return out


def market_values(closes: pd.DataFrame) -> pd.DataFrame:
    """Cross-section and correlation features at the last date.

    Args:
        closes: Closes of the universe, one column per symbol, no gap.

    Returns:
        One row per symbol.
    """
    common, own = _cross_section(closes)
    more_common, more_own = _correlations(closes)
    rows = pd.DataFrame({**common, **more_common}, index=closes.columns)
    return rows.assign(**own, **more_own)


def _ranks(values: pd.Series) -> pd.Series:
    return (values.rank() - 1) / (len(values) - 1) * 2 - 1


def _cross_section(closes: pd.DataFrame) -> tuple[dict[str, float], dict[str, pd.Series]]:
    last = len(closes) - 1
    logs = np.log(closes)
    daily = logs.diff()
    over = {w: logs.iloc[-1] - logs.iloc[-1 - w] for w in (1, 5, 21, 63, 126, 252)}

    def in_volatilities(w: int, row: int) -> pd.Series:
        sigma = pd.Series({s: sigma_at(closes[s].to_numpy(), row) for s in closes})
        return (logs.iloc[row] - logs.iloc[row - w]) / (sigma * math.sqrt(w))

    scaled = {w: in_volatilities(w, last) for w in (1, 21, 63, 252)}
    vol = {w: daily[-w:].std(ddof=0) for w in (21, 63, 252)}
    year = closes[-252:]
    place = (closes.iloc[-1] - year.min()) / (year.max() - year.min())
    dispersion = np.array(
        [in_volatilities(21, row).std(ddof=0) for row in range(last - 251, last + 1)]
    )
    common = {
        "xs_new_high_share_252": (place >= 0.98).mean(),
        "xs_new_low_share_252": (place <= 0.02).mean(),
        "xs_dispersion_z_252": z_score(dispersion),
        "xs_vol_ratio_mean": np.log(vol[21] / vol[252]).mean(),
        "xs_mom_breadth_252": (over[252] > 0).mean(),
    }
    for w in (1, 5, 21):
        common[f"xs_adv_share_{w}"] = (daily[-w:] > 0).mean(axis=1).mean()
    for w in (50, 200):
        common[f"xs_above_sma_{w}"] = (closes.iloc[-1] > closes[-w:].mean()).mean()
    for w in (1, 21, 63):
        common[f"xs_mean_ret_{w}"] = scaled[w].mean()
    for w in (1, 21):
        common[f"xs_dispersion_{w}"] = scaled[w].std(ddof=0)
    own = {f"xs_rank_ret_{w}": _ranks(over[w]) for w in (5, 21, 63, 126, 252)}
    own |= {f"xs_rel_ret_{w}": scaled[w] - scaled[w].median() for w in (1, 21, 63, 252)}
    own["xs_rank_vol_63"] = _ranks(vol[63])
    own["xs_rank_sharpe_252"] = _ranks(daily[-252:].mean() / vol[252])
    return common, own


def _correlations(closes: pd.DataFrame) -> tuple[dict[str, float], dict[str, list[float]]]:
    z = pd.DataFrame({s: scaled_returns(closes[s].to_numpy(), 252) for s in closes})
    n, mean = z.shape[1], z.mean(axis=1)

    def matrix(end: int, window: int) -> np.ndarray:
        return z.iloc[end - window : end].corr().to_numpy()

    def mean_pair(corr: np.ndarray) -> float:
        return corr[np.triu_indices(n, 1)].mean()

    def top_share(corr: np.ndarray) -> float:
        return np.linalg.eigvalsh(corr)[-1] / n

    month, quarter, half = matrix(252, 21), matrix(252, 63), matrix(252, 126)
    values, vectors = np.linalg.eigh(half)
    top = vectors[:, -1] * np.sign(vectors[:, -1].sum())
    edge = (1 + math.sqrt(n / 126)) ** 2
    common = {
        "rmt_top_share_63": top_share(quarter),
        "rmt_top_share_126": top_share(half),
        "rmt_top_shift_21": top_share(quarter) - top_share(matrix(252 - 21, 63)),
        "rmt_absorption_126": values[-math.ceil(0.2 * n) :].sum() / n,
        "rmt_mp_excess_126": (values[values > edge] - edge).sum() / n,
        "rmt_eig_entropy_126": -(values / n * np.log(values / n)).sum() / math.log(n),
        "rmt_eff_bets_126": values.sum() ** 2 / (values**2).sum() / n,
        "rmt_mean_corr_63": mean_pair(quarter),
        "rmt_mean_corr_126": mean_pair(half),
        "rmt_corr_shift_21_126": mean_pair(month) - mean_pair(half),
    }
    own: dict[str, list[float]] = {
        "rmt_loading_126": list(top * math.sqrt(n)),
        "rmt_peer_corr_63": [np.delete(quarter[i], i).mean() for i in range(n)],
        "rmt_mkt_beta_63": [np.polyfit(mean[-63:], z[s][-63:], 1)[0] for s in z],
    }
    for w in (63, 252):
        own[f"rmt_mkt_corr_{w}"] = [correlation(mean[-w:], z[s][-w:]) for s in z]
    own["rmt_resid_ret_21"] = [
        (z[s][-21:].sum() - beta * mean[-21:].sum()) / math.sqrt(21)
        for s, beta in zip(z, own["rmt_mkt_beta_63"], strict=True)
    ]
    return common, own
