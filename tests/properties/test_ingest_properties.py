"""Whatever is done to a clean file, ingestion accounts for every row and harms nobody else."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market
from tft_core.errors import DataError

CLEAN = synthetic_market(3, 25, seed=1).astype({"date": str})
VICTIM = "S01"

WEIRD = st.sampled_from(
    [
        *("", " ", "nan", "NULL", "inf", "-inf", "-1", "0", "1e400", "1,5", "1.5.2", "x", "1e5"),
        *("2020-13-01", "0000-00-00", "31/12/2020", "9999-12-31", "20200101", "S00 ", "ß", "\x00"),
        *(None, np.nan, np.inf, -np.inf, -1.0, 0, 10**30, True, pd.Timestamp("2020-01-01")),
        pd.Timestamp("2020-01-01 18:00", tz="Asia/Kolkata"),
    ]
)
CELLS = st.tuples(
    st.integers(0, 10_000), st.sampled_from([c for c in CLEAN.columns if c != "symbol"]), WEIRD
)


def corrupt(cells, repeated, order_seed: int) -> pd.DataFrame:
    """Change cells of one symbol, repeat some of its rows, and shuffle all rows."""
    frame = CLEAN.astype(object)
    rows = frame.index[frame["symbol"] == VICTIM]
    for position, column, value in cells:
        frame.at[rows[position % len(rows)], column] = value
    extra = frame.loc[[rows[r % len(rows)] for r in repeated]]
    return pd.concat([frame, extra]).sample(frac=1.0, random_state=order_seed)


@settings(max_examples=12, deadline=None)
@given(
    cells=st.lists(CELLS, max_size=8),
    repeated=st.lists(st.integers(0, 10_000), max_size=4),
    order_seed=st.integers(0, 2**31),
    as_csv=st.booleans(),
)
def test_no_corruption_loses_a_row_or_moves_another_symbol(
    cells, repeated, order_seed: int, as_csv: bool
) -> None:
    frame = corrupt(cells, repeated, order_seed)
    with tempfile.TemporaryDirectory() as folder:
        source: pd.DataFrame | Path = frame
        if as_csv:
            source = Path(folder) / "bars.csv"
            frame.to_csv(source, index=False)
        with MarketDataStore(Path(folder) / "m.duckdb") as store:
            try:
                report = store.ingest(source)
            except DataError:
                assert store.summary()["bars"] == 0  # refused whole
                return
            told = report.accepted + report.quarantined + report.exact_duplicates
            assert report.rows_in == len(frame) == told
            assert len(store.quarantine()) == report.quarantined
            assert report.flagged <= report.accepted
            others = store.bars(["S00", "S02"])
            expected = CLEAN[CLEAN["symbol"] != VICTIM].sort_values(["symbol", "date"])
            np.testing.assert_array_equal(others["close"], expected["close"])
            again = store.ingest(source)
            assert (again.new, again.restated) == (0, 0)
