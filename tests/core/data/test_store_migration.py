"""A store of schema 1 is refused, and migrated into what its ingestions would make today."""

from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.core.data.store_schema_1 import schema_1_of
from tft_core.data.store import MarketDataStore
from tft_core.data.store_schema import migrate_store, stored_schema
from tft_core.data.synthetic import synthetic_market
from tft_core.errors import DataError

MARKET = synthetic_market(3, 120, seed=5)
WRONG_ROW = 60


def market_with_a_misplaced_decimal() -> pd.DataFrame:
    bars = MARKET.copy()
    rows = bars.index[bars["symbol"] == "S01"]
    bars.loc[rows[WRONG_ROW], ["open", "high", "low", "close"]] *= 10.0
    return bars


@pytest.fixture
def today(tmp_path: Path) -> Path:
    """Bars with a fault that the next day shows, a restated bar, a refused row, a series."""
    path = tmp_path / "today.duckdb"
    bars = market_with_a_misplaced_decimal()
    refused = bars[bars["symbol"] == "S02"].tail(1).assign(close=-1.0, symbol="S03")
    restated = bars[bars["symbol"] == "S00"].iloc[[30]].assign(volume=7.0)
    series = pd.DataFrame({"name": "rate", "date": bars["date"].head(9), "value": np.arange(9.0)})
    with MarketDataStore(path) as store:
        store.ingest(pd.concat([bars, refused]), source_name="bars")
        store.ingest(restated, ingested_at=datetime(2024, 5, 6), source_name="restated")
        store.ingest_series(series)
    return path


@pytest.fixture
def old(today: Path, tmp_path: Path) -> Path:
    return schema_1_of(today, tmp_path / "market.duckdb")


def test_an_old_store_is_refused_and_the_command_named(old: Path) -> None:
    assert stored_schema(old) == 1
    with pytest.raises(DataError, match=r"store schema 2, found 1; run `tft migrate`"):
        MarketDataStore(old, read_only=True)


def test_a_migrated_store_reads_as_if_its_files_had_been_ingested_today(
    old: Path, today: Path
) -> None:
    done = migrate_store(old)
    assert stored_schema(old) == 2
    with MarketDataStore(old) as migrated, MarketDataStore(today, read_only=True) as expected:
        spike_day = migrated.findings(["S01"])["date"].iloc[0].date()
        for as_of in (None, spike_day, date(2024, 5, 5)):
            assert migrated.data_hash(as_of=as_of) == expected.data_hash(as_of=as_of)
            pd.testing.assert_frame_equal(migrated.bars(as_of=as_of), expected.bars(as_of=as_of))
            pd.testing.assert_frame_equal(
                migrated.findings(as_of=as_of), expected.findings(as_of=as_of)
            )
        pd.testing.assert_frame_equal(migrated.quarantine(), expected.quarantine())
        pd.testing.assert_frame_equal(migrated.series(), expected.series())
        pd.testing.assert_frame_equal(migrated.instruments(), expected.instruments())
        n_vintages = int(expected.sql("SELECT count(*) AS n FROM bar_vintages")["n"].iloc[0])
        assert done.n_vintages == n_vintages == len(MARKET) + 1
        # the misplaced decimal is read before the next day shows it, and not afterwards
        assert len(migrated.bars(["S01"], spike_day, spike_day, as_of=spike_day)) == 1
        assert migrated.bars(["S01"], spike_day, spike_day).empty
        assert done.n_findings == len(expected.sql("SELECT * FROM history_findings"))


def test_a_migrated_store_takes_in_bars_like_any_other(old: Path) -> None:
    migrate_store(old)
    fresh = MARKET[MARKET["symbol"] == "S00"].assign(symbol="S09")
    with MarketDataStore(old) as store:
        report = store.ingest(fresh)
        assert report.new == len(fresh)
        assert store.ingestions()["kind"].tolist() == [
            "bars",
            "bars",
            "series",
            "migration",
            "bars",
        ]


def test_the_file_as_it_was_stays_beside_the_migrated_one(old: Path) -> None:
    before = old.read_bytes()
    done = migrate_store(old)
    assert done.kept == old.with_name("market.duckdb.schema-1")
    assert done.kept.read_bytes() == before
    with pytest.raises(DataError, match="store schema 1 to be migrated, found 2"):
        migrate_store(old)


def test_the_copy_of_an_earlier_migration_is_not_replaced(old: Path) -> None:
    kept = old.with_name("market.duckdb.schema-1")
    kept.write_text("an earlier one")
    with pytest.raises(DataError, match="must not exist, found the copy of an earlier migration"):
        migrate_store(old)
    assert kept.read_text() == "an earlier one"
    assert stored_schema(old) == 1


def test_a_migration_that_fails_leaves_the_store_as_it_was(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("tft_core.data.store_schema.judge_histories", broken)
    with pytest.raises(OSError, match="disk full"):
        migrate_store(old)
    monkeypatch.undo()
    assert stored_schema(old) == 1
    old.with_name("market.duckdb.schema-1").unlink()
    assert migrate_store(old).n_findings > 0
