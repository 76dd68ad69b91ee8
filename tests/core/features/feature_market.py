"""Small markets for the feature tests."""

import numpy as np
import pandas as pd

from tft_core.data.panel import MarketPanel
from tft_core.features.panel import FeaturePanel


def make_bars(n_assets: int, n_dates: int, seed: int = 7) -> pd.DataFrame:
    """Noisy bars on weekdays without any structure, every field known."""
    rng = np.random.default_rng(seed)
    dates = pd.bdate_range("2016-01-04", periods=n_dates)
    common = rng.standard_normal(n_dates)
    parts = []
    for asset in range(n_assets):
        daily = 0.012 * (0.5 * common + rng.standard_t(5, n_dates))
        close = 50.0 * (asset + 1) * np.exp(np.cumsum(daily))
        open_ = np.concatenate([close[:1], close[:-1]]) * np.exp(0.004 * rng.normal(size=n_dates))
        high = np.maximum(open_, close) * np.exp(0.004 * np.abs(rng.normal(size=n_dates)))
        low = np.minimum(open_, close) * np.exp(-0.004 * np.abs(rng.normal(size=n_dates)))
        interest = 1e5 * np.exp(np.cumsum(0.02 * rng.normal(size=n_dates)))
        parts.append(
            pd.DataFrame(
                {
                    "date": dates,
                    "symbol": f"A{asset}",
                    "open": open_,
                    "high": high,
                    "low": low,
                    "close": close,
                    "volume": np.round(1e4 * np.exp(0.5 * rng.normal(size=n_dates))),
                    "open_interest": np.round(interest),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def make_series(bars: pd.DataFrame, name: str = "rates") -> pd.DataFrame:
    """A daily exogenous series that becomes known at 22:00 of its day."""
    days = pd.bdate_range(bars["date"].min(), bars["date"].max())
    level = 2.0 + 0.02 * np.cumsum(np.random.default_rng(3).standard_normal(len(days)))
    known = days + pd.Timedelta(hours=22)
    return pd.DataFrame({"name": name, "date": days, "value": level, "available_at": known})


def panel_of(bars: pd.DataFrame) -> MarketPanel:
    return MarketPanel.from_bars(bars, sorted(bars["symbol"].unique()))


def assert_same(left: FeaturePanel, right: FeaturePanel, tolerance: float = 1e-6) -> None:
    """Known on the same cells, and equal within a share of each feature's deviation."""
    assert left.feature_names == right.feature_names
    np.testing.assert_array_equal(np.isnan(left.values), np.isnan(right.values))
    gap = np.abs(left.values - right.values) / deviations(left)
    worst = np.nan_to_num(gap).max(axis=(0, 1))
    moved = [n for n, w in zip(left.feature_names, worst, strict=True) if w > tolerance]
    assert moved == []


def deviations(panel: FeaturePanel) -> np.ndarray:
    """Standard deviation of each feature over the panel; 1 where it is constant or unknown."""
    flat = pd.DataFrame(panel.values.reshape(-1, panel.values.shape[2]), dtype=np.float64)
    spread = flat.std(ddof=0).to_numpy()
    return np.where(spread > 0, spread, 1.0)
