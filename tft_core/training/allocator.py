"""Memory that one step frees is kept for the next."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
MMAP_LIMIT = 32 << 20
"""Bytes from which glibc maps a block of its own whatever it is asked for."""
KEPT = 1 << 30
"""Bytes free at the top of the heap that are not handed back while training."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory for this block, and hand it back to the system at its end.

    A step frees tens of megabytes and asks for them again at once. glibc often returns them to the
    kernel in between, and a step of 30 ms then spends up to a quarter on thousands of page faults.
    Other C libraries are left as they are: this changes speed alone.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, MMAP_LIMIT)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        # where glibc's own adjustment ends as soon as a block of MMAP_LIMIT was freed
        libc.mallopt(M_TRIM_THRESHOLD, 2 * MMAP_LIMIT)
        libc.malloc_trim(0)
