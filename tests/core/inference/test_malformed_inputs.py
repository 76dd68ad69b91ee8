"""280 malformed nights: 14 faults × 20 seeds through ingest → predict → signals.

A *tainted* symbol is one whose bar of the night is false, missing or on a wrong day. No signal
may be made of it: ingestion quarantines the row, or serving reports the asset unavailable, or
the night as a whole is refused with a typed error. Faults that only look bad (another order,
exact repeats, another zone, numbers as text) must give what the clean night gives.
"""

import shutil

import numpy as np
import pandas as pd
import pytest
from served_support import SERVING, SYMBOLS, bars

from tft_core.data.store import MarketDataStore
from tft_core.errors import TftError
from tft_core.inference import OK, TFTInferencePipeline
from tft_core.strategy_adapter import signals_from

N_NIGHTS = 6
"""Sessions in the file of the night: a frozen feed shows only over several."""
SEEDS = [range(4), pytest.param(range(4, 20), marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A store that ends before the night's file, and that file as it should be."""
    frame = bars()
    first = sorted(frame["date"].unique())[-N_NIGHTS]
    path = tmp_path_factory.mktemp("before") / "market.duckdb"
    with MarketDataStore(path) as opened:
        opened.ingest(frame[frame["date"] < first])
    return path, frame[frame["date"] >= first].reset_index(drop=True)


@pytest.fixture(scope="module")
def pipeline(served):
    return TFTInferencePipeline.from_checkpoint(served.checkpoint, serving=SERVING)


@pytest.fixture(scope="module")
def clean(before, pipeline, tmp_path_factory):
    return night(before, pipeline, before[1], tmp_path_factory.mktemp("clean"))


def night(before, pipeline, file, folder):
    path, frame = before
    day = frame["date"].max().date()
    shutil.copy(path, folder / "market.duckdb")
    with MarketDataStore(folder / "market.duckdb") as opened:
        report = opened.ingest(file)
        assert report.rows_in == report.accepted + report.quarantined + report.exact_duplicates
        previous = dict.fromkeys(SYMBOLS, 0.1)
        (result,) = pipeline.predict_batch([day], opened, previous=previous, explain="none")
    signals = signals_from(result, previous, conviction_threshold=0.0)
    return result, {signal.symbol for signal in signals}


def some(rng, frame, most=2):
    """A few symbols, and their rows of the last session."""
    symbols = rng.choice(SYMBOLS, size=rng.integers(1, most + 1), replace=False)
    last = frame["date"] == frame["date"].max()
    return set(symbols), frame.index[last & frame["symbol"].isin(symbols)]


def nan_column(rng, frame):
    symbols, rows = some(rng, frame)
    frame.loc[rows, "close"] = np.nan
    return frame, symbols


def infinite(rng, frame):
    symbols, rows = some(rng, frame)
    frame.loc[rows, rng.choice(["open", "high", "close", "volume"])] = rng.choice([np.inf, -np.inf])
    return frame, symbols


def duplicate_rows(rng, frame):
    symbols, rows = some(rng, frame)
    repeated = frame.loc[rows].copy()
    if rng.random() < 0.5:
        return pd.concat([frame, repeated], ignore_index=True), set()
    repeated["close"] *= rng.uniform(1.001, 1.02)
    return pd.concat([frame, repeated], ignore_index=True), symbols


def unsorted_rows(rng, frame):
    return frame.iloc[rng.permutation(len(frame))].reset_index(drop=True), set()


def missing_asset(rng, frame):
    symbols, rows = some(rng, frame)
    return frame.drop(index=rows), symbols


def new_asset(rng, frame):
    _, rows = some(rng, frame, most=1)
    return pd.concat([frame, frame.loc[rows].assign(symbol="NEW")], ignore_index=True), {"NEW"}


def zone_mix(rng, frame):
    _, rows = some(rng, frame)
    stamps = frame["date"].dt.strftime("%Y-%m-%d").astype(object)
    stamps.loc[rows] = stamps.loc[rows] + "T17:00:00" + rng.choice(["-05:00", "+05:30", "Z"])
    return frame.assign(date=stamps), set()


def split(rng, frame):
    symbols, rows = some(rng, frame)
    factor = rng.choice([2.0, 10.0, 0.5, 0.1])
    frame.loc[rows, ["open", "high", "low", "close"]] *= factor
    return frame, symbols


def stale_price(rng, frame):
    symbols, _ = some(rng, frame)
    for symbol in symbols:
        own = frame["symbol"] == symbol
        prices = ["open", "high", "low", "close"]
        frame.loc[own, prices] = frame.loc[own, "close"].iloc[0]
    return frame, symbols


def zero_volume(rng, frame):
    symbols, rows = some(rng, frame)
    frame.loc[rows, "volume"] = 0.0
    return frame, symbols


def negative_price(rng, frame):
    symbols, rows = some(rng, frame)
    frame.loc[rows, rng.choice(["open", "low", "close"])] *= -1.0
    return frame, symbols


def holiday_row(rng, frame):
    """Bars dated on the weekend before: they must neither trade nor make a session."""
    symbols, rows = some(rng, frame)
    moved = frame.loc[rows].copy()
    saturday = moved["date"] + pd.offsets.Week(weekday=5)
    frame.loc[rows, "date"] = saturday
    return frame, symbols


def truncated_day(rng, frame):
    """The file ends early, its last row in the middle."""
    last = frame.index[frame["date"] == frame["date"].max()]
    kept = int(rng.integers(1, len(last)))
    cut = last[kept - 1 :]
    frame.loc[cut[0], ["close", "volume", "open_interest"]] = np.nan
    return frame.drop(index=cut[1:]), set(frame.loc[cut, "symbol"])


def object_dtype(rng, frame):
    symbols, rows = some(rng, frame)
    text = frame["close"].map(lambda x: f"{x:.12g}").astype(object)
    if rng.random() < 0.3:
        return frame.assign(close=text), set()
    text.loc[rows] = rng.choice(["n/a", "#REF!", "1O1.5", "--", "[]"])
    return frame.assign(close=text), symbols


FAULTS = [
    nan_column, infinite, duplicate_rows, unsorted_rows, missing_asset, new_asset, zone_mix,
    split, stale_price, zero_volume, negative_price, holiday_row, truncated_day, object_dtype,
]  # fmt: skip


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_malformed_night_makes_no_signal_of_bad_data(
    fault, seeds, before, pipeline, clean, tmp_path_factory
):
    refused, tainted_nights, harmless = 0, 0, 0
    for seed in seeds:
        rng = np.random.default_rng([FAULTS.index(fault), seed])
        file, tainted = fault(rng, before[1].copy())
        try:
            result, spoken = night(before, pipeline, file, tmp_path_factory.mktemp("night"))
        except TftError:
            refused += 1
            continue
        assert not spoken & tainted, f"seed {seed}: {spoken & tainted}"
        assert not {s for s in tainted if result.status.get(s) == OK}
        assert all(np.isfinite(p) for p in result.positions.values())
        tainted_nights += bool(tainted)
        if not tainted or tainted == {"NEW"}:
            assert result.positions == pytest.approx(clean[0].positions, abs=1e-6)
            harmless += 1
    assert refused + tainted_nights + (harmless if fault is not new_asset else 0) == len(seeds)


def test_the_clean_night_speaks_of_every_symbol(clean):
    assert clean[1] == set(SYMBOLS)


def test_a_bar_on_a_weekend_makes_no_signal_on_the_weekend_either(
    before, pipeline, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("weekend")
    saturday = before[1]["date"].max() + pd.offsets.Week(weekday=5)
    moved = before[1].tail(1).assign(date=saturday)
    shutil.copy(before[0], folder / "market.duckdb")
    with MarketDataStore(folder / "market.duckdb") as opened:
        opened.ingest(pd.concat([before[1], moved], ignore_index=True))
        result = pipeline.predict(saturday.date(), opened)
    assert result.positions == {}
    assert result.status[moved["symbol"].iloc[0]] == "off_calendar"
