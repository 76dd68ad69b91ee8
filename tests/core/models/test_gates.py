"""The gate between a target and its contexts, and targets without an embedding (zero-shot)."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from row_tables import planted_rows, poisoned, split

from tft_core.errors import LookAheadWarning
from tft_core.models.batching import RowTensors
from tft_core.models.config import XTrendConfig
from tft_core.models.network import Batch, XTrend
from tft_core.sequences import (
    NO_CONTEXT,
    RowTable,
    choose_contexts,
    context_candidates,
    epoch_windows,
    first_loss_date,
    sample_contexts,
    sample_pool,
)
from tft_core.training.config import TrainingConfig
from tft_core.training.loop import train_member
from tft_core.training.walk_forward import train_ensemble

MODES = [("random", 8), ("time", 16), ("segment", 8)]
QUICK = TrainingConfig(pretrain_epochs=1, finetune_epochs=1, n_seeds=1, threads=1, batch_size=32)


@pytest.fixture(scope="module")
def rows() -> RowTable:
    """Returns whose mean jumps every thirty days, so that segments differ in length."""
    quiet = planted_rows(n_assets=3, n_days=150, n_features=6, ic=0.0, late={2: 50})
    drift = np.where((quiet.date_index // 30) % 2 == 0, 0.02, -0.02)
    return replace(quiet, label=quiet.label + drift)


def config(mode: str, ctx_len: int, **changes) -> XTrendConfig:
    return XTrendConfig.smoke(
        n_features=6, n_assets=3, context_mode=mode, ctx_len=ctx_len, **changes
    )


def training_window(table: RowTable, cfg: XTrendConfig, number: int) -> tuple[np.ndarray, int]:
    """One of an epoch's windows, and the date of its first step that bears loss."""
    everything = np.ones(len(table), dtype=bool)
    index, bears = epoch_windows(
        table, everything, cfg.seq_len, cfg.warmup, np.random.default_rng(0)
    )
    index, bears = index[number : number + 1], bears[number : number + 1]
    return index, int(first_loss_date(table, index, bears)[0])


def positions(table: RowTable, cfg: XTrendConfig, number: int) -> torch.Tensor:
    """A window's positions with contexts drawn as the training loop draws them."""
    index, gate = training_window(table, cfg, number)
    gates = np.array([gate if cfg.causal_contexts else len(table.dates)])
    rng, everything = np.random.default_rng(7), np.ones(len(table), dtype=bool)
    candidates = context_candidates(table, everything, cfg.ctx_len, cfg.context_mode)
    pool = sample_pool(candidates, gates, cfg.pool_size(1), rng)
    choice = choose_contexts(pool.available, gates, cfg.n_context, rng)
    assert (choice != NO_CONTEXT).any()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        return XTrend(cfg).eval()(RowTensors.of(table, cfg).batch(index, pool, choice)).z


def with_foul_future(table: RowTable, gate: int, asset: int) -> RowTable:
    """All that is known from the gate on replaced, but for the target's own inputs."""
    foul, own = poisoned(table, gate), table.asset_id == asset
    return replace(
        foul,
        features=np.where(own[:, None], table.features, foul.features),
        coverage=np.where(own, table.coverage, foul.coverage),
    )


@pytest.mark.parametrize(("mode", "ctx_len"), MODES)
@pytest.mark.parametrize("number", [6, 9, 20])
def test_replacing_all_that_becomes_known_at_the_gate_moves_no_position(
    rows, mode: str, ctx_len: int, number: int
) -> None:
    cfg = config(mode, ctx_len)
    index, gate = training_window(rows, cfg, number)
    foul = with_foul_future(rows, gate, int(rows.asset_id[index[0, -1]]))
    assert torch.equal(positions(foul, cfg, number), positions(rows, cfg, number))


@pytest.mark.parametrize(("mode", "ctx_len"), MODES)
@pytest.mark.filterwarnings("ignore::tft_core.errors.LookAheadWarning")
def test_the_papers_training_contexts_do_look_ahead(rows, mode: str, ctx_len: int) -> None:
    cfg = config(mode, ctx_len, causal_contexts=False)
    index, gate = training_window(rows, cfg, 6)
    foul = with_foul_future(rows, gate, int(rows.asset_id[index[0, -1]]))
    assert not torch.equal(positions(foul, cfg, 6), positions(rows, cfg, 6))


def test_contexts_that_look_ahead_warn_and_causal_ones_do_not() -> None:
    with pytest.warns(LookAheadWarning, match="causal_contexts is False: training targets see"):
        config("random", 8, causal_contexts=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config("random", 8)
        XTrendConfig.paper(n_features=8, n_assets=50)
        config("none", 8, causal_contexts=False)  # there are none to look ahead


@pytest.mark.filterwarnings("ignore::tft_core.errors.LookAheadWarning")
def test_contexts_that_look_ahead_stay_inside_the_training_rows(rows) -> None:
    fit, validation, _ = split(rows, 60, 75)
    cfg = config("random", 8, causal_contexts=False)
    runs = [
        train_member(table, fit, validation, cfg, QUICK, 3)
        for table in (rows, poisoned(rows, 73), poisoned(rows, 40))
    ]
    states = [run.member.state_dict() for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


# -- zero-shot --------------------------------------------------------------------------------

FORMS = [
    {"vsn": "identified"},
    {"vsn": "paper"},
    {"vsn": "tft"},
    {"vsn": "paper", "share_vsn": False},
    {"vsn": "identified", "share_vsn": False},
]


def zero_shot_batch(rows: RowTable, cfg: XTrendConfig) -> Batch:
    """Targets of asset 0, contexts of the other two."""
    pool = sample_contexts(
        rows, 6, cfg.ctx_len, cfg.context_mode, np.random.default_rng(2),
        context_rows=rows.asset_id != 0,
    )  # fmt: skip
    assert set(pool.asset_id) == {1, 2}
    index = np.array([60, 90])[:, None] - np.arange(cfg.seq_len)[::-1]
    choice = np.array([[0, 1, 2], [3, 4, 5]])
    return RowTensors.of(rows, cfg).batch(index, pool, choice)


@pytest.mark.parametrize("changes", FORMS)
def test_zero_shot_targets_have_no_embedding_and_contexts_keep_theirs(rows, changes) -> None:
    cfg = config("random", 8, target_embedding=False, **changes)
    model = XTrend(cfg).eval()
    batch = zero_shot_batch(rows, cfg)
    z = model(batch).z
    z.sum().backward()
    gradient = model.embedding.weight.grad
    assert gradient is not None
    # row 0 is the unknown asset, row 1 the targets'
    assert (gradient[:2] == 0).all()
    assert (gradient[2:].abs().sum(dim=1) > 0).all()
    with_ticker = XTrend(replace(cfg, target_embedding=True)).eval()
    with_ticker.load_state_dict(model.state_dict())
    assert not torch.equal(with_ticker(batch).z, z)


@pytest.mark.parametrize("changes", FORMS[2:])
def test_an_asset_never_trained_on_is_predicted_alike_whatever_its_number(rows, changes) -> None:
    cfg = config("random", 8, target_embedding=False, **changes)
    mask = rows.asset_id != 2
    fit, validation, train = (part & mask for part in split(rows, 60, 80))
    done = train_ensemble(rows, fit, validation, train, cfg, QUICK, refit=False)
    at = np.flatnonzero((rows.asset_id == 2) & (rows.date_index >= 130))
    as_itself = done.ensemble.predict(rows, at).z
    as_another = done.ensemble.predict(rows, at, entity=np.array([1, 2, 1])).z
    unknown = done.ensemble.predict(rows, at, entity=np.array([1, 2, 0])).z
    np.testing.assert_array_equal(as_itself, as_another)
    np.testing.assert_array_equal(as_itself, unknown)
    assert np.isfinite(as_itself).all() and as_itself.std() > 0
