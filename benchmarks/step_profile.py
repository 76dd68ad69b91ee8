"""Where a training step's time goes, and what the floor is: ``make bench-profile``.

Each part of the step is run by itself, forward and backward, on one real minibatch; the whole
step is run too. FLOPs are counted by formula and checked against PyTorch's counter. The floor
of a part is the larger of its FLOPs at the machine's measured SGEMM rate and its compulsory
bytes (inputs, weights, outputs, kept activations and their gradients, each moved once each
way) at the measured memory bandwidth.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import SEED, StepCase, make_rows
from benchmarks.train_step import IN_CONTEXT, TRAINING
from tft_core.models.batching import RowTensors
from tft_core.models.losses import LossTerms, Targets, training_loss
from tft_core.models.network import Batch, XTrend
from tft_core.sequences import (
    choose_contexts,
    context_candidates,
    epoch_windows,
    first_loss_date,
    minibatches,
    sample_pool,
)
from tft_core.training.allocator import freed_memory_kept
from tft_core.training.determinism import pinned
from tft_core.training.loop import CLAMP_FLOOR
from tft_core.training.step import make_optimiser

FLOAT = 4
"""Bytes."""
REPEATS = 15
Clock = Callable[[], float]
PLAN_JOB = StepCase(
    label="the plan's job: 4 assets, 120 sessions",
    n_features=70,
    n_context=16,
    n_assets=4,
    seq_len=42,
    batch_size=2,
    steps=16,
)
CASES = {"alone": TRAINING, "contexts": IN_CONTEXT, "plan-job": PLAN_JOB}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the step: how to run it, and what it must do at least."""

    name: str
    run: Callable[[], object]
    flops: float
    bytes_moved: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", choices=(*CASES, "all"), default="all")
    parser.add_argument(
        "--cpu-time", action="store_true", help="one thread's CPU time, for a busy machine"
    )
    options = parser.parse_args()
    if options.cpu_time:
        options.threads = 1
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter
    gemm, bandwidth = machine_rates(clock)
    taken = "one thread's CPU time" if options.cpu_time else "wall time"
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, torch "
        f"{torch.__version__}, {taken}, load {os.getloadavg()[0]:.1f}; SGEMM "
        f"{gemm / 1e9:.0f} GFLOP/s, memory {bandwidth / 1e9:.1f} GB/s\n"
    )
    for name in CASES if options.case == "all" else (options.case,):
        with pinned(SEED, options.threads), freed_memory_kept():
            profile(replace(CASES[name], threads=options.threads), gemm, bandwidth, clock)


def machine_rates(clock: Clock) -> tuple[float, float]:
    """FLOP/s of a square SGEMM and bytes/s of a sum of two large arrays, the best of a few."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    long = [torch.randn(1 << 24) for _ in range(3)]
    gemm = 2.0 * 2048**3 / min(_seconds(lambda: torch.mm(a, b), clock))
    moved = 3.0 * FLOAT * len(long[0])
    seconds = min(_seconds(lambda: torch.add(long[0], long[1], out=long[2]), clock))
    return gemm, moved / seconds


def profile(case: StepCase, gemm: float, bandwidth: float, clock: Clock) -> None:
    """Print the table of one case."""
    step = Step(case)
    counted = step.counted_flops()
    parts = step.parts()
    size, pool = step.batch.index.shape, 0
    if step.batch.contexts is not None:
        pool = len(step.batch.contexts.index)
    print(
        f"**{case.label}**: {size[0]} windows × {size[1]} steps, {len(step.batch.x)} rows × "
        f"{case.n_features} inputs, {pool} contexts encoded\n"
    )
    print("| part | ms | MFLOP | MB | floor ms | times the floor |")
    print("|---|--:|--:|--:|--:|--:|")
    total = [0.0, 0.0, 0.0, 0.0]
    for part in parts:
        took = 1e3 * float(np.median(_seconds(part.run, clock)))
        floor = 1e3 * max(part.flops / gemm, part.bytes_moved / bandwidth)
        figures = [took, part.flops / 1e6, part.bytes_moved / 1e6, floor]
        total = [a + b for a, b in zip(total, figures, strict=True)]
        _print_row(part.name, figures)
    _print_row("sum of parts", total)
    whole = 1e3 * float(np.median(_seconds(step.run, clock)))
    _print_row("**whole step**", [whole, *total[1:]])
    formula = sum(part.flops for part in parts)
    print(
        f"\nPyTorch's counter: {counted / 1e6:.0f} MFLOP, by formula {formula / 1e6:.0f} "
        f"({formula / counted - 1:+.1%}).\n",
        flush=True,
    )


def _print_row(name: str, figures: list[float]) -> None:
    took, mflop, mb, floor = figures
    print(f"| {name} | {took:.2f} | {mflop:.0f} | {mb:.1f} | {floor:.2f} | {took / floor:.1f} |")


class Step:
    """One minibatch of a case, the network, and its step taken apart."""

    def __init__(self, case: StepCase) -> None:
        self.case, self.config, self.training = case, case.model(), case.training()
        self.rows, self.loss_rows = make_rows(case, self.config)
        self.rng = np.random.default_rng(SEED)
        self.tensors = RowTensors.of(self.rows, self.config)
        config = self.config
        self.candidates = context_candidates(
            self.rows, self.loss_rows, config.ctx_len, config.context_mode
        )
        stride = config.seq_len - config.warmup
        self.index, self.bears_loss = epoch_windows(
            self.rows, self.loss_rows, config.seq_len, config.warmup, self.rng, stride
        )
        batches = minibatches(
            self.bears_loss, case.batch_size, self.training.min_steps_per_epoch, self.rng
        )
        # late windows: early ones have no context yet
        self.windows = max(batches, key=lambda b: (len(b), float(self.index[b, -1].mean())))
        self.batch, self.targets = self.assemble()
        self.member = XTrend(config).train()
        self.optimiser = make_optimiser(self.member, self.training)
        self.vectors = [p for group in self.optimiser.param_groups for p in group["params"]]

    def assemble(self) -> tuple[Batch, Targets]:
        """What training does in NumPy for every minibatch."""
        index, bears_loss = self.index[self.windows], self.bears_loss[self.windows]
        pool, choice, config = None, None, self.config
        if config.uses_context:
            gates = first_loss_date(self.rows, index, bears_loss)
            size = config.pool_size(len(index))
            pool = sample_pool(self.candidates, gates, size, self.rng)
            choice = choose_contexts(pool.available, gates, config.n_context, self.rng)
        batch = self.tensors.batch(index, pool, choice)
        shape = index.shape
        targets = Targets(
            scaled_return=torch.randn(shape),
            inverse_sigma=torch.full(shape, 100.0),
            cost_rate=torch.full(shape, 1e-4),
            bears_loss=torch.from_numpy(bears_loss),
            date=torch.from_numpy(self.rows.date_index[index]),
            n_dates=len(self.rows.dates),
        )
        return batch, targets

    @property
    def terms(self) -> LossTerms:
        return LossTerms(cost_factor=0.5, mle_weight=self.config.mle_weight)

    def loss(self) -> Tensor:
        output = self.member(self.batch)
        loss = training_loss(output, self.targets, self.terms)
        penalty = self.member.penalty()
        return loss if penalty is None else loss + penalty

    def run(self) -> None:
        """The whole step, as ``train_member`` does it."""
        self.batch, self.targets = self.assemble()
        self.optimiser.zero_grad(set_to_none=False)
        self.loss().backward()
        self.update()

    def update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.vectors, self.training.grad_clip)
        self.optimiser.step()
        for selection in self.member.identified():
            selection.clamp(CLAMP_FLOOR)  # no variable may die while time is taken

    def counted_flops(self) -> float:
        """Forward and backward by PyTorch's counter, with LSTMs as the products they are."""
        with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
            self.loss().backward()
        return float(counter.get_total_flops())

    def parts(self) -> list[Part]:
        """The step's parts in order."""
        config, batch = self.config, self.batch
        d, (n_windows, steps) = config.d_hidden, batch.index.shape
        entity = self.member.embedding(batch.entity).detach()
        who = entity.index_select(0, batch.window_group)
        rows = torch.randn(len(batch.x) + 1, d)
        x = torch.randn(n_windows, steps, d)
        made = [self._selection(entity), self._gather(rows)]
        blocks = {"decoder": (self.member.decoder.body, x, who, False)}
        if batch.contexts is not None:
            pool, length = batch.contexts.index.shape
            shown = torch.randn(pool, length, d)
            whose = entity.index_select(0, batch.contexts.group)
            blocks |= {
                "query": (self.member.query_encoder, x, who, False),
                "key": (self.member.key_encoder, shown, whose, True),
                "value": (self.member.value_encoder, shown, whose, True),
            }
        made += [self._lstms(blocks), self._block_tails(blocks, x)]
        if batch.contexts is not None:
            made.append(self._attention(x))
        made.append(self._head(x))
        n_parameters = sum(p.numel() for p in self.member.parameters())
        # gradients are read to be clipped; p, g, m, v are read, p, m, v written
        made.append(Part("clip, AdamW", self.update, 0.0, 8.0 * FLOAT * n_parameters))
        gathered = 2.0 * FLOAT * batch.x.numel()
        made.append(Part("minibatch in NumPy, gather", self.assemble, 0.0, gathered))
        return made

    def _selection(self, entity: Tensor) -> Part:
        config, batch = self.config, self.batch
        selection = self.member.selection["shared"]
        grad = torch.randn(len(batch.x), config.d_hidden)
        n, v, h, d = len(batch.x), config.n_features, config.vsn_hidden, config.d_hidden
        # rows lie asset by asset here, so that products leave out what the masks hide
        share = 1.0 - config.vsn_dropout if config.vsn == "identified" else 1.0
        unit = 2.0 * n * v  # one number of each hidden unit, times one, summed; h and a constant
        flops = unit * share * ((h + 1) * d + (h + 1) * d + h * d)  # out, T, ∂h
        flops += unit * ((h + 1) ** 2 + h * (h + 1))  # covariance there and back
        flops += unit * 2 * (h + 1 + h + share * h)  # the line a·x + c there and back
        flops += 6.0 * v * h**2 * d  # scales
        moved = FLOAT * (4.0 * n * v + 2.0 * n * v * h + 3.0 * v * h * d + 2.0 * n * d)
        return Part(
            "VSN",
            lambda: selection(batch.x, batch.group, entity).backward(grad),
            flops,
            moved,
        )

    def _gather(self, rows: Tensor) -> Part:
        batch = self.batch
        gathers = [batch.index]
        if batch.contexts is not None:
            gathers.append(batch.contexts.index)

        def run() -> None:
            leaf = rows.clone().requires_grad_()
            total = [F.embedding(index, leaf) for index in gathers]
            torch.autograd.backward(total, [torch.ones_like(t) for t in total])

        moved = sum(4.0 * FLOAT * index.numel() * rows.shape[1] for index in gathers)
        return Part("rows to windows", run, 0.0, moved)

    def _lstms(self, blocks: dict) -> Part:
        d, layers = self.config.d_hidden, self.config.lstm_layers
        flops = moved = 0.0
        for _, x, _, _ in blocks.values():
            n, steps = x.shape[:2]
            flops += 3.0 * layers * 2.0 * n * steps * 4 * d * 2 * d
            flops += 3.0 * 2.0 * 2.0 * n * (d * d + d * layers * d)  # the entity's first states
            moved += FLOAT * layers * (16.0 * n * steps * d + 3.0 * 8 * d * d)

        def run() -> None:
            for block, x, who, _ in blocks.values():
                out = block.lstm(x.requires_grad_(), who)
                out.backward(torch.ones_like(out))

        return Part(f"{len(blocks)} × LSTM", run, flops, moved)

    def _block_tails(self, blocks: dict, x: Tensor) -> Part:
        """Norms and FFNs of encoders and decoder, the decoder's merge included."""
        d, decoder = self.config.d_hidden, self.member.decoder
        flops = moved = 0.0
        for _, shape, _, last_only in blocks.values():
            n = len(shape) * (1 if last_only else shape.shape[1])
            flops += 3.0 * 2.0 * d * d * (2.0 * n + len(shape))
            moved += FLOAT * 8.0 * n * d
        joined = torch.cat([x, x], dim=-1) if self.config.uses_context else x
        n = x.shape[0] * x.shape[1]
        flops += 3.0 * 2.0 * n * d * (joined.shape[-1] + d)
        moved += FLOAT * 8.0 * n * d

        def run() -> None:
            merged = decoder.norm_merge(decoder.merge(joined.requires_grad_()))
            merged.backward(torch.ones_like(merged))
            for block, given, who, last_only in blocks.values():
                h = (given[:, -1:] if last_only else given).detach().requires_grad_()
                a = block.norm_lstm(block.dropout(h) + h)
                out = block.norm_ffn(block.ffn(a, who[:, None]) + a)
                out.backward(torch.ones_like(out))

        return Part("FFNs and norms", run, flops, moved)

    def _attention(self, x: Tensor) -> Part:
        config, contexts = self.config, self.batch.contexts
        assert contexts is not None
        d, (n, steps), c = config.d_hidden, x.shape[:2], contexts.choice.shape[1]
        may = contexts.choice >= 0
        picked = contexts.choice.clamp(min=0)
        pool = torch.randn(len(contexts.index), d)
        flops = 3.0 * 2.0 * n * (4.0 * c * d * d + 2.0 * c * c * d + 2.0 * c * d * d)  # mixer
        flops += 3.0 * 2.0 * n * (2.0 * steps * d * d + 2.0 * c * d * d)  # projections
        flops += 3.0 * 2.0 * n * (2.0 * steps * c * d + 2.0 * steps * d * d)
        moved = FLOAT * n * (12.0 * steps * d + 16.0 * c * d + 6.0 * steps * c * config.n_heads)

        def run() -> None:
            keys, values = pool.clone().requires_grad_(), pool.clone().requires_grad_()
            v = self.member.mixer(F.embedding(picked, values), may)
            y = self.member.cross(x.requires_grad_(), F.embedding(picked, keys), v, may)[0]
            y.backward(torch.ones_like(y))

        return Part("attention", run, flops, moved)

    def _head(self, x: Tensor) -> Part:
        d, n = self.config.d_hidden, x.shape[0] * x.shape[1]

        def run() -> None:
            output = self.member.head(x.requires_grad_())
            training_loss(output, self.targets, self.terms).backward()

        return Part("head, loss", run, 3.0 * 2.0 * n * (d * d + d), FLOAT * 6.0 * n * d)


def _seconds(run: Callable[[], object], clock: Clock) -> list[float]:
    """Seconds of some repeats, after two of warm-up."""
    seconds = []
    for _ in range(2 + REPEATS):
        started = clock()
        run()
        seconds.append(clock() - started)
    return seconds[2:]


if __name__ == "__main__":
    main()
