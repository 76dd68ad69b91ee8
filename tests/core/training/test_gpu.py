"""The CUDA path against the CPU's: the same loss, gradients, steps and predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.row_tables import planted_rows, split
from tft_core.models.batching import RowTensors
from tft_core.models.config import XTrendConfig
from tft_core.models.ensemble import Ensemble
from tft_core.models.io import weight_hash
from tft_core.training.config import TrainingConfig
from tft_core.training.determinism import pinned
from tft_core.training.loop import _MemberRun
from tft_core.training.step import StepWork, TargetColumns, TrainingStep
from tft_core.training.walk_forward import train_ensemble

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

ROWS = planted_rows(n_assets=4, n_days=260, n_features=30, late={1: 90})
EVERY_ROW = np.ones(len(ROWS), dtype=bool)
CPU = TrainingConfig(pretrain_epochs=1, finetune_epochs=2, n_seeds=2, batch_size=16, threads=1)


def network(**changes) -> XTrendConfig:
    """No dropout of any kind: the devices draw different numbers."""
    still = {"dropout": 0.0, "vsn_dropout": 0.0, "entity_dropout": 0.0}
    shape = {"seq_len": 32, "warmup": 10, "ctx_len": 16, "d_hidden": 32, "n_heads": 4}
    return XTrendConfig(n_features=30, n_assets=4, n_context=6, **{**shape, **still, **changes})


def recorded(config: XTrendConfig, training: TrainingConfig) -> tuple[_MemberRun, list[StepWork]]:
    """A member before its first step, and the work of one epoch."""
    with pinned(3, 1, training.device):
        run = _MemberRun(ROWS, EVERY_ROW, None, config, training, 3)
        works: list[StepWork] = []

        def record(work: StepWork) -> torch.Tensor:
            works.append(work)
            return torch.zeros((), device=training.device)

        step, run.step = run.step, record
        run._epoch(0.5)
        run.step = step
    return run, works


FORMS = [
    {"vsn": "identified"},
    {"vsn": "paper", "share_vsn": False, "context_mode": "segment", "loss_mode": "joint_mle"},
    {"vsn": "tft", "context_mode": "none", "loss_mode": "joint_quantile"},
]


@pytest.mark.parametrize("form", FORMS, ids=["identified", "paper", "tft"])
def test_one_step_has_the_cpus_loss_and_gradients(form) -> None:
    config = network(**form)
    run, works = recorded(config, CPU)
    work, cuda = works[0], torch.device("cuda")
    on_gpu = TrainingStep(
        run.member, RowTensors.of(ROWS, config, cuda), TargetColumns.of(ROWS, "cuda"),
        replace(CPU, device="cuda"), 1.0,
    )  # fmt: skip
    results = []
    for step, device in ((run.step, torch.device("cpu")), (on_gpu, cuda)):
        run.member.to(device).train().zero_grad()
        rows, bears = (torch.from_numpy(a).to(device) for a in work[1:3])
        loss = step.objective(work.plan.to(device), rows, bears, work.scalars, is_full=True)
        loss.backward()
        gradients = {
            n: p.grad.detach().cpu().clone()
            for n, p in run.member.named_parameters()
            if p.grad is not None
        }
        results.append((loss.item(), gradients))
    (loss, gradients), (gpu_loss, gpu_gradients) = results
    assert gpu_loss == pytest.approx(loss, rel=1e-4, abs=1e-4)
    for name, gradient in gradients.items():
        scale = float(gradient.abs().max()) + 1e-3
        torch.testing.assert_close(
            gpu_gradients[name] / scale, gradient / scale, rtol=0, atol=2e-3, msg=name
        )


@pytest.mark.parametrize("form", FORMS, ids=["identified", "paper", "tft"])
def test_a_replayed_graph_takes_the_steps_that_eager_mode_takes(form) -> None:
    states = []
    for uses_graph in (False, True):
        training = replace(CPU, device="cuda", cuda_graph=uses_graph, sharpe_level="portfolio",
                           softmin_weight=0.1)  # fmt: skip
        run, works = recorded(network(**form), training)
        with pinned(3, 1, "cuda"):
            run.member.train()
            losses = [run.step(work).item() for work in works[:8]]
        states.append((losses, {n: t.cpu().clone() for n, t in run.member.state_dict().items()}))
    (eager, eager_state), (graphed, graphed_state) = states
    np.testing.assert_allclose(graphed, eager, rtol=2e-3, atol=2e-3)
    for name, tensor in eager_state.items():
        # Adam turns round-off of a tiny gradient into a step of the learning rate
        torch.testing.assert_close(graphed_state[name], tensor, rtol=0, atol=2e-2, msg=name)


def test_predictions_and_attributions_from_the_same_weights_are_the_cpus() -> None:
    trained = train_ensemble(
        ROWS, *split(ROWS, 180, 240), network(), replace(CPU, device="cuda"), refit=False
    )
    at = np.flatnonzero(ROWS.date_index >= 250)
    state = trained.ensemble.state_dict()
    on_cpu = Ensemble.from_state(trained.ensemble.config, state)
    gpu, cpu = (e.predict(ROWS, at) for e in (trained.ensemble, on_cpu))
    np.testing.assert_allclose(gpu.member_z, cpu.member_z, rtol=0, atol=1e-4)
    assert np.abs(cpu.member_z).max() > 1e-3


def test_training_on_the_gpu_twice_gives_the_same_weights() -> None:
    training = replace(CPU, device="cuda", n_seeds=1)
    config = replace(network(), dropout=0.1, vsn_dropout=0.5)
    hashes = {
        weight_hash(
            train_ensemble(ROWS, *split(ROWS, 180, 240), config, training, refit=False)
            .ensemble.state_dict()
        )
        for _ in range(2)
    }  # fmt: skip
    assert len(hashes) == 1
