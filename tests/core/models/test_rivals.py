"""The simple models that X-Trend must beat go through the same loop, ensemble and checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from row_tables import planted_rows, split

from tft_core.errors import ConfigError, ModelError
from tft_core.models.config import XTrendConfig
from tft_core.models.ensemble import Ensemble
from tft_core.models.io import weight_hash
from tft_core.models.rivals import RIVALS, rival
from tft_core.training.config import TrainingConfig
from tft_core.training.exploration import ExplorationConfig, explore
from tft_core.training.walk_forward import EnsembleResult, train_ensemble

QUICK = TrainingConfig(
    pretrain_epochs=1, finetune_epochs=2, n_seeds=2, threads=1, batch_size=16, lr=1e-2
)
SMOKE = XTrendConfig.smoke(n_features=6, n_assets=3, context_mode="segment")


@pytest.fixture(scope="module")
def rows():
    return planted_rows(n_assets=3, n_days=200, n_features=6, late={2: 60})


@pytest.fixture(scope="module")
def trained(rows) -> dict[str, EnsembleResult]:
    masks = split(rows, 110, 160)
    return {
        name: train_ensemble(rows, *masks, rival(name, SMOKE), QUICK, refit=True) for name in RIVALS
    }


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_trains_predicts_and_survives_its_checkpoint(rows, trained, name: str) -> None:
    result = trained[name]
    assert result.optimiser_steps >= 2 * 3 * 16
    assert result.histories["loss"].notna().all()
    at = np.flatnonzero(rows.date_index >= 160)
    output = result.ensemble.predict(rows, at)
    assert np.abs(output.member_z).max() < 1.0
    assert output.z.std() > 1e-3
    state = result.ensemble.state_dict()
    stored = XTrendConfig.from_dict(result.ensemble.config.to_dict())
    again = Ensemble.from_state(stored, state)
    assert weight_hash(again.state_dict()) == result.weight_hash
    np.testing.assert_array_equal(again.predict(rows, at).member_z, output.member_z)


@pytest.mark.parametrize("name", RIVALS)
def test_a_rivals_attributions_add_up_to_its_position(rows, trained, name: str) -> None:
    ensemble, at = trained[name].ensemble, np.array([100, 190, 320])
    parts = ensemble.importance(rows, at, n_steps=32)
    zeros = rows.with_features(np.zeros_like(rows.features), rows.feature_names)
    moved = ensemble.predict(rows, at).z - ensemble.predict(zeros, at).z
    np.testing.assert_allclose(parts.sum(axis=1), moved, atol=1e-3)


def test_linear_is_tanh_of_a_linear_map_of_the_days_features(rows, trained) -> None:
    ensemble = trained["linear"].ensemble
    at = np.array([0, 5, 77, 150, 300])
    for member, z in zip(ensemble.members, ensemble.predict(rows, at).member_z, strict=True):
        w = {name: t.numpy().astype(float) for name, t in member.state_dict().items()}
        score = rows.features[at].astype(float) @ w["selection.shared.linear.weight"][0]
        score += w["selection.shared.linear.bias"][0]
        score += rows.coverage[at] * w["side.shared.weight"][0, 0]
        np.testing.assert_allclose(z, np.tanh(score), atol=1e-6)


def test_linear_has_no_memory_and_an_lstm_has(rows, trained) -> None:
    at = np.flatnonzero(rows.date_index == 150)
    before = rows.features.copy()
    before[rows.date_index < 150] = 3.0
    changed = rows.with_features(before, rows.feature_names)
    for name, remembers in (("linear", False), ("lstm", True), ("vsn_lstm", True)):
        ensemble = trained[name].ensemble
        same = np.array_equal(ensemble.predict(rows, at).z, ensemble.predict(changed, at).z)
        assert same != remembers


def test_rivals_share_everything_but_the_part_left_out() -> None:
    for name, parts in (
        ("vsn_lstm", {"context_mode"}),
        ("lstm", {"context_mode", "vsn"}),
        ("linear", {"context_mode", "vsn", "architecture"}),
    ):
        ours, base = rival(name, SMOKE).to_dict(), SMOKE.to_dict()
        assert {field for field in base if ours[field] != base[field]} == parts
    with pytest.raises(ConfigError, match="one of vsn_lstm, lstm, linear, found 'arima'"):
        rival("arima", SMOKE)


def test_a_linear_network_with_contexts_forecasts_or_selection_is_refused() -> None:
    linear = rival("linear", SMOKE)
    for change, message in (
        ({"context_mode": "random"}, 'context_mode must be "none" in architecture linear, found'),
        ({"vsn": "paper"}, "vsn must be \"none\" in architecture linear, found 'paper'"),
        ({"loss_mode": "joint_mle"}, 'loss_mode must be "sharpe" in architecture linear'),
    ):
        with pytest.raises(ConfigError, match=message):
            replace(linear, **change)


def test_a_network_without_selection_has_no_selection_weights(rows, trained) -> None:
    for name in ("lstm", "linear"):
        with pytest.raises(ModelError, match="found vsn none; ask for integrated gradients"):
            trained[name].ensemble.vsn_weights(rows, np.array([50]))
    fit, validation, _ = split(rows, 110, 160)
    with pytest.raises(ConfigError, match=r"found model\.vsn none; run with --skip"):
        explore(rows, fit, validation, rival("lstm", SMOKE), QUICK, ExplorationConfig())


def test_linear_learns_a_linear_signal() -> None:
    rows = planted_rows(n_assets=4, n_days=500, n_features=6, ic=0.35, cost=0.0)
    config = rival("linear", XTrendConfig.smoke(n_features=6, n_assets=4))
    training = replace(QUICK, pretrain_epochs=0, finetune_epochs=4, n_seeds=1, lr=3e-2)
    result = train_ensemble(rows, *split(rows, 350, 480), config, training, refit=False)
    w = result.ensemble.members[0].state_dict()["selection.shared.linear.weight"][0]
    beta = torch.tensor([1.0, -0.9, 0.8, 0.0, 0.0, 0.0])
    assert float(torch.cosine_similarity(w, beta, dim=0)) > 0.9
