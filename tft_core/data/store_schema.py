"""The schema of a market store's file: made, required, and brought up from an older version.

Schema 1 → 2 is without loss: no bar, vintage or quarantined row changes. What schema 1 could
not say, which bars later ones show to be wrong, is judged on the bars as they stand.
"""

import shutil
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tft_core.data import store_sql
from tft_core.data.connection import LOCK_TIMEOUT_S, Connection
from tft_core.data.store_writing import judge_histories, next_ingestion
from tft_core.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class MigratedStore:
    """What a migration did to a store."""

    found: int
    """Schema before."""
    kept: Path
    """The file as it was."""
    n_vintages: int
    n_findings: int
    """Faults that later bars show, which the old schema had no place for."""


def require_schema(db: Connection, path: Path, *, make: bool) -> None:
    """Refuse a file that is no market store of today's schema; an empty one becomes one.

    Raises:
        DataError: Other tables, or another schema.
    """
    tables = _tables(db)
    if not tables and make:
        with db.transaction():
            db.run(store_sql.SCHEMA)
        return
    found = _schema_of(db, path, tables)
    if found < store_sql.SCHEMA_VERSION:
        raise DataError(
            f"{path} must have store schema {store_sql.SCHEMA_VERSION}, found {found}; "
            "run `tft migrate`"
        )
    if found > store_sql.SCHEMA_VERSION:
        raise DataError(
            f"{path} must have store schema {store_sql.SCHEMA_VERSION}, found {found}; "
            "use the version of the code that wrote it"
        )


def stored_schema(path: Path) -> int:
    """Schema of an existing store's file, whether it can be read today or not.

    Raises:
        DataError: It is no market store, or held by another process.
    """
    with closing(Connection(path, True, LOCK_TIMEOUT_S)) as db:
        return _schema_of(db, path, _tables(db))


def migrate_store(path: Path) -> MigratedStore:
    """Bring an older store to today's schema; the file as it was stays beside it.

    Raises:
        DataError: Its schema is today's or newer, an earlier migration's copy is still there,
            or another process holds it. The store is as it was then.
    """
    with closing(Connection(path, False, LOCK_TIMEOUT_S)) as db:
        found = _schema_of(db, path, _tables(db))
        if found != 1:
            raise DataError(
                f"{path} must have store schema 1 to be migrated, found {found}; leave it as it is"
            )
        db.run("CHECKPOINT")  # the file alone is the whole store
    kept = path.with_name(f"{path.name}.schema-{found}")
    if kept.exists():
        raise DataError(
            f"{kept} must not exist, found the copy of an earlier migration; move it away"
        )
    whole_or_none = kept.with_name(f".{kept.name}")
    shutil.copy2(path, whole_or_none)
    whole_or_none.replace(kept)
    with closing(Connection(path, False, LOCK_TIMEOUT_S)) as db:
        with db.transaction():
            number = next_ingestion(db)
            db.run(store_sql.FROM_SCHEMA_1)
            db.run(store_sql.STAGE_ALL)
            judge_histories(db, number)
            db.run(
                store_sql.LOG_MIGRATION,
                [number, datetime.now(UTC).replace(tzinfo=None), f"store schema {found}"],
            )
        return MigratedStore(
            found=found,
            kept=kept,
            n_vintages=db.scalar("SELECT count(*) FROM bar_vintages"),
            n_findings=db.scalar("SELECT count(*) FROM history_findings"),
        )


def _tables(db: Connection) -> set[str]:
    return {row[0] for row in db.rows("SELECT table_name FROM duckdb_tables()")}


def _schema_of(db: Connection, path: Path, tables: set[str]) -> int:
    if "store_meta" not in tables:
        raise DataError(
            f"{path} must be a market store, found a DuckDB file with "
            f"{', '.join(sorted(tables)) or 'no tables'}; give another path"
        )
    return db.scalar("SELECT schema_version FROM store_meta")
