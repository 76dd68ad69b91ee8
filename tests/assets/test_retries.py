"""A step is tried again for the faults that pass by themselves, and for no other."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy
from fake_workspace import Home
from filelock import FileLock, Timeout

from tests.support.ports import free_port
from tft_assets import retries
from tft_assets.build import build_defs
from tft_assets.missing import BuildError, only_builder
from tft_assets.retries import transient_fault
from tft_core.data.store import MarketDataStore
from tft_core.errors import DataError, LedgerError, StorageError, StorageRefusedError, TrainingError

KEY = "2022-01-01"


def raised(action: Callable[[], object]) -> BaseException:
    """What an action raises."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test is about
        return error
    raise AssertionError("nothing was raised")


def caused_by(error: Exception, cause: BaseException) -> BaseException:
    def raise_it() -> None:
        raise error from cause

    return raised(raise_it)


def locked_sqlite(path: Path) -> BaseException:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    other = sqlite3.connect(path, timeout=0)
    error = raised(lambda: other.execute("CREATE TABLE t (x)"))
    holder.close()
    other.close()
    return error


def test_a_market_store_that_another_process_holds_passes(tmp_path: Path) -> None:
    path = tmp_path / "market.duckdb"
    hold = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        error = raised(lambda: MarketDataStore(path, lock_timeout_s=0.1))
        holder.kill()
    assert transient_fault(error) == "market store locked"


def test_a_locked_data_base_passes_also_behind_an_error_of_the_core(tmp_path: Path) -> None:
    error = locked_sqlite(tmp_path / "a.db")
    assert transient_fault(error) == "database locked"
    behind = caused_by(LedgerError("the ledger must be writable"), error)
    assert transient_fault(behind) == "database locked"


def test_a_lock_that_sqlalchemy_reports_passes_too(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
    with engine.connect() as connection:
        statement = sqlalchemy.text("CREATE TABLE t (x INTEGER)")
        error = raised(lambda: connection.execute(statement))
    holder.close()
    assert isinstance(error, sqlalchemy.exc.OperationalError)
    assert transient_fault(error) == "database locked"


def test_a_server_that_is_away_passes() -> None:
    pytest.importorskip("psycopg2")
    url = f"postgresql+psycopg2://tft:secret@127.0.0.1:{free_port()}/studies"
    error = raised(sqlalchemy.create_engine(url).connect)
    assert transient_fault(error) == "database unreachable"


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), BrokenPipeError(32, "pipe")])
def test_a_lost_connection_passes(error: ConnectionError) -> None:
    assert transient_fault(error) == "connection lost"


def test_an_object_store_that_is_away_passes_and_one_that_refuses_does_not() -> None:
    assert transient_fault(StorageError("found timed out")) == "object store unreachable"
    assert transient_fault(StorageRefusedError("found no such key")) is None


def test_what_has_no_name_does_not_pass(tmp_path: Path) -> None:
    no_table = raised(lambda: sqlite3.connect(":memory:").execute("SELECT * FROM nothing"))
    assert isinstance(no_table, sqlite3.OperationalError)
    denied = sqlalchemy.exc.OperationalError(
        "SELECT 1", {}, Exception("password authentication failed for user")
    )
    killed = caused_by(TrainingError("the process must end by itself"), BrokenProcessPool("gone"))
    for error in (
        TrainingError("the loss is not a number"),
        DataError("no bars of EURUSD"),
        no_table,
        caused_by(LedgerError("the ledger must be readable"), no_table),
        denied,
        killed,
        MemoryError(),
        OSError(28, "No space left on device"),
    ):
        assert transient_fault(error) is None, repr(error)


def test_a_second_builder_is_refused_and_does_not_wait(tmp_path: Path) -> None:
    with FileLock(tmp_path / "builder.lock"):

        def build() -> None:
            with only_builder(tmp_path, "run"):
                pass

        error = raised(build)
    assert isinstance(error, BuildError) and isinstance(error.__cause__, Timeout)
    assert transient_fault(error) is None


# -- what Dagster does -------------------------------------------------------------------------


def materialize(home: Home, instance: dg.DagsterInstance) -> tuple[bool, int, str]:
    """Success, number of retries, and what the failed step said."""
    job = build_defs(home.resources()).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey("market_data")],
        partition_key=KEY,
        instance=instance,
        raise_on_error=False,
    )
    again = [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]
    failed = [e.step_failure_data for e in result.all_events if e.is_step_failure]
    said = failed[0].user_failure_data.description if failed else ""
    return result.success, len(again), said


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)


def test_a_step_goes_on_once_a_passing_fault_is_gone(
    home: Home, instance: dg.DagsterInstance
) -> None:
    locked = {"as": "StoreLockedError", "refuses": "held by PID 12", "times": 2}
    home.set_faults({f"market_data/{KEY}": locked})
    assert materialize(home, instance) == (True, 2, "")
    assert home.workspace().is_fresh("market_data", KEY)


def test_a_passing_fault_that_stays_fails_the_step_in_its_own_words(
    home: Home, instance: dg.DagsterInstance
) -> None:
    home.set_faults({f"market_data/{KEY}": {"as": "StoreLockedError", "refuses": "held by PID 12"}})
    assert materialize(home, instance) == (False, 3, "held by PID 12")


def test_a_refusal_of_the_core_is_final(home: Home, instance: dg.DagsterInstance) -> None:
    home.set_faults({f"market_data/{KEY}": {"refuses": "the loss is not a number", "times": 1}})
    assert materialize(home, instance) == (False, 0, "the loss is not a number")
