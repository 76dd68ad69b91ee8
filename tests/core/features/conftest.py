"""One small market for the feature tests, built once."""

import numpy as np
import pandas as pd
import pytest
from feature_market import make_bars, make_series, panel_of

from tft_core.data.panel import MarketPanel
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.panel import FeaturePanel
from tft_core.features.registry import FeatureConfig


@pytest.fixture(scope="session")
def bars() -> pd.DataFrame:
    """Six assets over 640 weekdays; some sessions are missing, one asset has closes only."""
    frame = make_bars(6, 640)
    rng = np.random.default_rng(1)
    # A0 trades every day, A5 from the 30th day on, the others miss 1 % of the days
    misses = (rng.random(len(frame)) < 0.01) & (frame["symbol"] != "A0")
    late = (frame["symbol"] == "A5") & (frame["date"] < frame["date"].unique()[30])
    frame = frame[~(misses | late)].reset_index(drop=True)
    bare = frame["symbol"] == "A4"
    frame.loc[bare, ["open", "high", "low", "volume", "open_interest"]] = np.nan
    return frame


@pytest.fixture(scope="session")
def market(bars: pd.DataFrame) -> MarketPanel:
    return panel_of(bars)


@pytest.fixture(scope="session")
def series(bars: pd.DataFrame) -> pd.DataFrame:
    return make_series(bars)


@pytest.fixture(scope="session")
def builder() -> MegaFeatureBuilder:
    return MegaFeatureBuilder(FeatureConfig(series=("rates",)))


@pytest.fixture(scope="session")
def built(builder: MegaFeatureBuilder, market: MarketPanel, series: pd.DataFrame) -> FeaturePanel:
    return builder.build_panel(market, series=series)
