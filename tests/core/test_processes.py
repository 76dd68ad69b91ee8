"""Whether a process has ended, told by its number and its start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tft_core.processes import has_ended, started_at

PROC = Path("/proc/self/stat").exists()


def test_this_process_lives_and_one_that_was_waited_for_has_ended() -> None:
    assert not has_ended(os.getpid(), started_at(os.getpid()))
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        start = started_at(child.pid)
    assert has_ended(child.pid, start)


@pytest.mark.skipif(not PROC, reason="starts of processes are not told")
def test_a_number_that_was_given_away_again_is_not_the_same_process() -> None:
    start = started_at(os.getpid())
    assert start is not None
    assert has_ended(os.getpid(), start - 1)


@pytest.mark.skipif(not PROC, reason="starts of processes are not told")
def test_one_that_nobody_waited_for_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        start = started_at(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in the table
        assert started_at(child.pid) is None
        assert has_ended(child.pid, start)


@pytest.mark.parametrize("start_is_told", [True, False])
def test_another_user_s_process_is_not_called_dead_where_its_start_is_hidden(
    monkeypatch: pytest.MonkeyPatch, *, start_is_told: bool
) -> None:
    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr("tft_core.processes.os.kill", refuse)
    told = 1234 if start_is_told else None
    monkeypatch.setattr("tft_core.processes.started_at", lambda pid: told)
    assert not has_ended(1, 1234)
    assert has_ended(1, 99) == start_is_told  # another process has the number now
