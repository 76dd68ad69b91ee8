from dataclasses import replace

import numpy as np
import pytest
import torch
from row_tables import planted_rows, poisoned, split

from tft_core.errors import ConfigError, TrainingError
from tft_core.metrics import sharpe_ann
from tft_core.models.config import XTrendConfig
from tft_core.models.ensemble import Ensemble
from tft_core.training.config import TrainingConfig
from tft_core.training.evaluation import diversified_sharpe, net_by_row
from tft_core.training.loop import train_member
from tft_core.training.walk_forward import train_ensemble

QUICK = TrainingConfig(
    pretrain_epochs=1, finetune_epochs=2, n_seeds=2, threads=1, batch_size=16, patience=2
)


def smoke(**changes) -> XTrendConfig:
    return XTrendConfig.smoke(n_features=20, n_assets=3, **changes)


@pytest.fixture(scope="module")
def rows():
    return planted_rows(n_assets=3, n_days=300)


@pytest.fixture(scope="module")
def result(rows):
    return train_ensemble(rows, *split(rows, 160, 220), smoke(), QUICK, refit=True)


def test_the_same_seed_and_threads_give_the_same_weights(rows, result) -> None:
    torch.manual_seed(99)  # the caller's random state has no say
    again = train_ensemble(rows, *split(rows, 160, 220), smoke(), QUICK, refit=True)
    assert again.weight_hash == result.weight_hash
    other = train_ensemble(rows, *split(rows, 160, 220), smoke(), QUICK, seeds=(7, 8), refit=True)
    assert other.weight_hash != result.weight_hash


def test_training_leaves_the_callers_settings_alone(rows) -> None:
    torch.manual_seed(3)
    before = (torch.random.get_rng_state(), torch.get_num_threads())
    fit, validation, _ = split(rows, 160, 220)
    train_member(rows, fit, validation, smoke(), replace(QUICK, finetune_epochs=1), 0)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("mode", ["random", "segment"])
def test_replacing_everything_after_the_training_changes_no_weight(rows, result, mode) -> None:
    masks = split(rows, 160, 220)
    # validation ends before 215; its last label is realised by 216
    trained = [
        train_ensemble(table, *masks, smoke(context_mode=mode), QUICK, seeds=(1,), refit=True)
        for table in (rows, poisoned(rows, 217))
    ]
    assert trained[0].weight_hash == trained[1].weight_hash
    assert trained[0].val_sharpe == trained[1].val_sharpe


def test_epochs_have_enough_steps_and_the_record_is_whole(rows, result) -> None:
    assert (result.histories["steps"] >= 16).all()
    assert result.optimiser_steps == result.histories["steps"].sum()
    assert set(result.histories["stage"]) == {"select", "refit"}
    refit = result.histories[result.histories["stage"] == "refit"]
    assert result.refit_epochs == int(np.median(result.best_epochs))
    assert (refit.groupby("seed")["phase"].apply(lambda p: (p == "finetune").sum())
            == result.refit_epochs).all()  # fmt: skip
    assert result.threads == 1
    assert len(result.ensemble) == 2


def test_validation_is_scored_as_inference_would_predict(rows) -> None:
    fit, validation, train = split(rows, 160, 220)
    done = train_ensemble(rows, fit, validation, train, smoke(), QUICK, refit=False)
    at = np.flatnonzero(validation & rows.can_bear_loss)
    output = done.ensemble.predict(rows, at)
    np.testing.assert_allclose(done.validation["z"], output.z, atol=1e-6)
    assert done.val_sharpe == pytest.approx(diversified_sharpe(rows, at, output.z), abs=1e-4)
    available = done.ensemble.context_available
    assert available is not None
    assert available < rows.dates[160].to_datetime64()


def test_the_validation_sharpe_is_that_of_the_per_date_mean_net_return(rows) -> None:
    at = np.flatnonzero((rows.date_index >= 10) & (rows.date_index < 40))
    z = np.random.default_rng(0).uniform(-1, 1, len(at))
    wide = np.zeros((30, 3))
    for asset in range(3):
        held = 0.0
        for day in range(30):
            row = int(rows.asset_start[asset]) + 10 + day
            now = z[np.flatnonzero(at == row)[0]]
            scaled = now / rows.sigma[row]
            wide[day, asset] = now * rows.label[row] / rows.sigma[row] - rows.cost_rate[row] * abs(
                scaled - held
            )
            held = scaled
    np.testing.assert_allclose(net_by_row(rows, at, z), wide.T.ravel(), rtol=1e-10)
    expected = sharpe_ann(wide.mean(axis=1))
    assert diversified_sharpe(rows, at, z) == pytest.approx(expected, rel=1e-10)


def test_a_loss_that_stops_being_a_number_stops_the_training(rows) -> None:
    fit, validation, _ = split(rows, 160, 220)
    with pytest.raises(TrainingError, match=r"in pretrain epoch 1 of seed 5; lower the learning"):
        train_member(rows, fit, validation, smoke(), replace(QUICK, lr=1e38), 5)


def test_early_stopping_keeps_the_best_epochs_weights(rows) -> None:
    fit, validation, _ = split(rows, 160, 220)
    config = replace(QUICK, finetune_epochs=12, patience=3, lr=1e-2)
    done = train_member(rows, fit, validation, smoke(), config, 2)
    scores = [r.val_sharpe for r in done.reports if r.phase == "finetune"]
    assert done.best_epoch == int(np.argmax(scores)) + 1
    assert done.val_sharpe == max(scores)
    assert len(scores) == 12 or len(scores) == done.best_epoch + 3
    assert done.val_z is not None
    at = np.flatnonzero(validation & rows.can_bear_loss)
    assert diversified_sharpe(rows, at, done.val_z) == pytest.approx(done.val_sharpe)


def test_pretraining_ignores_costs_and_finetuning_does_not(rows) -> None:
    fit, validation, _ = split(rows, 160, 220)
    dear = replace(rows, cost_rate=np.full(len(rows), 0.02))
    runs = [
        train_member(table, fit, validation, smoke(), replace(QUICK, finetune_epochs=1), 0)
        for table in (rows, dear)
    ]
    losses = [[r.loss for r in run.reports] for run in runs]
    assert losses[0][0] == losses[1][0]
    assert losses[1][1] > losses[0][1]


def test_too_few_rows_and_overlapping_masks_are_refused(rows) -> None:
    fit, validation, train = split(rows, 160, 220)
    with pytest.raises(TrainingError, match="at least 32 rows with label and volatility, found 30"):
        train_member(rows, rows.date_index < 10, None, smoke(), QUICK, 0)
    with pytest.raises(TrainingError, match="must be apart, found 3 rows in both"):
        train_ensemble(
            rows, fit | (rows.date_index == 170), validation, train, smoke(), QUICK, refit=False
        )
    with pytest.raises(TrainingError, match="validation must hold rows"):
        train_member(rows, fit, np.zeros(len(rows), bool), smoke(), QUICK, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finetune_epochs": 0}, "finetune_epochs must be at least 1, found 0"),
        ({"lr": 0.0}, "lr must be positive, found 0"),
        ({"cost_factor": -1.0}, "cost_factor must not be negative, found -1"),
        ({"penalty_ramp": 2.0}, r"penalty_ramp must lie in \[0, 1\], found 2"),
        ({"amp": True}, r'amp must be false on device "cpu", found true; set training.device'),
    ],
)
def test_an_impossible_training_configuration_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**change)


def test_a_planted_signal_is_learned_to_most_of_the_oracles_out_of_sample_sharpe() -> None:
    rows = planted_rows(n_assets=6, n_days=1300, n_features=12, ic=0.35, n_informative=4, cost=0.0)
    fit = rows.date_index < 700
    validation = (rows.date_index >= 710) & (rows.date_index < 900)
    config = XTrendConfig.smoke(n_features=12, n_assets=6, d_hidden=16)
    training = TrainingConfig(
        pretrain_epochs=3, finetune_epochs=6, lr=5e-3, batch_size=32, threads=1, patience=6
    )
    done = train_member(rows, fit, validation, config, training, 0)
    at = np.flatnonzero((rows.date_index >= 910) & rows.can_bear_loss)
    z = Ensemble(config, [done.member], [done.bank]).predict(rows, at).z
    beta = np.array([1.0, -0.9, 0.8, -0.7])
    oracle = np.tanh(rows.features[at, :4] @ beta)
    best, reached = (diversified_sharpe(rows, at, p) for p in (oracle, z))
    assert best > 10.0
    assert reached > 0.8 * best
    weights = done.member.main_selection.static_weights().numpy()  # type: ignore[attr-defined]
    assert weights[:4].min() > weights[4:].max()
