from dataclasses import replace

import numpy as np
import pytest
import torch
from row_tables import planted_rows, poisoned, split

from tft_core.errors import ConfigError
from tft_core.feature_selection.evidence import RUN_COLUMNS
from tft_core.models.batching import RowTensors
from tft_core.models.config import XTrendConfig
from tft_core.sequences import epoch_windows
from tft_core.training.config import TrainingConfig
from tft_core.training.evaluation import diversified_sharpe
from tft_core.training.exploration import (
    SHADOW_PREFIX,
    SHIFTS,
    ExplorationConfig,
    explore,
    permutation_importance,
    permuted_rows,
    with_shadows,
)
from tft_core.training.loop import train_member

ROWS = planted_rows(n_assets=3, n_days=300, n_features=10, ic=0.3)
FIT, VALIDATION, _ = split(ROWS, 200, 290)
TRAINING = TrainingConfig(pretrain_epochs=1, finetune_epochs=2, threads=1, batch_size=16)


def config(**changes) -> XTrendConfig:
    return XTrendConfig.smoke(n_features=10, n_assets=3, **changes)


@pytest.fixture(scope="module")
def result():
    return explore(
        ROWS,
        FIT,
        VALIDATION,
        config(),
        TRAINING,
        ExplorationConfig(
            n_seeds=2, pretrain_epochs=1, finetune_epochs=2, n_shadows=4, ig_windows=6
        ),
    )


def test_the_record_holds_every_feature_and_shadow_of_every_seed(result) -> None:
    records = result.records
    assert tuple(records.columns) == RUN_COLUMNS
    assert len(records) == 2 * 14
    real = records[~records["is_shadow"]]
    np.testing.assert_allclose(real.groupby("seed")["weight"].sum(), 1.0, rtol=1e-9)
    np.testing.assert_allclose(real["lift"], real["weight"] * 10, rtol=1e-12)
    assert set(real["feature"]) == set(ROWS.feature_names)
    assert records.loc[records["is_shadow"], "feature"].str.startswith(SHADOW_PREFIX).all()
    assert np.isfinite(records[["perm_dposition", "perm_dsharpe", "ig"]].to_numpy()).all()


def test_exploring_twice_gives_the_same_record(result) -> None:
    again = explore(
        ROWS,
        FIT,
        VALIDATION,
        config(),
        TRAINING,
        ExplorationConfig(
            n_seeds=2, pretrain_epochs=1, finetune_epochs=2, n_shadows=4, ig_windows=6
        ),
    )
    assert again.records.equals(result.records)


def test_a_shadow_holds_its_originals_values_of_the_same_asset_and_period() -> None:
    shadowed = with_shadows(ROWS, VALIDATION, 10)
    assert shadowed.n_features == 20
    for k in range(10):
        original = shadowed.feature_names[10 + k].removeprefix(SHADOW_PREFIX)
        j = ROWS.feature_names.index(original)
        for asset in range(3):
            for late in (False, True):
                block = (ROWS.asset_id == asset) & ((ROWS.date_index >= 200) == late)
                np.testing.assert_array_equal(
                    np.sort(shadowed.features[block, 10 + k]), np.sort(ROWS.features[block, j])
                )
                assert (shadowed.features[block, 10 + k] != ROWS.features[block, j]).mean() > 0.9


def test_a_shadow_meets_the_same_labels_in_folds_that_overlap() -> None:
    """Else accidents of a shadow average out over folds, and those of a useless feature don't."""
    early, late = (
        with_shadows(ROWS, VALIDATION & (ROWS.date_index >= first), 10) for first in (160, 200)
    )
    before = ROWS.date_index < 160
    same = (early.features[before, 10:] == late.features[before, 10:]).mean(axis=0)
    # all but the rows at the start, which the circle fills from the period's other end
    assert (same > 0.35).all()
    assert same.mean() > 0.5


def test_a_feature_is_copied_again_at_another_shift_only_when_all_were_copied() -> None:
    once = with_shadows(ROWS, VALIDATION, 10)
    more = with_shadows(ROWS, VALIDATION, 25)
    assert more.feature_names[: 10 + 10] == once.feature_names
    np.testing.assert_array_equal(more.features[:, :20], once.features)
    originals = [n.removeprefix(SHADOW_PREFIX).split("#")[0] for n in more.feature_names[10:]]
    assert sorted(set(originals)) == sorted(ROWS.feature_names)
    assert max(originals.count(name) for name in ROWS.feature_names) == 3
    assert len(set(more.feature_names)) == 35
    second = more.feature_names.index(f"{SHADOW_PREFIX}{originals[10]}#2")
    first = more.feature_names.index(f"{SHADOW_PREFIX}{originals[10]}")
    assert (more.features[:, second] != more.features[:, first]).mean() > 0.9
    assert with_shadows(ROWS, VALIDATION, 1000).n_features == 10 + SHIFTS * 10


def test_shadows_of_training_rows_know_nothing_of_the_validation() -> None:
    whole = with_shadows(ROWS, VALIDATION, 5)
    changed = with_shadows(poisoned(ROWS, 200), VALIDATION, 5)
    early = ROWS.date_index < 200
    np.testing.assert_array_equal(whole.features[early], changed.features[early])


@pytest.mark.parametrize(
    "changes", [{}, {"vsn": "paper", "share_vsn": False}, {"share_vsn": False}]
)
def test_permutation_equals_running_the_whole_network_on_permuted_features(changes) -> None:
    cfg = config(**changes)
    done = train_member(ROWS, FIT, VALIDATION, cfg, replace(TRAINING, finetune_epochs=1), 0)
    probe = ExplorationConfig(permutation_windows=12)
    dposition, dsharpe = permutation_importance(
        done.member, done.bank, ROWS, VALIDATION, probe, seed=4
    )
    # the same draws, then the plain way: a new table for each feature
    rng = np.random.default_rng([4, 12])
    index, counts = epoch_windows(
        ROWS, VALIDATION & ROWS.can_bear_loss, cfg.seq_len, cfg.warmup, rng
    )
    if len(index) > 12:
        kept = np.sort(rng.choice(len(index), size=12, replace=False))
        index, counts = index[kept], counts[kept]
    source = permuted_rows(ROWS, VALIDATION, rng)

    def positions(rows) -> np.ndarray:
        with torch.no_grad():
            z = done.member(RowTensors.of(rows, cfg).batch(index), done.bank).z
        return z.double().numpy()[counts]

    at = index[counts]
    order = np.argsort(at)
    base = positions(ROWS)
    for j in (0, 3, 9):
        features = ROWS.features.copy()
        features[:, j] = features[source, j]
        moved = positions(ROWS.with_features(features, ROWS.feature_names))
        assert dposition[j] == pytest.approx(np.abs(moved - base).mean(), abs=1e-6)
        drop = diversified_sharpe(ROWS, at[order], base[order]) - diversified_sharpe(
            ROWS, at[order], moved[order]
        )
        assert dsharpe[j] == pytest.approx(drop, abs=1e-3)
    assert dposition.max() > 0


def test_permuting_stays_inside_an_assets_period() -> None:
    source = permuted_rows(ROWS, VALIDATION, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(source), np.arange(len(ROWS)))
    np.testing.assert_array_equal(ROWS.asset_id[source], ROWS.asset_id)
    np.testing.assert_array_equal(ROWS.date_index[source] >= 200, ROWS.date_index >= 200)


def test_an_impossible_exploration_is_refused() -> None:
    with pytest.raises(ConfigError, match="n_shadows must be at least 0, found -1"):
        ExplorationConfig(n_shadows=-1)
