"""A minibatch padded to a fixed shape, as CUDA graphs need it, is the same minibatch."""

import numpy as np
import pytest
import torch

from tests.support.row_tables import planted_rows
from tft_core.errors import ModelError
from tft_core.models.batching import PlanShape
from tft_core.models.config import XTrendConfig
from tft_core.training.config import TrainingConfig
from tft_core.training.loop import _MemberRun
from tft_core.training.step import StepScalars, StepWork

ROWS = planted_rows(n_assets=3, n_days=120, n_features=6, late={1: 50})


def one_step(form: str, mode: str, share_vsn: bool) -> tuple[_MemberRun, StepWork]:
    config = XTrendConfig.smoke(
        n_features=6, n_assets=3, vsn=form, share_vsn=share_vsn, context_mode=mode,
        dropout=0.0, vsn_dropout=0.0, entity_dropout=0.0,
        ctx_len=16 if mode == "time" else 8,
    )  # fmt: skip
    torch.manual_seed(0)
    training = TrainingConfig(threads=1, batch_size=8)
    run = _MemberRun(ROWS, np.ones(len(ROWS), bool), None, config, training, 0)
    taken: list[StepWork] = []

    def record(work: StepWork) -> torch.Tensor:
        taken.append(work)
        return torch.zeros(())

    step, run.step = run.step, record
    run._epoch(0.5)
    run.step = step
    return run, taken[3]


@pytest.mark.parametrize(
    ("form", "mode", "share_vsn"),
    [("identified", "random", True), ("identified", "segment", False), ("paper", "time", False),
     ("tft", "none", True)],
)  # fmt: skip
def test_padding_changes_neither_loss_nor_gradients(form, mode, share_vsn) -> None:
    run, work = one_step(form, mode, share_vsn)
    shape = PlanShape(*(n + 13 for n in work.plan.shape))
    if mode == "none":
        shape = shape._replace(pool=0)
    step, device = run.step, torch.device("cpu")
    padded_rows = np.full((shape.windows, work.target_rows.shape[1]), -1)
    padded_rows[: len(work.target_rows)] = work.target_rows
    bears = np.zeros(padded_rows.shape, bool)
    bears[: len(work.bears_loss)] = work.bears_loss
    scalars = StepScalars(*(torch.tensor(float(v)) for v in work.scalars))
    results = []
    for plan, rows, mask, numbers, is_full in (
        (work.plan, work.target_rows, work.bears_loss, work.scalars, True),
        (work.plan.padded(shape), padded_rows, bears, scalars, False),
    ):
        run.member.train().zero_grad()
        loss = step.objective(
            plan.to(device),
            torch.from_numpy(rows),
            torch.from_numpy(mask),
            numbers,
            is_full=is_full,
        )
        loss.backward()
        gradients = {
            name: parameter.grad.clone()
            for name, parameter in run.member.named_parameters()
            if parameter.grad is not None
        }
        results.append((loss.detach(), gradients))
    (loss, gradients), (padded_loss, padded_gradients) = results
    torch.testing.assert_close(padded_loss, loss, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == padded_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            padded_gradients[name], gradient, rtol=2e-4, atol=2e-5, msg=f"gradient of {name}"
        )


def test_a_batch_that_does_not_fit_is_refused() -> None:
    _, work = one_step("identified", "random", True)
    small = work.plan.shape._replace(rows=1)
    with pytest.raises(ModelError, match=r"must fit PlanShape\(rows=1,"):
        work.plan.padded(small)
