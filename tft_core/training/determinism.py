"""Pins what decides whether the same seed gives the same weights, and puts it back."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.utils.deterministic as strictness

from tft_core.errors import ConfigError

FILL = "fill_uninitialized_memory"


def machine(device: str = "cpu") -> dict[str, str]:
    """What else than seed, threads and versions the bits of trained weights depend on.

    Torch and oneDNN choose their kernels by the processor's instruction set, and kernels of
    different sets add in different orders. No seed can pin that, so it is recorded.
    """
    found = {
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


@contextmanager
def pinned(seed: int, threads: int, device: str = "cpu") -> Iterator[None]:
    """Seed PyTorch, fix its thread count and ask for deterministic kernels, for this block.

    The caller's generator state, thread count and flags are restored at the end.

    Raises:
        ConfigError: There is no such device, or OpenMP may start fewer threads than these.
    """
    _require_threads(threads)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"training.device must be one of this machine, found {device!r} with a torch "
            f'{torch.__version__} that sees no GPU; set it to "cpu" (docs/gpu.md)'
        )
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


def _require_threads(threads: int) -> None:
    """Refuse settings of OpenMP under which it may start fewer threads than it was asked for.

    oneDNN's LSTM in training divides its work by the threads asked for: what the missing ones
    should have done is left undone, and the numbers are wrong without a word.
    """
    limit = os.environ.get("OMP_THREAD_LIMIT", "")
    if limit.isdigit() and int(limit) < threads:
        raise ConfigError(
            f"training.threads must be at most $OMP_THREAD_LIMIT, found {threads} and {limit}; "
            "lower training.threads, or unset $OMP_THREAD_LIMIT"
        )
    dynamic = os.environ.get("OMP_DYNAMIC", "").strip().lower()
    if threads > 1 and dynamic not in ("", "0", "false"):
        raise ConfigError(
            f"$OMP_DYNAMIC must be false where training.threads is {threads}, found {dynamic}; "
            "unset it, or set training.threads to 1"
        )
