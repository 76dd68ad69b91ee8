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
from tft_core.schema import BAR_COLUMNS

CLEAN = synthetic_market(3, 40, seed=1).astype({"date": str})
VICTIM = "S01"
OTHERS = ["S00", "S02"]
PRICES = ["open", "high", "low", "close"]

WEIRD = st.sampled_from(
    [
        *("", " ", "nan", "NULL", "inf", "-inf", "-1", "0", "1e400", "1,5", "1.5.2", "x", "1e5"),
        *("2020-13-01", "0000-00-00", "31/12/2020", "9999-12-31", "20200101", "S00 ", "ß", "\x00"),
        *(
            "2020-01-01T25:61:00",
            "2015-01-08T23:30:00-05:00",
            "12:30",
            "1.2M",
            "5%",
            "(3.5)",
            "1/0",
        ),
        *(None, np.nan, np.inf, -np.inf, -1.0, 0, 10**30, True, pd.Timestamp("2020-01-01")),
        *(5e-324, 1.8e308, -0.0, 1 + 2j, b"bytes", (1, 2), pd.NaT, pd.NA),
        pd.Timestamp("2020-01-01 18:00", tz="Asia/Kolkata"),
    ]
)
CELLS = st.tuples(
    st.integers(0, 10_000), st.sampled_from([c for c in CLEAN.columns if c != "symbol"]), WEIRD
)
SPANS = st.tuples(
    st.integers(0, 39),
    st.integers(1, 15),
    st.sampled_from([-1.0, 0.0, 0.01, 0.5, 1.7, 10.0, 100.0, np.nan, np.inf, "frozen", "swapped"]),
)
NAMES = st.sampled_from([{}, {"date": "Date", "symbol": "Ticker", "close": "Adj Close"}])


def corrupt(spans, cells, repeated, order_seed: int) -> pd.DataFrame:
    """Change spans and cells of one symbol, repeat some of its rows, and shuffle all rows."""
    frame = CLEAN.copy()
    rows = frame.index[frame["symbol"] == VICTIM]
    for start, length, change in spans:
        span = rows[start : start + length]
        if change == "frozen" and len(span):
            frame.loc[span, PRICES] = frame.loc[span[0], PRICES].to_numpy(dtype=float)
        elif change == "swapped":
            frame.loc[span, ["high", "low"]] = frame.loc[span, ["low", "high"]].to_numpy()
        elif not isinstance(change, str):
            frame.loc[span, PRICES] *= change
    frame = frame.astype(object)
    for position, column, value in cells:
        frame.at[rows[position % len(rows)], column] = value
    extra = frame.loc[[rows[r % len(rows)] for r in repeated]]
    return pd.concat([frame, extra]).sample(frac=1.0, random_state=order_seed)


def assert_others_are_untouched(store: MarketDataStore) -> None:
    expected = CLEAN[CLEAN["symbol"] != VICTIM].sort_values(["symbol", "date"], ignore_index=True)
    expected["date"] = pd.to_datetime(expected["date"])
    others = store.bars(OTHERS)[list(BAR_COLUMNS)]
    pd.testing.assert_frame_equal(others, expected[others.columns], check_dtype=False, rtol=1e-15)


@settings(max_examples=20, deadline=None)
@given(
    spans=st.lists(SPANS, max_size=3),
    cells=st.lists(CELLS, max_size=8),
    repeated=st.lists(st.integers(0, 10_000), max_size=4),
    order_seed=st.integers(0, 2**31),
    names=NAMES,
    as_csv=st.booleans(),
    is_restated=st.booleans(),
)
def test_no_corruption_loses_a_row_or_moves_another_symbol(
    spans, cells, repeated, order_seed: int, names: dict[str, str], as_csv: bool, is_restated: bool
) -> None:
    frame = corrupt(spans, cells, repeated, order_seed).rename(columns=names)
    with tempfile.TemporaryDirectory() as folder:
        source: pd.DataFrame | Path = frame
        if as_csv:
            source = Path(folder) / "bars.csv"
            frame.to_csv(source, index=False)
        with MarketDataStore(Path(folder) / "m.duckdb") as store:
            if is_restated:  # the corrupt file comes on top of the clean one
                store.ingest(CLEAN)
            before = store.data_hash(), store.summary()
            try:
                report = store.ingest(source)
            except DataError:
                assert (store.data_hash(), store.summary()) == before  # refused whole
                return
            told = report.accepted + report.quarantined + report.exact_duplicates
            assert report.rows_in == len(frame) == told
            assert report.accepted == report.new + report.restated + report.unchanged
            assert len(store.quarantine()) == report.quarantined
            assert report.flagged <= report.accepted
            assert not set(report.findings["symbol"]) & set(OTHERS)
            assert store.findings(OTHERS).empty
            assert_others_are_untouched(store)
            clean_days = CLEAN["date"].max()
            assert store.sql("SELECT count(*) AS n FROM bars WHERE NOT close > 0")["n"][0] == 0
            if is_restated:  # what was known before the corruption is what it was
                assert store.data_hash(as_of=clean_days) == before[0]
            known = store.data_hash()
            again = store.ingest(source)
            assert (again.new, again.restated) == (0, 0)
            assert store.data_hash() == known
