"""Training steps on a GPU: eager, as a CUDA graph, in bfloat16; and what a run's step costs.

    python -m benchmarks.gpu_step [--quick]

Time per step includes drawing contexts and assembling the minibatch on the host. Every
configuration trains ``STEPS`` steps after a warm-up epoch; the median epoch counts.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from benchmarks.measure import noise_rows
from tft_core.models.config import XTrendConfig
from tft_core.sequences import RowTable
from tft_core.training.config import TrainingConfig
from tft_core.training.determinism import pinned
from tft_core.training.loop import _MemberRun

EPOCHS = 3
MODES = {
    "eager": {"cuda_graph": False},
    "eager, bf16": {"cuda_graph": False, "amp": True},
    "graph": {},
    "graph, bf16": {"amp": True},
}


def time_step(
    rows: RowTable, config: XTrendConfig, training: TrainingConfig
) -> tuple[float, float, int]:
    """Milliseconds per step, windows per second, and peak device memory in MiB."""
    cuda = training.device == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with pinned(0, training.threads, training.device):
        run = _MemberRun(rows, np.ones(len(rows), bool), None, config, training, 0)
        run._epoch(0.5)
        taken = []
        for _ in range(EPOCHS):
            before, started = run.steps, time.perf_counter()
            run._epoch(0.5)  # its last line reads the loss, which waits for the device
            taken.append((time.perf_counter() - started) / (run.steps - before) * 1e3)
    milliseconds = float(np.median(taken))
    memory = torch.cuda.max_memory_allocated() // 2**20 if cuda else 0
    return milliseconds, training.batch_size / milliseconds * 1e3, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one network, one batch size")
    quick = parser.parse_args().quick
    rows = {v: noise_rows(50, 1000, v) for v in (8, 210)}
    cases = [
        ("plan(), 210 inputs, 16 contexts", 210, XTrendConfig.plan, 32),
        ("plan(), 210 inputs, 16 contexts", 210, XTrendConfig.plan, 256),
        ("paper(), 8 inputs, 20 contexts", 8, XTrendConfig.paper, 64),
        ("paper(), 8 inputs, 20 contexts", 8, XTrendConfig.paper, 256),
        ("paper(), 210 inputs, 20 contexts", 210, XTrendConfig.paper, 64),
    ]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print("| network | batch | mode | ms/step | windows/s | MiB |\n|---|---|---|---|---|---|")
    for what, n_features, preset, batch in cases[:1] if quick else cases:
        config = preset(n_features=n_features, n_assets=50)
        base = TrainingConfig(device="cuda", batch_size=batch, threads=2)
        for mode, changes in MODES.items():
            ms, rate, memory = time_step(rows[n_features], config, replace(base, **changes))
            print(f"| {what} | {batch} | {mode} | {ms:.2f} | {rate:.0f} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
