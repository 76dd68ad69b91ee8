"""Training steps as one replayed CUDA graph.

A step of these networks is some hundreds of small kernels, and launching them takes longer
than running them. So minibatches are padded to a fixed shape, the step is captured once,
and from then on a step is one copy of integers to the device and one launch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tft_core.models.batching import BatchPlan, PlanShape, filled_up
from tft_core.sequences import PADDING
from tft_core.training.step import StepScalars, StepWork, TrainingStep

WARM_UP_RUNS = 3
"""Runs on a side stream before the capture, as many as PyTorch asks for."""
IN_FLIGHT = 4
"""Steps whose integers may be on their way to the device at once."""
ROW_UNIT, WINDOW_UNIT = 1024, 8
"""Shapes are rounded up to multiples of these, so that few are captured."""


class GraphedStep(TrainingStep):
    """``TrainingStep`` on CUDA, captured for the largest shape seen so far."""

    _captured: "_Captured | None" = None

    def __call__(self, work: StepWork) -> Tensor:
        """Queue one step; its loss, on the device, valid until the next step."""
        needed = self._rounded(work.plan.shape)
        if self._captured is None or not needed.fits(self._captured.shape):
            shape = needed if self._captured is None else needed.joined(self._captured.shape)
            self._captured = None  # frees the old graph's memory first
            self._captured = self._capture(work, shape)
        return self._captured.replay(work)

    def _rounded(self, shape: PlanShape) -> PlanShape:
        windows = _round_up(shape.windows, WINDOW_UNIT)
        model = self.member.config
        return PlanShape(
            rows=_round_up(shape.rows, ROW_UNIT),
            groups=len(self.tensors.entity),
            windows=windows,
            pool=model.pool_size(windows) if model.uses_context else 0,
        )

    def _capture(self, work: StepWork, shape: PlanShape) -> "_Captured":
        buffers = _Buffers.like(work, shape, self.tensors.features.device)
        buffers.load(work)
        plan, rows, bears_loss, scalars = buffers.views()

        def run() -> Tensor:
            return self.run(plan, rows, bears_loss != 0, scalars, is_full=False)

        before = self._state()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                run()
        torch.cuda.current_stream().wait_stream(side)
        self.optimiser.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = run()
        self._restore(before)
        return _Captured(graph, loss, buffers, shape)

    def _state(self) -> dict[str, Tensor]:
        """Copies of all that a step changes: the warm-up runs are undone with them."""
        return {name: tensor.clone() for name, tensor in self._changing().items()}

    def _restore(self, before: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self._changing().items():
                if name in before:
                    tensor.copy_(before[name])
                else:  # optimiser state that did not exist before the first step
                    tensor.zero_()

    def _changing(self) -> dict[str, Tensor]:
        found = dict(self.member.state_dict())
        for i, parameter in enumerate(self.parameters):
            for name, value in self.optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    found[f"optimiser/{i}/{name}"] = value
        return found


@dataclass(slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    loss: Tensor
    buffers: "_Buffers"
    shape: PlanShape

    def replay(self, work: StepWork) -> Tensor:
        self.buffers.load(work)
        self.graph.replay()
        return self.loss


class _Buffers:
    """All integers of a step in one device buffer, filled from a ring of pinned ones."""

    def __init__(
        self, shape: PlanShape, sizes: list[tuple[int, ...]], device: torch.device
    ) -> None:
        self.shape, self.sizes = shape, sizes
        total = sum(int(np.prod(size)) for size in sizes)
        self.integers = torch.zeros(total, dtype=torch.int64, device=device)
        self.floats = torch.zeros(len(StepScalars._fields), dtype=torch.float32, device=device)
        self.ring = [
            (
                torch.zeros(total, dtype=torch.int64, pin_memory=True),
                torch.zeros(len(self.floats), dtype=torch.float32, pin_memory=True),
                torch.cuda.Event(),
            )
            for _ in range(IN_FLIGHT)
        ]
        self.turn = 0

    @classmethod
    def like(cls, work: StepWork, shape: PlanShape, device: torch.device) -> "_Buffers":
        return cls(shape, [array.shape for array in _arrays(work, shape)], device)

    def load(self, work: StepWork) -> None:
        """Queue the copy of one step's numbers to the device."""
        integers, floats, done = self.ring[self.turn]
        self.turn = (self.turn + 1) % len(self.ring)
        done.synchronize()  # until the copy queued IN_FLIGHT steps ago has left the buffer
        flat = integers.numpy()
        np.concatenate([array.ravel() for array in _arrays(work, self.shape)], out=flat)
        floats.numpy()[:] = work.scalars
        self.integers.copy_(integers, non_blocking=True)
        self.floats.copy_(floats, non_blocking=True)
        done.record()

    def views(self) -> tuple[BatchPlan, Tensor, Tensor, StepScalars]:
        """The device buffer in the shapes that a step reads."""
        counts = [int(np.prod(size)) for size in self.sizes]
        parts = [
            part.view(size)
            for part, size in zip(self.integers.split(counts), self.sizes, strict=True)
        ]
        n = len(BatchPlan._fields)
        return BatchPlan(*parts[:n]), parts[n], parts[n + 1], StepScalars(*self.floats)


def _arrays(work: StepWork, shape: PlanShape) -> list[np.ndarray]:
    """Every array of a step in the fixed shape."""
    rows = filled_up(work.target_rows, shape.windows, PADDING)
    bears_loss = filled_up(work.bears_loss, shape.windows, 0)
    return [*work.plan.padded(shape), rows, bears_loss]


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
