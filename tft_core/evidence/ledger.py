"""Counts what was tried and what was looked at, for as long as the project lives.

One SQLite file under ``$TFT_HOME``: rows can be added, never changed or removed. A trial is
counted once however often its study is resumed or read; a look is counted every time.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tft_core.errors import ArtifactError, ConfigError
from tft_core.schema import json_value, utc_stamp

LEDGER_NAME = "evidence.sqlite"
_TIMEOUT_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS trials (
    study TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, value REAL,
    params TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (study, number));
CREATE TABLE IF NOT EXISTS looks (
    id INTEGER PRIMARY KEY, procedure TEXT NOT NULL, windows TEXT NOT NULL,
    purpose TEXT NOT NULL, at TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS trials_stay BEFORE UPDATE ON trials
    BEGIN SELECT RAISE(ABORT, 'the evidence ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS trials_last BEFORE DELETE ON trials
    BEGIN SELECT RAISE(ABORT, 'the evidence ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS looks_stay BEFORE UPDATE ON looks
    BEGIN SELECT RAISE(ABORT, 'the evidence ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS looks_last BEFORE DELETE ON looks
    BEGIN SELECT RAISE(ABORT, 'the evidence ledger is append-only'); END;
"""


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """How much was tried and seen."""

    studies: int
    trials: int
    """Finished trials of all studies, pruned ones included."""
    pruned: int
    looks: int
    """Times any reported window was evaluated."""
    procedures: int
    """Different procedures that were evaluated on reported windows."""


class EvidenceLedger:
    """Append-only count of trials and of looks at reported windows; safe among processes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def under(cls, home: str | os.PathLike[str]) -> "EvidenceLedger":
        """The ledger of a state directory (``Settings.home``)."""
        return cls(Path(home) / LEDGER_NAME)

    def record_trials(self, study: str, trials: pd.DataFrame) -> int:
        """Count a study's finished trials; those already counted stay as they are.

        Args:
            trials: ``TuningResult.trials``: number, state, value and ``params_*``.

        Returns:
            How many were new.
        """
        now = utc_stamp()
        columns = [str(c) for c in trials.columns if str(c).startswith("params_")]
        rows = [
            (
                study,
                int(row["number"]),
                str(row["state"]),
                None if pd.isna(row["value"]) else float(row["value"]),
                _params_json({name.removeprefix("params_"): row[name] for name in columns}),
                now,
            )
            for row in trials.to_dict(orient="records")
        ]
        with self._write() as db:
            before = db.total_changes
            db.executemany("INSERT OR IGNORE INTO trials VALUES (?, ?, ?, ?, ?, ?)", rows)
            return db.total_changes - before

    def record_look(self, procedure: str, windows: Sequence[str], purpose: str) -> None:
        """Count one evaluation on reported windows.

        Args:
            procedure: Content hash of what was evaluated (settings, code, data).
            windows: Keys of the reported folds that were read.
            purpose: Who read them, in a word: ``"out_of_sample"``, ``"tear_sheet"``, ….
        """
        if not windows:
            raise ConfigError("a look must name the windows it read, found none")
        row = (procedure, json.dumps(list(windows)), purpose, utc_stamp())
        with self._write() as db:
            db.execute("INSERT INTO looks (procedure, windows, purpose, at) VALUES (?,?,?,?)", row)

    def counts(self, *, study: str | None = None, prefix: str | None = None) -> LedgerCounts:
        """Totals, of everything, of one study's trials, or of all studies named alike.

        Args:
            prefix: Start of the studies' names: all that were ever run for one fold, also
                those that a changed space or data left behind.
        """
        where, values = ("WHERE study = ?", (study,)) if study is not None else ("", ())
        if prefix is not None:
            where, values = "WHERE SUBSTR(study, 1, ?) = ?", (len(prefix), prefix)
        with self._open() as db:
            studies, trials, pruned = db.execute(
                "SELECT COUNT(DISTINCT study), COUNT(*), COALESCE(SUM(state = 'pruned'), 0) "
                f"FROM trials {where}",
                values,
            ).fetchone()
            looks, procedures = db.execute(
                "SELECT COUNT(*), COUNT(DISTINCT procedure) FROM looks"
            ).fetchone()
        return LedgerCounts(studies, trials, pruned, looks, procedures)

    def procedures(self, purpose: str) -> int:
        """Different procedures that were evaluated on reported windows for a purpose."""
        with self._open() as db:
            query = "SELECT COUNT(DISTINCT procedure) FROM looks WHERE purpose = ?"
            return int(db.execute(query, (purpose,)).fetchone()[0])

    def trials(self) -> pd.DataFrame:
        """Every counted trial, in the order they were counted."""
        with self._open() as db:
            return pd.read_sql_query("SELECT * FROM trials ORDER BY rowid", db)

    def looks(self) -> pd.DataFrame:
        """Every counted look, oldest first."""
        with self._open() as db:
            frame = pd.read_sql_query("SELECT * FROM looks ORDER BY id", db)
        return frame.assign(windows=[json.loads(text) for text in frame["windows"]])

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=_TIMEOUT_SECONDS, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(_SCHEMA)
            yield db
        except sqlite3.DatabaseError as error:
            raise ArtifactError(
                f"the evidence ledger must be a writable SQLite file, found {error} at {self.path}"
            ) from error
        finally:
            db.close()

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction that no other process can interleave; all of it counts or nothing."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise


def _params_json(params: Mapping[str, Any]) -> str:
    given = {name: value for name, value in params.items() if not pd.isna(value)}
    return json.dumps(json_value(given), sort_keys=True)
