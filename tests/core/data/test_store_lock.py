"""Several processes at one store: a bounded wait, then who holds it and what to do."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market
from tft_core.errors import StoreLockedError

HOLD = """
import sys, time
import duckdb
con = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("held", flush=True)
time.sleep(float(sys.argv[3]))
con.close()
"""


def hold(path: Path, how: str, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), how, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    return process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with MarketDataStore(tmp_path / "market.duckdb") as store:
        store.ingest(synthetic_market(1, 20))
    return tmp_path / "market.duckdb"


@pytest.mark.parametrize("read_only", [True, False])
def test_a_store_held_by_a_writer_is_refused_with_its_pid_after_a_bounded_wait(
    path: Path, read_only: bool
) -> None:
    holder = hold(path, "write", 30)
    try:
        began = time.monotonic()
        with pytest.raises(StoreLockedError, match=rf"held by PID {holder.pid} .* for 0\.3 s"):
            MarketDataStore(path, read_only=read_only, lock_timeout_s=0.3)
        assert 0.3 <= time.monotonic() - began < 5.0
    finally:
        holder.kill()
        holder.wait()


def test_a_writer_that_lets_go_in_time_is_waited_for(path: Path) -> None:
    holder = hold(path, "write", 0.5)
    with MarketDataStore(path, lock_timeout_s=20.0) as store:
        assert len(store.symbols()) == 1
    holder.wait()


def test_readers_share_the_store_and_keep_a_writer_out(path: Path) -> None:
    holder = hold(path, "read", 30)
    try:
        with MarketDataStore(path, read_only=True, lock_timeout_s=0.3) as store:
            assert len(store.symbols()) == 1
        with pytest.raises(StoreLockedError, match=f"held by PID {holder.pid}"):
            MarketDataStore(path, lock_timeout_s=0.2)
    finally:
        holder.kill()
        holder.wait()


CROWD = r"""
import os, sys, time
from tft_core.data.store import MarketDataStore
from tft_core.errors import StoreLockedError

path, n_readers, patience = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
readers = []
for number in range(n_readers):
    if (child := os.fork()) == 0:
        began = time.monotonic()
        try:
            MarketDataStore(path, read_only=True, lock_timeout_s=patience).close()
            answer = "read"
        except StoreLockedError as error:
            waited = time.monotonic() - began
            answer = f"refused {waited:.2f} {error}"
        os.write(1, f"{answer}\n".encode())  # one write, so that lines stay whole
        os._exit(0)
    readers.append(child)
for child in readers:
    os.waitpid(child, 0)
"""


def crowd(path: Path, n_readers: int, patience: float) -> tuple[list[str], str]:
    done = subprocess.run(
        [sys.executable, "-c", CROWD, str(path), str(n_readers), str(patience)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.splitlines(), done.stderr


def test_twenty_readers_at_a_written_store_are_told_who_holds_it_after_a_bounded_wait(
    path: Path,
) -> None:
    holder = hold(path, "write", 60)
    try:
        answers, complaints = crowd(path, 20, 0.5)
    finally:
        holder.kill()
        holder.wait()
    assert len(answers) == 20
    for answer in answers:
        verdict, waited, told = answer.split(" ", 2)
        assert verdict == "refused"
        assert 0.5 <= float(waited) < 10.0
        assert f"held by PID {holder.pid}" in told
        assert f"wait for that process or end it (`ps -p {holder.pid}`)" in told
    assert "Traceback" not in complaints


def test_twenty_readers_share_a_store_once_its_writer_lets_go(path: Path) -> None:
    holder = hold(path, "write", 0.5)
    answers, complaints = crowd(path, 20, 60.0)
    holder.wait()
    assert answers == ["read"] * 20
    assert "Traceback" not in complaints


def test_a_killed_writer_leaves_a_store_that_opens(path: Path) -> None:
    script = (
        "import sys, os, signal\n"
        "from tft_core.data.store import MarketDataStore\n"
        "from tft_core.data.synthetic import synthetic_market\n"
        "store = MarketDataStore(sys.argv[1])\n"
        "store.ingest(synthetic_market(2, 30, seed=1))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    with MarketDataStore(path, read_only=True) as store:
        assert store.symbols() == ("S00", "S01")
        assert store.summary()["ingestions"] == 2


def test_within_one_process_a_reader_shares_the_writers_file(path: Path) -> None:
    with MarketDataStore(path) as writer, MarketDataStore(path, read_only=True) as reader:
        writer.ingest(synthetic_market(2, 20))
        assert reader.symbols() == ("S00", "S01")


def test_within_one_process_a_reader_keeps_a_writer_out(path: Path) -> None:
    with (
        MarketDataStore(path, read_only=True),
        pytest.raises(StoreLockedError, match="this process"),
    ):
        MarketDataStore(path, lock_timeout_s=0.1)
