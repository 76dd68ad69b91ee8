"""What an ingestion does to the tables of the market store, inside its one transaction.

Bars become vintages that forget nothing, rejected rows stay with their reason, and the
histories that changed are judged anew.
"""

import json
from datetime import datetime

import pandas as pd

from tft_core.data import store_sql
from tft_core.data.connection import Connection
from tft_core.data.history import HISTORY_SESSIONS, findings_in
from tft_core.data.ingest import PreparedBars
from tft_core.data.report import IngestReport


def next_ingestion(db: Connection) -> int:
    """Number of the ingestion that begins now; call it inside its transaction."""
    return db.scalar("SELECT coalesce(max(ingestion_id), 0) + 1 FROM ingestions")


def keep_bars(
    db: Connection, prepared: PreparedBars, moment: datetime, number: int
) -> tuple[int, int, int]:
    """Add vintages where a bar is new or says something else.

    Returns:
        How many accepted rows were new, restated, unchanged.
    """
    with db.registered(staged=prepared.clean):
        db.run(store_sql.STAGE_INCOMING, [moment])
    counts = dict(db.run("SELECT news, count(*) FROM incoming GROUP BY news"))
    db.run(store_sql.INSERT_BARS, [number])
    if counts.get("restated"):
        db.run(store_sql.SUPERSEDE)
    judge_histories(db, number)
    return counts.get("new", 0), counts.get("restated", 0), counts.get("unchanged", 0)


def judge_histories(db: Connection, number: int) -> None:
    """Look for faults in the histories that ``incoming`` changed; withhold what can't be true.

    ``incoming`` is gone afterwards.
    """
    found = findings_in(db.run_frame(store_sql.CHANGED_HISTORIES, [HISTORY_SESSIONS]))
    db.run("DROP TABLE incoming")
    if found.empty:
        return
    with db.registered(staged_findings=found):
        db.run(store_sql.INSERT_FINDINGS, [number])
    db.run(store_sql.WITHHOLD, [number])


def findings_of(db: Connection, prepared: PreparedBars, number: int) -> pd.DataFrame:
    """What an ingestion revealed, and what was known already of the bars that it brought."""
    with db.registered(staged_bars=prepared.clean):
        return db.run_frame(store_sql.FINDINGS_OF_INGESTION, [number])


def keep_quarantine(db: Connection, prepared: PreparedBars, number: int) -> int:
    """Keep the rejected rows; returns how many were not there yet."""
    if prepared.quarantined.empty:
        return 0
    with db.registered(staged_quarantine=prepared.quarantined):
        return db.run(store_sql.INSERT_QUARANTINE, [number])[0][0]


def upsert_instruments(db: Connection, facts: pd.DataFrame) -> None:
    """Insert or update instruments; a missing value leaves what was known."""
    columns = [name for name in facts.columns if name != "symbol"]
    with db.registered(staged_instruments=facts):
        db.run(store_sql.ADD_INSTRUMENTS)
        if columns:
            db.run(store_sql.update_instruments(columns))


def keep_series(db: Connection, rows: pd.DataFrame, source: str, moment: datetime) -> int:
    """Add the values that the store does not hold yet, and say so in the log."""
    with db.registered(staged_series=rows):
        before = db.scalar("SELECT count(*) FROM series_vintages")
        db.run(store_sql.INSERT_SERIES, [moment])
        new = db.scalar("SELECT count(*) FROM series_vintages") - before
    db.run(
        "INSERT INTO ingestions (ingestion_id, ingested_at, kind, source, accepted, new) "
        "VALUES (?, ?, 'series', ?, ?, ?)",
        [next_ingestion(db), moment, source, len(rows), new],
    )
    return new


def log_ingestion(db: Connection, report: IngestReport, *, newly_quarantined: int) -> None:
    """Keep the account of an ingestion, its report included."""
    db.run(
        "INSERT INTO ingestions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            report.ingestion_id,
            report.ingested_at,
            "bars",
            report.source,
            report.rows_in,
            report.accepted,
            report.flagged,
            report.quarantined,
            report.exact_duplicates,
            report.new,
            report.restated,
            newly_quarantined,
            json.dumps(report.to_dict(), sort_keys=True),
        ],
    )
