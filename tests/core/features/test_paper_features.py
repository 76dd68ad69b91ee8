"""The paper's eight inputs against equations 1, 5 and 6."""

import numpy as np
import pytest
from feature_market import make_bars, panel_of

from tests.oracles import xtrend_equations as paper
from tft_core.features.builder import FeatureConfig, MegaFeatureBuilder


def test_the_paper_group_is_equations_1_5_and_6():
    bars = make_bars(1, 640, seed=8)
    panel = MegaFeatureBuilder(FeatureConfig(groups=("paper",))).build_panel(panel_of(bars))
    price = bars["close"].to_numpy(dtype=float)
    assert len(panel.feature_names) == 8
    for t in (520, 600, 639):
        found = dict(zip(panel.feature_names, panel.values[t, 0], strict=True))
        for horizon in (1, 21, 63, 126, 252):
            expected = paper.scaled_return(price, t, horizon)
            assert found[f"paper_norm_ret_{horizon}"] == pytest.approx(expected, rel=1e-5)
        for short, long in ((8, 24), (16, 48), (32, 96)):
            expected = paper.macd(price, t, short, long)
            assert found[f"paper_macd_{short}_{long}"] == pytest.approx(expected, rel=1e-4)


def test_a_scale_of_the_paper_is_a_half_life():
    # half-life log(½)/log(1 − 1/S): the weight (1 − 1/S)^k has fallen to ½ at k = half-life
    for scale in (8, 24, 16, 48, 32, 96):
        half_life = np.log(0.5) / np.log(1 - 1 / scale)
        assert (1 - 1 / scale) ** half_life == pytest.approx(0.5)
