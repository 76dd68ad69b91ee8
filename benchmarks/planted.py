"""A synthetic panel with a planted answer: the acceptance fixture of feature selection.

5 assets, features with an autocorrelation of .9. The first six carry the next return, the next
six are their clones (ρ = .97), all others are noise.

Source:
    ``reference/vsn.md`` of the project's notes, "The fixture".
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from tft_core.models.config import XTrendConfig
from tft_core.sequences import RowTable

BETA = np.array([1.0, -0.9, 0.8, -0.7, 0.6, -0.5])
N_TRUE = 2 * len(BETA)
"""Informative features and their clones; they come first."""
N_ASSETS, AUTOCORRELATION, CLONE_RHO = 5, 0.9, 0.97
SIGMA_DAILY = 0.01
NETWORK = XTrendConfig(
    n_features=1,
    n_assets=N_ASSETS,
    d_hidden=32,
    n_heads=2,
    lstm_layers=1,
    seq_len=26,
    warmup=5,
    context_mode="none",
    vsn_hidden=4,
)
"""VSN and decoder without contexts, small enough for hundreds of trainings."""


def planted_rows(
    seed: int,
    n_features: int,
    ic: float,
    n_days: int,
    *,
    non_linear: bool = False,
    n_assets: int = N_ASSETS,
    common: float = 0.0,
) -> RowTable:
    """One data set of the family.

    Args:
        ic: Correlation of the planted signal with the next return; 0 plants nothing.
        common: Share of the noise's variance that is one factor of all assets.
        non_linear: sign(x₀)x₁ + max(|x₂| − 1, 0) + .8 x₃·1[x₄ > 0] − .7 x₅ for β'x.
    """
    rng = np.random.default_rng([seed, 77])
    x = rng.standard_normal((n_assets, n_days, n_features))
    for day in range(1, n_days):
        x[:, day] *= np.sqrt(1.0 - AUTOCORRELATION**2)
        x[:, day] += AUTOCORRELATION * x[:, day - 1]
    n = len(BETA)
    x[..., n : 2 * n] = CLONE_RHO * x[..., :n] + np.sqrt(1.0 - CLONE_RHO**2) * x[..., n : 2 * n]
    signal = _non_linear(x) if non_linear else x[..., :n] @ BETA / np.sqrt((BETA**2).sum())
    noise = rng.standard_normal(signal.shape)
    if common > 0.0:
        noise = np.sqrt(1.0 - common) * noise + np.sqrt(common) * rng.standard_normal(n_days)
    y = ic * signal + np.sqrt(1.0 - ic**2) * noise
    y[:, -2:] = np.nan
    asset, day = np.divmod(np.arange(n_assets * n_days), n_days)
    return RowTable(
        features=x.reshape(-1, n_features).astype(np.float32),
        coverage=np.ones(len(asset), dtype=np.float32),
        asset_id=asset.astype(np.int64),
        date_index=day.astype(np.int64),
        label=SIGMA_DAILY * y.ravel(),
        sigma=np.full(len(asset), SIGMA_DAILY),
        cost_rate=np.zeros(len(asset)),
        dates=pd.bdate_range("2000-01-03", periods=n_days),
        symbols=tuple(f"A{i}" for i in range(n_assets)),
        feature_names=tuple(f"f{j:03d}" for j in range(n_features)),
        asset_start=np.arange(n_assets + 1) * n_days,
    )


def _non_linear(x: np.ndarray) -> np.ndarray:
    raw = (
        np.sign(x[..., 0]) * x[..., 1]
        + np.maximum(np.abs(x[..., 2]) - 1.0, 0.0)
        + 0.8 * x[..., 3] * (x[..., 4] > 0.0)
        - 0.7 * x[..., 5]
    )
    return (raw - raw.mean()) / raw.std()


def auc(score: np.ndarray, is_true: np.ndarray) -> float:
    """Chance that a true feature scores above a noise feature."""
    ranks, n_true = rankdata(score), int(is_true.sum())
    above = ranks[is_true].sum() - n_true * (n_true + 1) / 2
    return float(above / (n_true * (len(score) - n_true)))
