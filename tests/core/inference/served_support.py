"""The bars that the tests of serving run on."""

import pandas as pd

from tft_core.data.synthetic import synthetic_market
from tft_core.inference import ServingConfig

SYMBOLS = ("S00", "S01", "S02", "S03", "S04")
SERVING = ServingConfig(max_drift_psi=50.0, min_coverage=0.0, drift_sessions=21)


def bars() -> pd.DataFrame:
    return synthetic_market(len(SYMBOLS), 430, seed=5, start="2019-01-01", holidays=False)
