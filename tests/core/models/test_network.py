"""The network's own promises: sharing rows, gating, sequence to sequence, the dense interface."""

import numpy as np
import pytest
import torch
from row_tables import planted_rows

from tft_core.errors import CheckpointError, ModelError
from tft_core.models.backbone import XTrendBackbone
from tft_core.models.batching import RowTensors
from tft_core.models.config import XTrendConfig
from tft_core.models.io import read_tensors, write_tensors
from tft_core.models.network import XTrend
from tft_core.sequences import NO_CONTEXT, PADDING, sample_contexts

ROWS = planted_rows(n_assets=3, n_days=80, n_features=6)
NAMES = ROWS.feature_names


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def config(**changes) -> XTrendConfig:
    return XTrendConfig.smoke(n_features=6, n_assets=3, **changes)


def dense(rows, index: np.ndarray, contexts, choice: np.ndarray) -> tuple[torch.Tensor, ...]:
    """The same windows and contexts as dense tensors, label as last context column."""
    label = np.nan_to_num(rows.scaled_label).astype(np.float32)[:, None]
    with_label = np.concatenate([rows.features, label], axis=1)
    picked = contexts.index[choice]
    return (
        torch.from_numpy(rows.features[index]),
        torch.from_numpy(with_label[picked]),
        torch.from_numpy(rows.asset_id[index[:, -1]]),
        torch.from_numpy(contexts.asset_id[choice]),
    )


@pytest.mark.parametrize("mode", ["random", "time"])
@pytest.mark.parametrize("vsn", ["identified", "paper", "tft"])
@pytest.mark.parametrize("share", [True, False])
def test_shared_rows_give_what_dense_tensors_give(mode: str, vsn: str, share: bool) -> None:
    cfg = config(context_mode=mode, vsn=vsn, share_vsn=share, ctx_len=16 if mode == "time" else 8)
    backbone = XTrendBackbone(cfg, NAMES).eval()
    index = np.array([20, 24, 110, 200])[:, None] + np.arange(16)
    contexts = sample_contexts(ROWS, 5, cfg.ctx_len, mode, np.random.default_rng(0))
    choice = np.array([[0, 1, 2], [2, 3, 4], [0, 4, 1], [3, 1, 0]])
    with torch.no_grad():
        dense_z = backbone(*dense(ROWS, index, contexts, choice)).z
        batch = RowTensors.of(ROWS, cfg).batch(index, contexts, choice)
        shared_z = backbone.model(batch).z
    assert len(batch.x) < index.size + contexts.index.size
    torch.testing.assert_close(shared_z, dense_z, atol=1e-6, rtol=0)


def test_a_position_at_a_step_ignores_later_steps() -> None:
    cfg = config()
    model = XTrend(cfg).eval()
    contexts = sample_contexts(ROWS, 3, 8, "random", np.random.default_rng(0))
    index = np.arange(20, 36)[None]
    choice = np.arange(3)[None]
    tensors = RowTensors.of(ROWS, cfg)
    x = tensors.features.clone()
    # a row that no context uses
    assert not np.isin(np.arange(30, 36), contexts.index).any()
    x[30:36] = 9.0
    with torch.no_grad():
        before = model(tensors.batch(index, contexts, choice)).z
        after = model(tensors.batch(index, contexts, choice, x=x)).z
    assert torch.equal(before[:, :10], after[:, :10])
    assert (before[:, 10:] != after[:, 10:]).all()


def test_the_label_reaches_a_position_through_contexts_only() -> None:
    cfg = config()
    model = XTrend(cfg).eval()
    contexts = sample_contexts(ROWS, 3, 8, "random", np.random.default_rng(0))
    index = np.arange(200, 216)[None]
    batch = RowTensors.of(ROWS, cfg).batch(index, contexts, np.array([[0, 1, NO_CONTEXT]]))
    label = batch.label.clone().requires_grad_()
    z = model(batch._replace(label=label)).z.sum()
    gradient = torch.autograd.grad(z, label)[0]
    assert batch.contexts is not None
    seen = torch.zeros(len(label), dtype=torch.bool)
    used = batch.contexts.index[:2].flatten()
    seen[used[used < len(label)]] = True
    assert (gradient[~seen] == 0).all()
    assert (gradient[seen] != 0).any()


def test_a_target_without_eligible_context_is_the_same_whatever_the_pool_holds() -> None:
    cfg = config()
    model = XTrend(cfg).eval()
    tensors = RowTensors.of(ROWS, cfg)
    index = np.arange(30, 46)[None]
    nothing = np.full((1, 3), NO_CONTEXT)
    with torch.no_grad():
        outputs = [
            model(
                tensors.batch(
                    index,
                    sample_contexts(ROWS, 5, 8, "random", np.random.default_rng(seed)).take(
                        np.arange(size)
                    ),
                    nothing,
                )
            ).z
            for seed, size in ((1, 5), (2, 5), (3, 0))
        ]
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(outputs[0], outputs[2])


def test_contexts_are_needed_where_the_configuration_has_them() -> None:
    model = XTrend(config())
    batch = RowTensors.of(ROWS, config()).batch(np.arange(16)[None])
    with pytest.raises(ModelError, match="must be given contexts or a bank, found neither"):
        model(batch)


@pytest.mark.parametrize("mode", ["random", "none"])
def test_the_dense_interface_has_the_predecessors_shapes(mode: str) -> None:
    backbone = XTrendBackbone(config(context_mode=mode), NAMES).eval()
    target, contexts = torch.randn(4, 16, 6), torch.randn(4, 3, 8, 7)
    ids = (torch.tensor([0, 1, 2, -1]), torch.randint(0, 3, (4, 3)))
    assert backbone(target, contexts, *ids).z.shape == (4, 16)
    assert backbone.predict_position(target, contexts, *ids).shape == (4, 1)
    hidden, attention = backbone.extract_hidden_with_attention(target, contexts, *ids)
    assert hidden.shape == (4, 8)
    if mode == "random":
        assert attention is not None
        assert attention.shape == (4, 2, 16, 3)
    else:
        assert attention is None
    importance = backbone.get_feature_importance()
    assert sum(importance.values()) == pytest.approx(1.0)
    assert tuple(importance) == NAMES


def test_row_dependent_importance_asks_for_rows() -> None:
    backbone = XTrendBackbone(config(vsn="paper"), NAMES)
    with pytest.raises(ModelError, match="must be given rows and their assets, found none"):
        backbone.get_feature_importance()
    shares = backbone.get_feature_importance(torch.randn(9, 6), torch.randint(0, 3, (9,)))
    assert sum(shares.values()) == pytest.approx(1.0)


def test_a_backbone_survives_its_checkpoint_and_a_foreign_one_is_refused(tmp_path) -> None:
    backbone = XTrendBackbone(config(), NAMES).eval()
    backbone.save_production_checkpoint(tmp_path / "a", {"note": "x"})
    again, extras = XTrendBackbone.load_production_checkpoint(tmp_path / "a")
    assert extras == {"note": "x"}
    assert again.feature_names == NAMES
    inputs = (torch.randn(2, 16, 6), torch.randn(2, 3, 8, 7), torch.tensor([0, 1]),
              torch.zeros(2, 3, dtype=torch.int64))  # fmt: skip
    with torch.no_grad():
        assert torch.equal(again(*inputs).z, backbone(*inputs).z)
    other = XTrendBackbone(config(d_hidden=16), NAMES)
    write_tensors(tmp_path / "a" / "model.safetensors", other.model.state_dict())
    with pytest.raises(CheckpointError, match=r"124 differences: .*embedding.weight must have"):
        XTrendBackbone.load_production_checkpoint(tmp_path / "a")


def test_a_trainer_is_handed_to_pretrain() -> None:
    backbone = XTrendBackbone(config(), NAMES)
    trained = XTrend(config())
    backbone.pretrain(lambda cfg: trained)
    for name, tensor in backbone.model.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[name])


def test_tensor_files_are_read_strictly(tmp_path) -> None:
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": torch.arange(3.0), "b": torch.zeros((), dtype=torch.int64)})
    assert [p.name for p in tmp_path.iterdir()] == ["t.safetensors"]
    assert read_tensors(path)["a"].tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(CheckpointError, match="1 differences: c is missing"):
        read_tensors(path, {"a": torch.zeros(3), "b": torch.zeros(()).long(), "c": torch.ones(1)})
    with pytest.raises(CheckpointError, match="b is not expected"):
        read_tensors(path, {"a": torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"a must be torch.float64, found torch.float32"):
        read_tensors(path, {"a": torch.zeros(3).double(), "b": torch.zeros(()).long()})
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match="must be a whole safetensors file"):
        read_tensors(path)
    with pytest.raises(CheckpointError, match="found nothing at"):
        read_tensors(tmp_path / "none")


@pytest.mark.parametrize("vsn", ["identified", "paper", "tft"])
def test_selection_weights_come_per_sample_and_step_with_the_samples_entity(vsn: str) -> None:
    backbone = XTrendBackbone(config(vsn=vsn), NAMES).eval()
    target, ids = torch.randn(4, 16, 6), torch.tensor([0, 1, 2, -1])
    weights = backbone.selection_weights(target, ids)
    assert weights.shape == (4, 16, 6)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(4, 16))
    for b, number in enumerate(ids):  # a sample's weights depend on nothing but itself
        alone = backbone.selection_weights(target[b : b + 1], number[None])
        torch.testing.assert_close(alone[0], weights[b])
    others = backbone.selection_weights(target, ids.roll(1))
    varies = vsn != "identified"
    assert (not torch.equal(others, weights)) == varies
    assert (weights[0, 0] != weights[0, 1]).any() == varies


@pytest.mark.parametrize("mode", ["random", "none"])
def test_a_window_before_an_assets_start_is_the_shorter_window(mode: str) -> None:
    cfg = config(context_mode=mode)
    model = XTrend(cfg).eval()
    contexts, choice = None, None
    if mode == "random":
        contexts = sample_contexts(ROWS, 3, 8, "random", np.random.default_rng(0))
        choice = np.arange(3)[None]
    whole = np.arange(80, 90)[None]  # the first ten rows of asset 1
    padded = np.concatenate([np.full((1, 6), PADDING), whole], axis=1)
    tensors = RowTensors.of(ROWS, cfg)
    with torch.no_grad():
        short = model(tensors.batch(whole, contexts, choice)).z
        long = model(tensors.batch(padded, contexts, choice)).z
    torch.testing.assert_close(long[:, 6:], short, atol=1e-6, rtol=0)


def test_stacked_versions_of_the_rows_each_keep_their_own_padding() -> None:
    cfg = config(context_mode="none")
    model = XTrend(cfg).eval()
    index = np.stack([np.append(np.full(6, PADDING), np.arange(80, 90)), np.arange(20, 36)])
    batch = RowTensors.of(ROWS, cfg).batch(index)
    n_rows = len(batch.x)
    entity = model.target_entity(batch)
    versions = [torch.randn(n_rows + 1, cfg.d_hidden) for _ in range(2)]
    stacked = batch._replace(
        index=torch.cat([batch.index, batch.index + n_rows + 1]),
        window_group=batch.window_group.repeat(2),
    )
    with torch.no_grad():
        together, _ = model.states_from_rows(
            {"decoder": torch.cat(versions)}, stacked, entity, None
        )
        for v, rows in enumerate(versions):
            alone, _ = model.states_from_rows({"decoder": rows}, batch, entity, None)
            real = torch.from_numpy(index != PADDING)
            torch.testing.assert_close(together[2 * v : 2 * v + 2][real], alone[real])
