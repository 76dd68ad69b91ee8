"""``python -m tests.faults``: inject every fault, print the table, write it into a document.

Each suite runs in a process of its own, two at a time. The exit code is 1 where a fault broke
something or could not be injected, so that a machine without strace is not taken for a proof.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from tests.faults import report
from tests.faults.audited_kills import audited_kills
from tests.faults.corruption import corruption
from tests.faults.crash_states import crash_states
from tests.faults.crowd import crowd
from tests.faults.hostile import hostile
from tests.faults.metadata_fuzz import metadata_fuzz
from tests.faults.nightly_kills import nightly_kills
from tests.faults.random_kills import random_kills
from tests.faults.syscalls import errors, kill_points, read_errors

SUITES = {
    "nightly_kills": nightly_kills,  # the longest first: two suites run at a time
    "kill_points": kill_points,
    "errors": errors,
    "random_kills": random_kills,
    "crash_states": lambda folder: crash_states(folder, n_draws=10),
    "read_errors": read_errors,
    "corruption": corruption,
    "hostile": hostile,
    "metadata_fuzz": metadata_fuzz,
    "crowd": crowd,
}
SMALL = {
    "kill_points": lambda folder: kill_points(folder, every=40),
    "audited_kills": lambda folder: audited_kills(folder, every=3),
    "random_kills": lambda folder: random_kills(folder, 12),
    "crash_states": lambda folder: crash_states(folder, n_draws=1),
    "errors": lambda folder: errors(folder, every=60),
    "corruption": lambda folder: corruption(folder, 4),
    "hostile": hostile,
    "crowd": lambda folder: crowd(folder, 4, 5),
}
"""The continuous-integration version: the same code, fewer times; its targets are not judged.

The nightly kills are in ``tests/integration/test_nightly.py``, which has a lifecycle already.
"""
BEGIN, END = "<!-- faults: begin (make test-faults) -->", "<!-- faults: end -->"
ROOT = Path(__file__).parents[2]


def run_suite(name: str, *, small: bool) -> dict:
    """One suite in this process, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="tft-faults-") as folder:
        started = time.monotonic()
        row = (SMALL if small else SUITES)[name](Path(folder).resolve())
        used = os.times()
        cpu = used.user + used.system + used.children_user + used.children_system
        return {"row": row.to_dict(), "wall_s": time.monotonic() - started, "cpu_s": cpu}


def run_apart(name: str) -> dict:
    """One suite in another process; what killed it, if something did, is its problem."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--suite", name],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode not in (0, 1) or not lines:
        problem = f"the suite ended with {done.returncode}: {done.stderr[-1500:]}"
        row = report.Row(name, 0, 1, 1, "", (problem,))
        return {"row": row.to_dict(), "wall_s": 0.0, "cpu_s": 0.0}
    answer = json.loads(lines[-1])
    row = answer["row"]
    verdict = "ok" if row["passed"] else (row["not_run"] or f"FAILED: {row['problems'][:5]}")
    print(
        f"{name}: {row['n']} injected, {row['bad']} bad, {answer['wall_s']:.0f} s "
        f"({answer['cpu_s']:.0f} s of CPU): {verdict}",
        flush=True,
    )
    return answer


def commit() -> str:
    git = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(git, capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stdout.strip() or "unknown"


def conditions(code: str, wall_s: float, cpu_s: float) -> str:
    return (
        f"Commit {code}, {datetime.now(UTC):%Y-%m-%d}; "
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()} "
        f"{platform.release().split('-')[0]}, Python {platform.python_version()}; "
        f"{wall_s:.0f} s, {cpu_s:.0f} s of CPU.\n"
    )


def write(document: Path, text: str) -> None:
    old = document.read_text("utf-8")
    head, rest = old.split(BEGIN)
    document.write_text(f"{head}{BEGIN}\n{text}{END}{rest.split(END)[1]}", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--suite", choices=sorted({*SUITES, *SMALL}), help="one suite, as JSON")
    parser.add_argument("--small", action="store_true", help="the sizes that CI runs")
    parser.add_argument("--write", type=Path, metavar="FILE", help="document to put the table in")
    parser.add_argument("--jobs", type=int, default=2, help="suites at a time")
    arguments = parser.parse_args()
    if arguments.suite:
        answer = run_suite(arguments.suite, small=arguments.small)
        print(json.dumps(answer))
        return 0 if answer["row"]["passed"] else 1
    if arguments.small:
        answers = {name: run_suite(name, small=True)["row"] for name in SMALL}
        print(json.dumps(answers))
        return 0
    started, code = time.monotonic(), commit()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        answers = list(pool.map(run_apart, SUITES))
    rows = [
        report.Row(**{key: value for key, value in answer["row"].items() if key != "passed"})
        for answer in answers
    ]
    cpu_s = sum(answer["cpu_s"] for answer in answers)
    spent = conditions(code, time.monotonic() - started, cpu_s)
    text = f"{spent}\n{report.markdown(rows)}"
    print(f"\n{text}")
    for row in rows:
        for problem in row.problems:
            print(f"{row.fault}: {problem}")
    if arguments.write:
        write(arguments.write, text)
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
