"""Small row tables with known truth, for the tests of sequences, models and training."""

from dataclasses import replace

import numpy as np
import pandas as pd

from tft_core.sequences import RowTable


def planted_rows(
    n_assets: int = 3,
    n_days: int = 300,
    n_features: int = 20,
    *,
    ic: float = 0.1,
    n_informative: int = 3,
    cost: float = 1e-4,
    seed: int = 0,
    late: dict[int, int] | None = None,
) -> RowTable:
    """AR(.9) unit-variance features; the label is ``ic`` · (planted mix) + noise.

    The fixture of ``vsn.md``. ``late`` gives assets a later first day.
    """
    rng = np.random.default_rng(seed)
    shocks = rng.standard_normal((n_assets, n_days, n_features))
    features = np.empty_like(shocks)
    features[:, 0] = shocks[:, 0]
    for day in range(1, n_days):
        features[:, day] = 0.9 * features[:, day - 1] + np.sqrt(1 - 0.81) * shocks[:, day]
    beta = np.array([1.0, -0.9, 0.8, -0.7, 0.6, -0.5])[:n_informative]
    signal = features[:, :, :n_informative] @ beta / np.sqrt((beta**2).sum())
    noise = rng.standard_normal(signal.shape)
    sigma = 0.01 * np.exp(0.2 * np.sin(np.arange(n_days) / 20.0))[None].repeat(n_assets, 0)
    label = (ic * signal + np.sqrt(1 - ic**2) * noise) * sigma
    label[:, -2:] = np.nan
    first = np.zeros(n_assets, dtype=int)
    for asset, day in (late or {}).items():
        first[asset] = day
    keep = np.arange(n_days) >= first[:, None]
    asset_id, date_index = (axis.astype(np.int64) for axis in np.nonzero(keep))
    counts = keep.sum(axis=1)
    return RowTable(
        features=features[keep].astype(np.float32),
        coverage=np.ones(len(asset_id), dtype=np.float32),
        asset_id=asset_id,
        date_index=date_index,
        label=label[keep],
        sigma=sigma[keep],
        cost_rate=np.full(len(asset_id), cost),
        dates=pd.bdate_range("2010-01-01", periods=n_days),
        symbols=tuple(f"A{i}" for i in range(n_assets)),
        feature_names=tuple(f"f{i}" for i in range(n_features)),
        asset_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def poisoned(rows: RowTable, cut: int) -> RowTable:
    """Everything known from date ``cut`` on replaced: features, labels, volatility, cost."""
    later = rows.date_index >= cut
    # a label reaches two own sessions ahead, so it turns foul two sessions before the cut
    foul = rows.label_end >= cut
    return replace(
        rows,
        features=np.where(later[:, None], rows.features * -7.0 + 3.0, rows.features).astype(
            np.float32
        ),
        coverage=np.where(later, np.float32(0.1), rows.coverage),
        label=np.where(foul, 0.5, rows.label),
        sigma=np.where(later, 9.0, rows.sigma),
        cost_rate=np.where(later, 5.0, rows.cost_rate),
    )


def split(rows: RowTable, val_start: int, val_end: int) -> tuple[np.ndarray, ...]:
    """(fit, validation, train) masks with a purge of five dates."""
    date = rows.date_index
    fit = date < val_start - 5
    validation = (date >= val_start) & (date < val_end - 5)
    return fit, validation, date < val_end - 5
