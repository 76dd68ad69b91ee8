"""Independent pieces of a prediction side by side, each with torch on one thread.

Torch's own threads wait for each other inside every operation, which on small matrices and on a
busy machine costs more than it brings. Pieces that share nothing don't wait.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch

T = TypeVar("T")

_lock = threading.Lock()
_n_pinned, _threads_before = 0, 1


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch with a single thread per operation in this process; afterwards as it was."""
    global _n_pinned, _threads_before
    with _lock:  # predictions may run side by side: the last one to end restores
        if _n_pinned == 0:
            _threads_before = torch.get_num_threads()
        _n_pinned += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _n_pinned -= 1
            if _n_pinned == 0:
                torch.set_num_threads(_threads_before)


def run_all(pieces: Sequence[Callable[[], T]], workers: int | None) -> list[T]:
    """Results of the pieces, in order.

    Args:
        workers: Threads that share the pieces, each with one torch thread; the results do not
            depend on their number. ``None``: one after another, torch as the process has it.
    """
    if workers is None:
        return [piece() for piece in pieces]
    with one_torch_thread():
        if workers == 1 or len(pieces) == 1:
            return [piece() for piece in pieces]
        n = min(workers, len(pieces))
        with ThreadPoolExecutor(n, initializer=partial(torch.set_num_threads, 1)) as pool:
            return [done.result() for done in [pool.submit(piece) for piece in pieces]]
