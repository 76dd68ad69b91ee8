"""The small plots: whole PNGs of whatever they are given, the same for the same data."""

import struct

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from tft_core.reports.plots import (
    coverage_png,
    equity_png,
    largest_bars,
    positions_png,
    training_curves,
)

DATES = pd.bdate_range("2020-01-01", periods=50)
RNG = np.random.default_rng(0)
HISTORY = pd.DataFrame(
    {
        "member": [0, 0, 1, 1],
        "epoch": [1, 2, 1, 2],
        "phase": ["pretrain", "finetune"] * 2,
        "train_loss": [0.5, 0.4, 0.6, 0.3],
        "val_sharpe": [0.1, np.nan, np.nan, np.nan],
    }
)
PATHS = pd.DataFrame(0.01 * RNG.standard_normal((50, 2)), DATES, ["shipped", "mystery"])
MAKERS = {
    "equity": lambda: equity_png(PATHS.mask(PATHS > 0.02)),
    "equity_empty": lambda: equity_png(PATHS.iloc[:0]),
    "training": lambda: training_curves(HISTORY),
    "training_empty": lambda: training_curves(HISTORY.iloc[:0]),
    "weights": lambda: largest_bars(
        pd.Series({"a": 0.2, "b": np.nan, "c": 0.1}), "Weights", even=0.15
    ),
    "weights_empty": lambda: largest_bars(pd.Series(dtype=float), "Weights"),
    "coverage": lambda: coverage_png(pd.DataFrame([[1.0, np.nan]], ["A"], ["x", "y"])),
    "coverage_empty": lambda: coverage_png(pd.DataFrame()),
    "positions": lambda: positions_png(pd.Series({"A": 0.2, "B": -0.1, "C": np.nan})),
    "positions_empty": lambda: positions_png(pd.Series(dtype=float)),
    "positions_time": lambda: positions_png(PATHS),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_plot_is_a_whole_png_of_readable_size(name: str) -> None:
    png = MAKERS[name]()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", png[16:24])
    assert 600 <= width <= 1000
    assert 250 <= height <= 4000


def test_the_same_data_give_the_same_bytes() -> None:
    assert largest_bars(pd.Series({"a": 0.2}), "Weights") == largest_bars(
        pd.Series({"a": 0.2}), "Weights"
    )


def test_a_small_plot_fits_into_dagsters_event_log() -> None:
    paths = pd.DataFrame(0.01 * RNG.standard_normal((6000, 6)), columns=list("abcdef"))
    assert len(equity_png(paths)) < 512 * 1024


def test_plotting_leaves_no_global_state() -> None:
    before = dict(mpl.rcParams)
    MAKERS["weights"]()
    assert dict(mpl.rcParams) == before
