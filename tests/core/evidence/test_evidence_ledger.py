"""The ledger counts everything once, loses nothing, and lets nothing be taken back."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from tft_core.errors import ArtifactError, ConfigError
from tft_core.evidence import EvidenceLedger, LedgerCounts


def trials(n: int, n_pruned: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": np.arange(n),
            "state": ["pruned"] * n_pruned + ["complete"] * (n - n_pruned),
            "value": [np.nan] * n_pruned + [1.5] * (n - n_pruned),
            "params_lr": np.linspace(1e-3, 2e-3, n),
            "params_loss_mode": [None] * n,
        }
    )


def test_pruned_trials_and_every_look_are_counted(tmp_path):
    ledger = EvidenceLedger.under(tmp_path)
    assert ledger.counts() == LedgerCounts(0, 0, 0, 0, 0)
    assert ledger.record_trials("study-a", trials(5, 2)) == 5
    assert ledger.record_trials("study-b", trials(3, 0)) == 3
    ledger.record_look("hash1", ["2020-01-01", "2022-01-01"], "out_of_sample")
    ledger.record_look("hash1", ["2020-01-01"], "tear_sheet")
    ledger.record_look("hash2", ["2020-01-01"], "out_of_sample")
    assert ledger.counts() == LedgerCounts(2, 8, 2, 3, 2)
    assert ledger.counts(study="study-a").trials == 5
    assert ledger.looks()["windows"].tolist()[0] == ["2020-01-01", "2022-01-01"]
    assert ledger.trials()["params"].iloc[0] == '{"lr": 0.001}'


def test_a_resumed_study_counts_only_its_new_trials(tmp_path):
    ledger = EvidenceLedger.under(tmp_path)
    ledger.record_trials("study", trials(5, 2))
    assert ledger.record_trials("study", trials(8, 2)) == 3
    assert EvidenceLedger.under(tmp_path).counts().trials == 8


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM trials",
        "UPDATE trials SET state = 'complete'",
        "DELETE FROM looks",
        "UPDATE looks SET purpose = ''",
    ],
)
def test_nothing_can_be_taken_back(tmp_path, statement):
    ledger = EvidenceLedger.under(tmp_path)
    ledger.record_trials("study", trials(2, 1))
    ledger.record_look("hash", ["2020-01-01"], "out_of_sample")
    with (
        sqlite3.connect(ledger.path) as db,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        db.execute(statement)


def test_looks_of_concurrent_writers_are_all_counted(tmp_path):
    ledger = EvidenceLedger.under(tmp_path)

    def look(n: int) -> None:
        EvidenceLedger(ledger.path).record_look(f"hash{n % 3}", ["2020-01-01"], "test")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(40)))
    counts = ledger.counts()
    assert (counts.looks, counts.procedures) == (40, 3)


def test_a_failed_write_counts_nothing(tmp_path):
    ledger = EvidenceLedger.under(tmp_path)
    with pytest.raises(ArtifactError, match="NOT NULL"), ledger._write() as db:
        db.execute("INSERT INTO looks VALUES (1, 'hash', '[]', 'a', 'now')")
        db.execute("INSERT INTO looks VALUES (2, NULL, '[]', 'a', 'now')")
    assert ledger.counts().looks == 0


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    path = tmp_path / "evidence.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(ArtifactError, match="must be a writable SQLite file"):
        EvidenceLedger(path).counts()
    with pytest.raises(ConfigError, match="must name the windows"):
        EvidenceLedger(path).record_look("hash", [], "test")
