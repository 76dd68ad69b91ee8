"""SIGKILL while ``tft nightly`` catches up on missed sessions, then the same night again.

A home with a promoted model, one published night and three sessions that are due is copied; the
job is killed in the copy, at a random moment or at a system call that changes something in it, and
run again to the end. The ledger must then be that of a night nobody killed, row by row.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from tests.faults import strace
from tests.faults.report import Row
from tests.support.tiny import load_store, tiny_bars, tiny_settings
from tft_core.data.calendar import last_closed_session
from tft_core.data.store import MarketDataStore
from tft_core.strategy.ledger import Ledger
from tft_core.strategy_adapter import STRATEGY_ID
from tft_core.training_pipeline import (
    TrainingPipeline,
    Workspace,
    phases,  # noqa: F401 - children must find it imported
)
from tft_core.training_pipeline.config import OperationsConfig
from tft_core.training_pipeline.nightly import NightlyReport, run_nightly

ROOT = Path(__file__).parents[2]
LAST = tiny_bars()["date"].max()
MISSED = pd.bdate_range(LAST + pd.offsets.BDay(1), periods=3)
WHAT = "SIGKILL of `tft nightly` at a random moment or system call, then the same night again"
TARGET = 60


def night(home: Path, session: pd.Timestamp = MISSED[-1]) -> NightlyReport:
    """The job as it would run in the night after a session."""
    now = datetime.combine(session.date() + timedelta(days=1), datetime.min.time(), UTC)
    return run_nightly(Workspace.open(tiny_settings(home)), now)


def make_template(home: Path) -> None:
    """A lifecycle with a promoted model, and what ``miss_sessions`` adds."""
    settings = tiny_settings(home)
    load_store(settings, tiny_bars())
    TrainingPipeline(settings=settings).run()
    miss_sessions(home)


def miss_sessions(home: Path) -> None:
    """The first night of a finished lifecycle, and bars of the sessions after it."""
    settings = tiny_settings(home)
    night(home, LAST)
    rng = np.random.default_rng(1)
    newest = tiny_bars().query("date == @LAST").set_index("symbol")
    with MarketDataStore(settings.store_path) as store:
        for day in MISSED:
            close = newest["close"] * np.exp(0.008 * rng.standard_normal(len(newest)))
            newest = newest.assign(date=day, open=newest["close"], close=close)
            both = newest[["open", "close"]]
            newest = newest.assign(high=both.max(axis=1), low=both.min(axis=1))
            store.ingest(newest.reset_index())


def nightly_kills(
    folder: Path, n_random: int = 60, n_calls: int = 40, template: Path | None = None
) -> Row:
    """Kill and judge; ``template`` is a home that ``make_template`` made, default a new one."""
    folder.mkdir(parents=True, exist_ok=True)
    home = folder / "home"
    if template is None:
        template = folder / "template"
        # in a process of its own: this one is forked, so it must have started no threads
        command = [sys.executable, "-m", "tests.faults.nightly_kills", "make", str(template)]
        subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    # a calendar takes a second to load: once for all children
    last_closed_session(OperationsConfig().exchange, datetime.now(UTC))
    expected, seconds = _reference(template, home)
    problems: list[str] = []
    counts = Counter[str]()
    rng = random.Random(5)
    while counts["random"] < n_random and counts["finished"] <= 2 * n_random:
        _copy(template, home)
        killed = _killed_after(home, rng.uniform(0.0, 1.02 * seconds))
        if killed and rng.random() < 0.25:  # and once more, in the night that repairs it
            counts["random"] += _killed_after(home, rng.uniform(0.0, seconds))
        counts["random" if killed else "finished"] += 1
        problems += [f"random kill: {found}" for found in _judge(home, expected, counts)]
    if strace.is_available() and n_calls:
        _copy(template, home)
        log = folder / "log"
        points = [c for c in strace.calls(lambda: night(home), home, log) if c.changes]
        chosen = np.unique(np.linspace(0, len(points) - 1, n_calls).round().astype(int))
        counts["points"] = len(points)
        for i in chosen:
            _copy(template, home)
            call = points[i]
            inject = f"inject={call.name}:signal=SIGKILL:when={call.nth}"
            code, _ = strace.traced(lambda: night(home), ["-e", inject], log)
            if os.WIFSIGNALED(code):
                counts["calls"] += 1
            else:
                problems.append(f"the kill at {call.line[:120]} did not reach the process")
            found = _judge(home, expected, counts)
            problems += [f"kill at {call.line[:120]}: {line}" for line in found]
    n = counts["random"] + counts["calls"]
    outcome = (
        f"{counts['random']} at random, {counts['calls']} at calls that change the home (of "
        f"{counts['points']}); left with {_left(counts)} of {len(MISSED)} missed sessions "
        "published, run again: each published once, in order, as in a night nobody killed"
    )
    return Row(WHAT, n, len(problems), TARGET, outcome, tuple(problems[:20]))


def _left(counts: Counter[str]) -> str:
    return ", ".join(f"{i} ({counts[f'left {i}']}×)" for i in range(len(MISSED) + 1))


def _reference(template: Path, home: Path) -> tuple[list[tuple], float]:
    """Rows of the ledger after a night that nobody kills, and how long the second one takes."""
    seconds = 0.0
    for _ in range(2):
        _copy(template, home)
        started = time.monotonic()
        _forked(lambda: night(home))
        seconds = time.monotonic() - started
    rows, sessions = _ledger(home)
    if sessions != [LAST.date(), *(day.date() for day in MISSED)]:
        raise RuntimeError(f"a night must publish what was missed, found {sessions}")
    return rows, seconds


def _judge(home: Path, expected: list[tuple], counts: Counter[str]) -> list[str]:
    """What is wrong after a kill, and after the night that follows it."""
    wanted = [LAST.date(), *(day.date() for day in MISSED)]
    rows, sessions = _ledger(home)
    found = [] if sessions == wanted[: len(sessions)] else [f"out of order: {sessions}"]
    if not set(rows) <= set(expected):
        found.append(f"the kill left other rows: {sorted(set(rows) - set(expected))[:2]}")
    counts[f"left {len(sessions) - 1}"] += 1
    _forked(lambda: night(home))
    after, sessions = _ledger(home)
    if sessions != wanted or after != expected:
        odd = set(after).symmetric_difference(expected)
        found.append(f"the night after gave {len(after)} rows of {len(expected)}, {list(odd)[:2]}")
    with Ledger(tiny_settings(home).ledger_path) as ledger:
        found += ledger.verify()
    return found


def _ledger(home: Path) -> tuple[list[tuple], list[date]]:
    """Every row of the ledger but the time of publication, and the sessions published.

    A publication's hash covers that time; ``Ledger.verify`` holds each against its rows.
    """
    with Ledger(tiny_settings(home).ledger_path) as ledger:
        heads = ledger.publications().drop(columns=["published_at", "payload_hash"])
        frames = [heads, ledger.signals(revision="all"), ledger.positions(revision="all")]
        sessions = ledger.sessions(STRATEGY_ID)
    rows = [tuple(map(str, row)) for frame in frames for row in frame.itertuples(index=False)]
    keys = [(r.strategy_id, r.session, r.symbol, r.revision) for r in frames[2].itertuples()]
    if len(set(keys)) != len(keys):
        raise RuntimeError("the ledger holds a position twice")
    return rows, sessions


def _copy(template: Path, home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(template, home)


def _start(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def _forked(work: Callable[[], object]) -> None:
    _, code = os.waitpid(_start(work), 0)
    if code != 0:
        raise RuntimeError(f"a night that nobody kills must end well, found wait status {code}")


def _killed_after(home: Path, seconds: float) -> bool:
    """Whether the night was still running when it was killed."""
    pid = _start(lambda: night(home))
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    _, code = os.waitpid(pid, 0)
    return os.WIFSIGNALED(code)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.nightly_kills")
    parser.add_argument("what", choices=["make", "miss", "kill"])
    parser.add_argument("home", type=Path, help="the home to make, or to copy and kill in")
    parser.add_argument("--folder", type=Path, help="where copies go")
    parser.add_argument("--random", type=int, default=60)
    parser.add_argument("--calls", type=int, default=40)
    options = parser.parse_args()
    if options.what == "kill":
        row = nightly_kills(options.folder, options.random, options.calls, options.home)
        print(json.dumps(row.to_dict()))
        return 0 if row.bad == 0 else 1
    (make_template if options.what == "make" else miss_sessions)(options.home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
