"""What a prediction costs: ``python -m benchmarks.inference`` prints one Markdown table.

A synthetic market, all 292 features built, 80 of them read by the plan's network (hidden 64, two
layers, 42 steps, 16 contexts), three members. Warm: one more session in a process that has answered
for the one before, as a night after a night. Attribution is included wherever it says so. Wall
times count on a quiet machine only; CPU times stand beside them.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from tests.support.served import Served, serve
from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market
from tft_core.inference import ServingConfig, TFTInferencePipeline

N_LIVE = 260
SERVING = ServingConfig(max_drift_psi=1e3, max_model_age_days=4000)
COLD = """
import sys, time
from datetime import date
from benchmarks.inference import SERVING
from tft_core.data.store import MarketDataStore
from tft_core.inference import TFTInferencePipeline
started, began = time.perf_counter(), time.process_time()
pipeline = TFTInferencePipeline.from_checkpoint(sys.argv[1], serving=SERVING)
with MarketDataStore(sys.argv[2], read_only=True) as store:
    pipeline.predict(date.fromisoformat(sys.argv[3]), store)
print(time.perf_counter() - started, time.process_time() - began)
"""
DEMO = {"d_hidden": 16, "n_heads": 2, "lstm_layers": 1, "seq_len": 32, "warmup": 10,
        "ctx_len": 16, "n_context": 4, "vsn_hidden": 4}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=int, nargs="+", default=[4, 50, 500])
    parser.add_argument("--batch", type=int, default=250, help="sessions of the batch")
    parser.add_argument("--explain", nargs="+", default=["last", "all"], help="of the batch")
    parser.add_argument("--warm", type=int, default=40, help="warm predictions")
    parser.add_argument("--soak", type=int, default=250, help="sessions of the soak; 0: none")
    options = parser.parse_args(arguments)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads ({SERVING.threads} workers of one thread in a "
        f"prediction), load {os.getloadavg()[0]:.1f}\n"
    )
    print("| what | wall | CPU |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for n_assets in options.assets:
            served = made(Path(folder) / f"plan{n_assets}", n_assets)
            measure(served, n_assets, f"{n_assets} assets", options)
        if 50 in options.assets:
            served = made(Path(folder) / "demo", 50, DEMO)
            measure(served, 50, "50 assets, the demo's network", options)


def made(home: Path, n_assets: int, model: dict | None = None) -> Served:
    """Store and checkpoint; the training is a token one."""
    bars = synthetic_market(n_assets, 640 + N_LIVE, seed=1)
    return serve(
        home,
        bars,
        n_live=N_LIVE,
        n_train=60 if n_assets <= 50 else 24,
        n_features=80,
        n_members=3,
        model=model,
        smoke=False,
    )


def measure(served: Served, n_assets: int, label: str, options: argparse.Namespace) -> None:
    full = n_assets == 50 and label == "50 assets"
    sessions = list(served.sessions)
    cold = [cold_start(served) for _ in range(3 if n_assets <= 50 else 1)]
    row(f"{label}: cold, `from_checkpoint` + `predict`", *np.min(cold, axis=0))
    pipeline = TFTInferencePipeline.from_checkpoint(served.checkpoint, serving=SERVING)
    with MarketDataStore(served.store_path, read_only=True) as store:
        pipeline.predict(sessions[-1], store)
        n_warm = options.warm if full else max(3, options.warm // 8)
        warm = np.array([timed(lambda d=d: pipeline.predict(d, store)) for d in sessions[-n_warm:]])
        p50 = np.median(warm, axis=0)
        row(f"{label}: warm `predict`, p50 of {n_warm}", *p50)
        bare = [
            timed(lambda d=d: pipeline.predict_batch([d], store, explain="none"))
            for d in sessions[-n_warm:]
        ]
        row(f"{label}: the same without attribution, p50", *np.median(bare, axis=0))
        pipeline.inputs(store, sessions[-9], sessions[-9])
        made = [timed(lambda d=d: pipeline.inputs(store, d, d)) for d in sessions[-8:]]
        row(f"{label}: of it, store and features of one more session", *np.median(made, axis=0))
        inputs = pipeline.inputs(store, sessions[-1], sessions[-1])
        rows = pipeline.rows(inputs)
        walk = pipeline.walk(inputs, sessions[-1], sessions[-1], rows=rows)
        row(
            f"{label}: of it, outputs",
            *timed(lambda: pipeline.walk(inputs, sessions[-1], sessions[-1], rows=rows)),
        )
        member_z = None if walk.output is None else walk.output.member_z
        row(
            f"{label}: of it, attribution",
            *timed(lambda: pipeline.ensemble.attribute(rows, walk.end_rows, member_z, workers=2)),
        )
        if not full:
            return
        row(f"{label}: warm `predict`, p99", *np.quantile(warm, 0.99, axis=0))
        days = sessions[-options.batch :]
        for explain in options.explain:
            wall, cpu = timed(lambda e=explain: pipeline.predict_batch(days, store, explain=e))
            share = wall / (len(days) * p50[0]), cpu / (len(days) * p50[1])
            row(f'{label}: `predict_batch` of {len(days)}, explain="{explain}"', wall, cpu)
            print(
                f"| — as a share of {len(days)} × `predict` | 1/{1 / share[0]:.1f} "
                f"| 1/{1 / share[1]:.1f} |"
            )
        if options.soak:
            soak(pipeline, store, sessions[-options.soak :], label)


def soak(pipeline: TFTInferencePipeline, store: MarketDataStore, days: list, label: str) -> None:
    """One prediction after another in this process: memory and the slowest ones."""
    cpu, memory = [], []
    for day in days:
        cpu.append(timed(lambda d=day: pipeline.predict(d, store))[1])
        memory.append(rss_mib())
    half = len(days) // 2
    first, second = (float(np.quantile(part, 0.99)) for part in (cpu[:half], cpu[half:]))
    grown = memory[-1] / memory[len(days) // 10] - 1.0
    print(f"| {label}: soak of {len(days)}, growth of RSS after a tenth | {grown:+.1%} | |")
    print(
        f"| {label}: soak, p99 of the first and second half | | {first * 1e3:.0f} / "
        f"{second * 1e3:.0f} ms |"
    )


def cold_start(served: Served) -> tuple[float, float]:
    """(wall, CPU) of a fresh process, imports excluded."""
    done = subprocess.run(
        [sys.executable, "-c", COLD, str(served.checkpoint), str(served.store_path),
         served.sessions[-1].isoformat()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    wall, cpu = (float(x) for x in done.stdout.split())
    return wall, cpu


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def rss_mib() -> float:
    """Resident memory now (its peak where the system does not tell)."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def row(label: str, wall: float, cpu: float) -> None:
    print(f"| {label} | {wall * 1e3:.0f} ms | {cpu * 1e3:.0f} ms |", flush=True)


if __name__ == "__main__":
    main()
