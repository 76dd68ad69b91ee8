"""The SQL of the market store: its schema and the few statements with more than one clause.

Text only: ``store``, ``store_writing`` and ``store_schema`` run it.

A bar's vintages form a chain: ``available_at`` is when a value became known, ``superseded_at``
when the next one did (NULL for the newest), ``withheld_from`` when later bars showed that it
can't be right. So "as of T" is a filter and needs no window.
"""

from collections.abc import Sequence
from datetime import datetime

from tft_core.data.moments import DAY_END
from tft_core.schema import FIELDS

SCHEMA_VERSION = 2

_BARS = """
CREATE TABLE bar_vintages (
    date DATE NOT NULL, symbol VARCHAR NOT NULL,
    open DOUBLE, high DOUBLE, low DOUBLE, close DOUBLE NOT NULL,
    volume DOUBLE, open_interest DOUBLE,
    available_at TIMESTAMP NOT NULL, superseded_at TIMESTAMP, withheld_from TIMESTAMP,
    flags VARCHAR, ingestion_id BIGINT NOT NULL
);
CREATE VIEW bars AS
    SELECT date, symbol, open, high, low, close, volume, open_interest
    FROM bar_vintages WHERE superseded_at IS NULL AND withheld_from IS NULL;
CREATE TABLE history_findings (
    ingestion_id BIGINT NOT NULL, rule VARCHAR NOT NULL, outcome VARCHAR NOT NULL,
    symbol VARCHAR NOT NULL, date DATE NOT NULL, last_date DATE NOT NULL, value DOUBLE NOT NULL,
    known_at TIMESTAMP NOT NULL
);
"""

SCHEMA = f"""
CREATE TABLE store_meta (schema_version INTEGER NOT NULL);
INSERT INTO store_meta VALUES ({SCHEMA_VERSION});
{_BARS}
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


def _same(left: str, right: str) -> str:
    return " AND ".join(f"{left}.{v} IS NOT DISTINCT FROM {right}.{v}" for v in FIELDS)


_NAMED = ", ".join(FIELDS)

# Schema 1 knew no faults that only later bars show: nothing withheld, no findings of histories
FROM_SCHEMA_1 = f"""
DROP VIEW bars;
ALTER TABLE bar_vintages RENAME TO bar_vintages_1;
{_BARS}
INSERT INTO bar_vintages
SELECT date, symbol, {_NAMED}, available_at, superseded_at, NULL, flags, ingestion_id
FROM bar_vintages_1 ORDER BY rowid;
DROP TABLE bar_vintages_1;
UPDATE store_meta SET schema_version = 2;
"""

# Every bar, as if all of them had just come
STAGE_ALL = """
CREATE OR REPLACE TEMP TABLE incoming AS
SELECT symbol, date, 'new' AS news FROM bar_vintages WHERE superseded_at IS NULL
"""

LOG_MIGRATION = """
INSERT INTO ingestions (ingestion_id, ingested_at, kind, source) VALUES (?, ?, 'migration', ?)
"""
_CARRIED = ", ".join(f"s.{v}" for v in FIELDS)

# A row without a given instant is known at the end of its session day plus lag if the bar is
# new, else from this ingestion on. A given instant holds, unless another value claims it already.
STAGE_INCOMING = f"""
CREATE OR REPLACE TEMP TABLE incoming AS
WITH held AS (
    SELECT symbol, date, {_NAMED}, available_at, ingestion_id
    FROM bar_vintages SEMI JOIN (SELECT DISTINCT symbol, date FROM staged) USING (symbol, date)
), newest AS (
    SELECT symbol, date, max(available_at) AS newest_at FROM held GROUP BY ALL
), claimed AS (
    SELECT * FROM held
    QUALIFY row_number() OVER (
        PARTITION BY symbol, date, available_at ORDER BY ingestion_id DESC) = 1
), dated AS (
    SELECT s.date, s.symbol, {_CARRIED}, s.flags,
        n.newest_at IS NOT NULL AS is_held,
        c.symbol IS NOT NULL AND {_same("c", "s")} AS is_repeat,
        CASE
            WHEN s.available_at IS NOT NULL AND c.symbol IS NULL THEN s.available_at
            WHEN n.newest_at IS NULL THEN
                s.date + INTERVAL '{DAY_END}' + to_days(coalesce(i.publication_lag_days, 0))
            ELSE greatest(?::TIMESTAMP, n.newest_at)
        END AS available_at
    FROM staged s
    LEFT JOIN newest n USING (symbol, date)
    LEFT JOIN claimed c ON c.symbol = s.symbol AND c.date = s.date
        AND c.available_at = s.available_at
    LEFT JOIN instruments i ON i.symbol = s.symbol
), chain AS (
    SELECT date, symbol, {_NAMED}, flags, available_at, is_held, is_repeat, TRUE AS is_incoming,
        0 AS ingestion_id FROM dated
    UNION ALL
    SELECT date, symbol, {_NAMED}, NULL, available_at, TRUE, FALSE, FALSE, ingestion_id FROM held
), judged AS (
    SELECT *, row_number() OVER bar = 1 AS is_first,
        {" AND ".join(f"{v} IS NOT DISTINCT FROM lag({v}) OVER bar" for v in FIELDS)}
            AND row_number() OVER bar > 1 AS says_the_same
    FROM chain
    WINDOW bar AS (PARTITION BY symbol, date ORDER BY available_at, is_incoming, ingestion_id)
)
SELECT date, symbol, {_NAMED}, flags, available_at,
    CASE WHEN is_repeat OR says_the_same THEN 'unchanged'
         WHEN is_first AND NOT is_held THEN 'new'
         ELSE 'restated' END AS news
FROM judged WHERE is_incoming
"""

INSERT_BARS = f"""
INSERT INTO bar_vintages
SELECT date, symbol, {_NAMED}, available_at, NULL, NULL, flags, ?
FROM incoming WHERE news <> 'unchanged' ORDER BY symbol, date, available_at
"""

SUPERSEDE = """
UPDATE bar_vintages SET superseded_at = next.at
FROM (
    SELECT v.rowid AS id, lead(available_at) OVER (
        PARTITION BY symbol, date ORDER BY available_at, ingestion_id) AS at
    FROM bar_vintages v
    SEMI JOIN (SELECT symbol, date FROM incoming WHERE news = 'restated') USING (symbol, date)
) next
WHERE bar_vintages.rowid = next.id AND bar_vintages.superseded_at IS DISTINCT FROM next.at
"""

# Current bars of every symbol with news, as far back as a fault of a changed bar can look
CHANGED_HISTORIES = """
WITH changed AS (
    SELECT symbol, min(date) AS since FROM incoming WHERE news <> 'unchanged' GROUP BY symbol
)
SELECT v.symbol, v.date, v.high, v.low, v.close, v.available_at, v.date >= c.since AS may_reveal
FROM bar_vintages v JOIN changed c USING (symbol) WHERE v.superseded_at IS NULL
QUALIFY count(*) FILTER (v.date < c.since) OVER (
    PARTITION BY v.symbol ORDER BY v.date DESC) <= ?
ORDER BY v.symbol, v.date
"""

INSERT_FINDINGS = """
INSERT INTO history_findings
SELECT ?, rule, outcome, symbol, date, last_date, value, known_at FROM staged_findings s
WHERE NOT EXISTS (FROM history_findings f WHERE f.rule = s.rule AND f.symbol = s.symbol
    AND f.date = s.date AND f.last_date = s.last_date AND f.known_at = s.known_at)
"""

WITHHOLD = """
UPDATE bar_vintages SET withheld_from = f.known_at
FROM history_findings f
WHERE f.outcome = 'withheld' AND f.ingestion_id = ? AND bar_vintages.symbol = f.symbol
    AND bar_vintages.date BETWEEN f.date AND f.last_date
    AND bar_vintages.superseded_at IS NULL AND bar_vintages.withheld_from IS NULL
"""

# What this ingestion revealed, and what was known already about the bars it brought
FINDINGS_OF_INGESTION = """
SELECT rule, outcome, symbol, date, value, known_at FROM history_findings f
WHERE ingestion_id = ? OR EXISTS (
    FROM staged_bars s WHERE s.symbol = f.symbol AND s.date = f.date)
ORDER BY symbol, date, rule
"""

FINDINGS = """
SELECT rule, 'flagged' AS outcome, symbol, date, close AS value, available_at AS known_at
FROM (SELECT *, unnest(string_split(flags, ',')) AS rule FROM bar_vintages
    WHERE flags IS NOT NULL AND {known})
WHERE {chosen}
UNION ALL
SELECT rule, outcome, symbol, date, value, known_at FROM history_findings
WHERE {revealed} AND {chosen}
ORDER BY symbol, date, rule
"""

INSERT_QUARANTINE = """
INSERT INTO quarantine
SELECT ?, source, source_row, symbol, date, rule, reason, raw FROM staged_quarantine s
WHERE NOT EXISTS (FROM quarantine q WHERE q.rule = s.rule AND q.raw = s.raw
    AND q.source = s.source AND q.source_row = s.source_row)
"""

ADD_INSTRUMENTS = """
INSERT INTO instruments (symbol)
SELECT symbol FROM staged_instruments ANTI JOIN instruments USING (symbol)
"""


def update_instruments(columns: Sequence[str]) -> str:
    """Set the given columns; a NULL in the source leaves what was known."""
    changes = ", ".join(f"{c} = coalesce(s.{c}, instruments.{c})" for c in columns)
    return (
        f"UPDATE instruments SET {changes} FROM staged_instruments s "
        "WHERE s.symbol = instruments.symbol"
    )


INSTRUMENTS = """
SELECT symbol, coalesce(asset_class, 'unknown') AS asset_class,
    coalesce(exchange, '') AS exchange, coalesce(currency, '') AS currency,
    cost_bps, cost_vol, coalesce(publication_lag_days, 0)::BIGINT AS publication_lag_days,
    coalesce(description, '') AS description
FROM (SELECT DISTINCT symbol FROM bar_vintages UNION SELECT symbol FROM instruments)
LEFT JOIN instruments USING (symbol) ORDER BY symbol
"""

EXCHANGES = """
SELECT symbol, exchange FROM instruments
WHERE exchange IS NOT NULL AND symbol IN (SELECT unnest(?::VARCHAR[]))
"""

# As for bars: a value without a given instant is known at the end of its date if it is the first,
# else, where it differs, from this ingestion on. A given instant holds, unless another value
# claims it already. Vintages of one instant are in the order of their ingestion.
INSERT_SERIES = """
INSERT INTO series_vintages
WITH held AS (
    SELECT v.name, v.date, v.value, v.available_at, row_number() OVER (
        PARTITION BY v.name, v.date ORDER BY v.available_at DESC, v.rowid DESC) = 1 AS is_newest
    FROM series_vintages v
    SEMI JOIN (SELECT DISTINCT name, date FROM staged_series) USING (name, date)
), judged AS (
    SELECT s.name, s.date, s.value, s.available_at, n.value AS newest, n.available_at AS newest_at,
        s.is_given AND NOT EXISTS (FROM held h WHERE h.name = s.name AND h.date = s.date
            AND h.available_at = s.available_at) AS holds,
        s.is_given AND EXISTS (FROM held h WHERE h.name = s.name AND h.date = s.date
            AND h.available_at = s.available_at AND h.value = s.value) AS is_repeat
    FROM staged_series s
    LEFT JOIN (FROM held WHERE is_newest) n ON n.name = s.name AND n.date = s.date
)
SELECT name, date, value,
    CASE WHEN newest_at IS NULL OR holds THEN available_at
         ELSE greatest(?::TIMESTAMP, newest_at) END AS available_at
FROM judged
WHERE newest_at IS NULL OR holds OR NOT (is_repeat OR value = newest)
ORDER BY name, date, available_at
"""

# Bars with the place of their symbol in a list: numbers come out four times as fast as texts
NUMBERED_BARS = f"""
SELECT date, place, {_NAMED} FROM bar_vintages
JOIN (SELECT unnest(?::VARCHAR[]) AS symbol, unnest(range(len(?::VARCHAR[]))) AS place)
    USING (symbol) WHERE {{where}}
"""

# Of the symbols that trade: their earliest start, and whether each has as many sessions as wanted
HISTORY_START = """
SELECT min(start), coalesce(bool_and(n >= ?), TRUE) FROM (
    SELECT list_last(max(date, ?)) AS start, count(*) AS n, max(date) AS newest
    FROM bar_vintages WHERE {where} GROUP BY symbol
) WHERE newest >= ?::DATE - ?::INTEGER
"""

# Days after `start` on which something about earlier bars became known
LATE_KNOWLEDGE = """
SELECT DISTINCT day FROM (
    SELECT date, unnest([available_at, withheld_from])::DATE AS day FROM bar_vintages
    WHERE {where} AND greatest(available_at, withheld_from) >= ?
) WHERE day > date AND day > ? ORDER BY day
"""

# Share of a symbol's bars whose first value was known only after their session day
LATE_SHARE = """
SELECT symbol, avg((first_known::DATE > date)::INTEGER) AS share FROM (
    SELECT symbol, date, min(available_at) AS first_known FROM bar_vintages
    WHERE {where} GROUP BY symbol, date
) GROUP BY symbol ORDER BY symbol
"""

SUMMARY_NAMES = (
    *("symbols", "bars", "superseded", "first", "last", "flagged"),
    *("withheld", "quarantined", "ingestions", "series"),
)
SUMMARY = """
SELECT count(DISTINCT symbol) AS symbols,
    count(*) FILTER (superseded_at IS NULL AND withheld_from IS NULL) AS bars,
    count(*) FILTER (superseded_at IS NOT NULL) AS superseded,
    min(date) AS "first", max(date) AS "last",
    count(*) FILTER (flags IS NOT NULL AND superseded_at IS NULL) AS flagged,
    count(*) FILTER (withheld_from IS NOT NULL AND superseded_at IS NULL) AS withheld,
    (SELECT count(*) FROM quarantine) AS quarantined,
    (SELECT count(*) FROM ingestions) AS ingestions,
    (SELECT count(DISTINCT name) FROM series_vintages) AS series
FROM bar_vintages
"""


CURRENT = "superseded_at IS NULL AND withheld_from IS NULL"
"""Bars that are known and held true now."""


def known_at(moment: str) -> str:
    """Condition of bars known and held true at an instant, an SQL expression."""
    later = " AND ".join(
        f"({ended} IS NULL OR {ended} > {moment})" for ended in ("superseded_at", "withheld_from")
    )
    return f"available_at <= {moment} AND {later}"


def as_of_views(limit: datetime | None) -> str:
    """Temporary views that hide what became known after ``limit``."""
    known, published = CURRENT, "TRUE"
    if limit is not None:
        moment = f"TIMESTAMP '{limit.isoformat(sep=' ')}'"
        known, published = known_at(moment), f"available_at <= {moment}"
    return (
        f"CREATE TEMP VIEW bars AS SELECT date, symbol, {_NAMED} FROM bar_vintages WHERE {known}; "
        f"CREATE TEMP VIEW series AS SELECT * FROM series_vintages WHERE {published}"
    )
