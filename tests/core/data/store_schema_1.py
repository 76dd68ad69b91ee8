"""Market stores as the code before commit 085dec4 wrote them: its schema, filled with bars."""

from pathlib import Path

import duckdb

from tft_core.data.store import MarketDataStore

# `git show b61d78b:tft_core/data/store_sql.py`, unchanged until 085dec4
SCHEMA_1 = """
CREATE TABLE store_meta (schema_version INTEGER NOT NULL);
INSERT INTO store_meta VALUES (1);
CREATE TABLE bar_vintages (
    date DATE NOT NULL, symbol VARCHAR NOT NULL,
    open DOUBLE, high DOUBLE, low DOUBLE, close DOUBLE NOT NULL,
    volume DOUBLE, open_interest DOUBLE,
    available_at TIMESTAMP NOT NULL, superseded_at TIMESTAMP,
    flags VARCHAR, ingestion_id BIGINT NOT NULL
);
CREATE VIEW bars AS
    SELECT date, symbol, open, high, low, close, volume, open_interest
    FROM bar_vintages WHERE superseded_at IS NULL;
CREATE TABLE instruments (
    symbol VARCHAR PRIMARY KEY, asset_class VARCHAR, exchange VARCHAR, currency VARCHAR,
    cost_bps DOUBLE, cost_vol DOUBLE, publication_lag_days INTEGER, description VARCHAR
);
CREATE TABLE series_vintages (
    name VARCHAR NOT NULL, date DATE NOT NULL, value DOUBLE, available_at TIMESTAMP NOT NULL
);
CREATE VIEW series AS SELECT * FROM series_vintages;
CREATE TABLE quarantine (
    ingestion_id BIGINT NOT NULL, source VARCHAR NOT NULL, source_row BIGINT NOT NULL,
    symbol VARCHAR, date DATE, rule VARCHAR NOT NULL, reason VARCHAR NOT NULL, raw VARCHAR NOT NULL
);
CREATE TABLE ingestions (
    ingestion_id BIGINT PRIMARY KEY, ingested_at TIMESTAMP NOT NULL, kind VARCHAR NOT NULL,
    source VARCHAR NOT NULL, rows_in BIGINT, accepted BIGINT, flagged BIGINT, quarantined BIGINT,
    exact_duplicates BIGINT, new BIGINT, restated BIGINT, newly_quarantined BIGINT, report VARCHAR
);
"""
_SAME_TABLES = ("instruments", "series_vintages", "quarantine", "ingestions")


def schema_1_of(store: Path, target: Path) -> Path:
    """The store that the same ingestions would have made before there was schema 2."""
    with MarketDataStore(store):  # its journal goes into the file
        pass
    with duckdb.connect(str(target)) as db:
        db.execute(SCHEMA_1)
        db.execute(f"ATTACH '{store}' AS today (READ_ONLY)")
        columns = "date, symbol, open, high, low, close, volume, open_interest, available_at"
        db.execute(
            f"INSERT INTO bar_vintages SELECT {columns}, superseded_at, flags, ingestion_id "
            "FROM today.bar_vintages"
        )
        for table in _SAME_TABLES:
            db.execute(f"INSERT INTO {table} SELECT * FROM today.{table}")
    return target
