"""What a trial is scored on: inner windows that know nothing of themselves, on common dates."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tests.support.tiny import ANCHOR, SYMBOLS, load_store, poisoned, tiny_bars, tiny_settings
from tft_core.hp_tuner import TunerConfig
from tft_core.training_pipeline import Workspace
from tft_core.training_pipeline.configured import default_params
from tft_core.training_pipeline.phases import objective as objective_module
from tft_core.training_pipeline.phases.objective import StudyObjective
from tft_core.training_pipeline.phases.tuning import study_identity

FIRST = ANCHOR.isoformat()


def objective_of(workspace: Workspace) -> StudyObjective:
    return StudyObjective(workspace, FIRST, workspace.settings.build(TunerConfig, "tuning"))


@pytest.fixture(scope="module")
def objective(lifecycle) -> StudyObjective:
    return objective_of(lifecycle[0].workspace)


@pytest.fixture(scope="module")
def noisy(objective, tmp_path_factory) -> StudyObjective:
    """The same fold from bars that are noise from the oldest inner test window on."""
    start = objective.data.dates[objective.first_session + int(objective.folds[0].test[0])]
    settings = tiny_settings(tmp_path_factory.mktemp("inner_poison"))
    load_store(settings, poisoned(tiny_bars(), start.date()))
    workspace = Workspace.open(settings)
    for asset in ("market_data", "mega_features"):
        workspace.build(asset, FIRST)
    return objective_of(workspace)


def knowledge(prepared) -> dict[str, np.ndarray]:
    """What an inner fold trains on: names, scaled rows, labels, and which rows bear loss."""
    part, rows = prepared.part, prepared.part.rows
    used = part.train | part.fit | part.validation
    return {
        "names": np.array(rows.feature_names),
        "features": rows.features[used],
        "labels": rows.label[used],
        "dates": rows.dates[rows.date_index[used]].to_numpy(),
        "fit": rows.dates[rows.date_index[part.fit]].to_numpy(),
        "validation": rows.dates[rows.date_index[part.validation]].to_numpy(),
    }


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_noise_in_the_inner_test_window_changes_nothing_it_trains_on(objective, noisy):
    fold = objective.folds[0]
    clean, poison = (o.prepare(fold) for o in (objective, noisy))
    assert same(knowledge(clean), knowledge(poison))
    # and the poison is there: the rows of the window itself differ
    tested = [
        made.part.rows.features[np.isin(made.part.rows.date_index, made.test_sessions)]
        for made in (clean, poison)
    ]
    assert not np.array_equal(*tested)


def test_an_inner_fold_that_fits_on_its_test_window_would_be_seen(objective, noisy):
    """The comparison has teeth: a scaler fitted one window too far does not pass it."""
    fold = objective.folds[0]
    leaky = replace(fold, fit=np.arange(int(fold.test[-1]) + 1))
    assert not same(knowledge(objective.prepare(leaky)), knowledge(noisy.prepare(leaky)))


def test_inner_test_windows_are_the_newest_of_the_training_window(objective):
    dates = objective.data.dates
    sessions = np.concatenate([fold.test for fold in objective.folds]) + objective.first_session
    # after them lies only the purge before the fold's own test window
    assert len(dates) - 1 - sessions[-1] == 5
    assert (np.diff(sessions) == 1).all()
    assert objective.folds[0].train[0] == 0 and sessions[0] > 60


def test_dates_are_the_same_whatever_the_window_length(objective):
    params = default_params(objective.workspace.settings)
    short, long = (objective({**params, "seq_len": n}, 0, 42) for n in (8, 12))
    assert short.dates.equals(long.dates)
    assert not np.array_equal(short.net, long.net)


def test_costs_and_position_settings_move_the_objective(objective):
    params = default_params(objective.workspace.settings)
    plain = objective(params, 0, 42)
    assert np.array_equal(plain.net, objective(params, 0, 42).net)  # the seed decides the rest
    slow = objective({**params, "position_smooth": 0.05}, 0, 42)
    assert not np.array_equal(plain.net, slow.net)
    smaller = objective({**params, "max_position": 0.1}, 0, 42)
    assert not np.array_equal(plain.net, smaller.net)


def test_another_feature_set_or_data_or_setting_opens_a_new_study(lifecycle):
    workspace = lifecycle[0].workspace
    live = workspace.plan.keys[-1]
    same_again = study_identity(workspace, live)
    assert study_identity(workspace, live) == same_again
    assert study_identity(workspace, FIRST) != same_again  # other bars
    for changed in (
        {"selection": {"final_max_features": 19}},
        {"model": {"d_hidden": 16}},
        {"costs": {"default_bps": 7.0}},
        {"folds": {"purge_sessions": 6}},
    ):
        assert study_identity(workspace.with_settings(**changed), live) != same_again
    # how many windows there are, and what the gate asks, are no part of a study's meaning
    for kept in ({"gate": {"min_oos_days": 31}}, {"folds": {"n_windows": 3}}):
        assert study_identity(workspace.with_settings(**kept), live) == same_again


def test_a_trial_holds_nothing_of_an_asset_that_has_left_the_universe(lifecycle, monkeypatch):
    held = []
    walked = objective_module.record_path

    def record_path(data, universe, window, positions, config):
        held.append(positions)
        return walked(data, universe, window, positions, config)

    monkeypatch.setattr(objective_module, "record_path", record_path)
    workspace = lifecycle[0].workspace
    members = [
        {"symbols": list(SYMBOLS[:3])},
        {"symbols": [SYMBOLS[3]], "until": ANCHOR - timedelta(days=200)},
    ]
    for opened in (workspace, workspace.with_settings(universe={"members": members})):
        objective_of(opened)(default_params(opened.settings), 0, 42)
    always, left = held
    assert (always[-1] != 0.0).all()
    assert (left[:, 3] == 0.0).all()
    np.testing.assert_array_equal(left[:, :3], always[:, :3])
