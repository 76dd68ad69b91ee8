"""Freed memory is kept for a block and handed back at its end; other C libraries are left alone.

How much it saves is measured, not tested (docs/EXPERIMENTS.md): where a heap happens to end decides
over the page faults of a process.
"""

import ctypes
import platform
from collections.abc import Callable

import pytest

from tft_core.training import allocator
from tft_core.training.allocator import (
    KEPT,
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    MMAP_LIMIT,
    freed_memory_kept,
)


class Recorded:
    """The C library, with what it was asked and answered."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None)
        self.calls: list[tuple[str, tuple[int, ...], int]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def called(*arguments: int) -> int:
            answer = getattr(self.libc, name)(*arguments)
            self.calls.append((name, arguments, answer))
            return answer

        return called


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no mallopt")
def test_glibc_takes_the_limits_and_gets_its_own_back_after_an_error(monkeypatch) -> None:
    libc = Recorded()
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: libc)
    with pytest.raises(ZeroDivisionError), freed_memory_kept():
        assert libc.calls == [
            ("mallopt", (M_MMAP_THRESHOLD, MMAP_LIMIT), 1),
            ("mallopt", (M_TRIM_THRESHOLD, KEPT), 1),
        ]
        raise ZeroDivisionError
    (restored, trimmed) = libc.calls[2:]
    assert restored == ("mallopt", (M_TRIM_THRESHOLD, 2 * MMAP_LIMIT), 1)
    assert trimmed[:2] == ("malloc_trim", (0,))


def test_another_c_library_is_not_touched(monkeypatch) -> None:
    libc = Recorded()
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("musl", "1.2"))
    with freed_memory_kept():
        pass
    assert libc.calls == []
