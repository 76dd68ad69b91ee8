"""The whole chain without Dagster: artifacts, freshness, serving, the one rule on time."""

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from tests.support.tiny import ANCHOR, SYMBOLS, load_store, poisoned, tiny_bars, tiny_settings
from tft_core.baselines import BASELINES
from tft_core.errors import ArtifactError, ConfigError, FoldError, InferenceError
from tft_core.inference import OK, ServingConfig, TFTInferencePipeline
from tft_core.inference.inputs import read_market
from tft_core.training_pipeline import TrainingPipeline, TrainingPipelineConfig, Workspace
from tft_core.training_pipeline.artifacts import Draft
from tft_core.training_pipeline.phases.out_of_sample import out_of_sample
from tft_core.training_pipeline.phases.production import candidate
from tft_core.training_pipeline.rows import load_fold_data

FIRST, LAST_SESSION = ANCHOR.isoformat(), date(2018, 7, 2)
SERVING = ServingConfig(max_drift_psi=50.0, min_coverage=0.0)


def walk_forward_model(workspace: Workspace, key: str) -> TFTInferencePipeline:
    return TFTInferencePipeline.from_checkpoint(
        candidate(workspace, key, "default"), serving=SERVING
    )


def test_a_run_builds_every_asset_once_and_ends_with_a_checkpoint(lifecycle):
    pipeline, result = lifecycle
    assert len(result.built) == len(pipeline.workspace.lifecycle())
    assert result.checkpoint_path.is_dir()
    assert result.n_features_initial >= result.n_features_prefiltered >= result.n_features_final > 0
    assert result.report_path.read_text("utf-8").lower().startswith("<!doctype html>")
    assert {row.split("/")[0] for row in result.built} >= {"mega_features", "out_of_sample"}


def test_a_second_run_builds_nothing_and_keeps_the_version(lifecycle):
    pipeline, result = lifecycle
    again = pipeline.run()
    assert again.built == ()
    assert again.checkpoint_path == result.checkpoint_path


def test_building_side_by_side_gives_the_same_artifacts(lifecycle, tmp_path_factory):
    pipeline, result = lifecycle
    settings = tiny_settings(tmp_path_factory.mktemp("side_by_side"))
    load_store(settings, tiny_bars())
    lines: list[str] = []
    other = TrainingPipeline(settings=settings)
    again = other.run(lambda line, done, total: lines.append(f"{done}/{total} {line}"), workers=2)
    assert sorted(again.built) == sorted(result.built)
    for asset, key in pipeline.workspace.lifecycle():
        if asset == "production_checkpoint":  # names a registry folder, which holds a time
            continue
        mine, theirs = (p.workspace.artifacts.read(asset, key) for p in (pipeline, other))
        assert mine.content_hash == theirs.content_hash, f"{asset}/{key}"
    n = len(result.built)
    assert lines[-1] == f"{n}/{n} done"
    assert other.run(workers=2).built == ()


def test_a_build_that_fails_beside_another_ends_the_run_with_its_reason(tmp_path):
    settings = tiny_settings(tmp_path)
    load_store(settings, tiny_bars())
    pipeline = TrainingPipeline(settings=settings)
    broken = pipeline.workspace.with_settings(folds={"min_train_sessions": 100_000})
    pipeline.workspace = broken
    with pytest.raises(FoldError, match="found"):
        pipeline.run(workers=2)
    assert pipeline.workspace.artifacts.current("market_data", FIRST) is not None


def test_redoing_a_fold_gives_the_same_content_hash(lifecycle):
    workspace = lifecycle[0].workspace
    before = workspace.artifacts.read("exploration_fold", FIRST).content_hash
    assert workspace.build("exploration_fold", FIRST).content_hash == before
    assert workspace.is_fresh("vsn_stability_report", FIRST)


def test_another_seed_makes_the_report_stale_and_the_old_one_makes_it_fresh_again(lifecycle):
    workspace = lifecycle[0].workspace
    before = workspace.artifacts.read("exploration_fold", FIRST).content_hash
    other = workspace.build("exploration_fold", FIRST, {"seed": 7})
    assert other.content_hash != before
    assert not workspace.is_fresh("vsn_stability_report", FIRST)
    assert workspace.build("exploration_fold", FIRST).content_hash == before
    assert workspace.is_fresh("vsn_stability_report", FIRST)


def test_what_an_override_made_is_not_taken_for_what_the_settings_ask_for(lifecycle):
    """A quick try in the launchpad must not become the model that the next refit promotes."""
    workspace = lifecycle[0].workspace
    pair = ("exploration_fold", FIRST)
    workspace.build(*pair, {"seed": 7})
    assert not workspace.is_fresh(*pair)
    assert pair in TrainingPipeline(settings=workspace.settings).pending()
    workspace.build(*pair)
    assert workspace.is_fresh(*pair)
    workspace.build("production_checkpoint", "all", {"force_reason": "a person looked"})
    assert workspace.is_fresh("production_checkpoint", "all")  # a decision stays


def test_a_fold_whose_candidate_left_the_registry_is_trained_again(lifecycle):
    workspace = lifecycle[0].workspace
    pair = ("production_fold", FIRST)
    assert workspace.is_fresh(*pair)
    directory = candidate(workspace, FIRST, "default")
    away = directory.with_name(f".{directory.name}")
    directory.rename(away)
    try:
        assert not workspace.is_fresh(*pair)
    finally:
        away.rename(directory)
    assert workspace.is_fresh(*pair)


@pytest.mark.parametrize("name", ["artifact.json", "candidates.json"])
def test_a_damaged_artifact_is_made_again_by_the_next_run(lifecycle, name):
    """Nothing else on the command line could: a run that only refused it would never end well."""
    pipeline, _ = lifecycle
    pair = ("production_fold", FIRST)
    damaged = pipeline.workspace.artifacts.read(*pair).path / name
    before = damaged.read_bytes()
    damaged.write_text("{")
    try:
        assert pair in pipeline.pending()
        assert ("out_of_sample", FIRST) in pipeline.pending()
    finally:
        damaged.write_bytes(before)
    assert pipeline.pending() == []


def test_an_announced_end_of_a_member_reaches_the_models_that_meet_it(lifecycle):
    """No feature row shows it yet, but production's model must close that position on the day."""
    workspace = lifecycle[0].workspace
    stays = [{"symbols": list(SYMBOLS[:3])}, {"symbols": [SYMBOLS[3]], "until": "2018-07-25"}]
    changed = workspace.with_settings(universe={"members": stays})
    models = {key: changed.is_fresh("production_fold", key) for key in changed.plan.keys}
    assert models == {FIRST: True, "2018-04-01": True, "2018-07-01": False, "live": False}
    assert all(changed.is_fresh("out_of_sample", key) for key in changed.plan.reported_keys)


def test_one_more_window_leaves_every_other_fold_fresh(lifecycle):
    workspace = lifecycle[0].workspace
    wider = workspace.with_settings(folds={"n_windows": 4})
    kept = [pair for pair in workspace.lifecycle() if pair[1] in workspace.plan.keys[:-1]]
    assert kept
    assert all(wider.is_fresh(asset, key) for asset, key in kept)
    assert not wider.is_fresh("market_data", wider.plan.keys[-2])


def test_a_changed_setting_makes_only_its_readers_stale(lifecycle):
    workspace = lifecycle[0].workspace
    changed = workspace.with_settings(exploration={"n_seeds": 2})
    assert changed.is_fresh("prefiltered_features", FIRST)
    assert not changed.is_fresh("exploration_fold", FIRST)


@pytest.fixture(scope="module")
def poisoned_fold(tmp_path_factory):
    """Everything made for the first fold, from bars that are noise from its test start on."""
    settings = tiny_settings(tmp_path_factory.mktemp("poisoned"))
    load_store(settings, poisoned(tiny_bars(), ANCHOR))
    workspace = Workspace.open(settings)
    for asset in (
        "market_data",
        "mega_features",
        "prefiltered_features",
        "exploration_fold",
        "vsn_stability_report",
        "optuna_study",
        "production_fold",
    ):
        workspace.build(asset, FIRST)
    return workspace


@pytest.mark.parametrize(
    "asset",
    [
        "market_data",
        "mega_features",
        "prefiltered_features",
        "exploration_fold",
        "vsn_stability_report",
        "optuna_study",
        "production_fold",
    ],
)
def test_noise_from_the_test_start_on_changes_nothing_made_for_the_fold(
    lifecycle, poisoned_fold, asset
):
    clean = lifecycle[0].workspace.artifacts.read(asset, FIRST)
    noisy = poisoned_fold.artifacts.read(asset, FIRST)
    assert noisy.content_hash == clean.content_hash
    weights = {n: h for n, h in clean.files.items() if n.endswith((".json", ".parquet"))}
    assert weights == {n: noisy.files[n] for n in weights}


def test_the_poison_does_change_what_lies_after_the_test_start(lifecycle, poisoned_fold):
    second = lifecycle[0].workspace.plan.keys[1]
    clean = lifecycle[0].workspace.artifacts.read("market_data", second)
    assert poisoned_fold.build("market_data", second).content_hash != clean.content_hash


def test_predicting_the_reported_window_reproduces_the_out_of_sample_positions(lifecycle):
    workspace = lifecycle[0].workspace
    model = walk_forward_model(workspace, FIRST)
    record = workspace.artifacts.read("out_of_sample", FIRST).frame("positions.parquet")
    record = record[record["path"] == "default"].pivot(
        index="date", columns="symbol", values="position"
    )
    days = [day.date() for day in record.index[:12]]
    with workspace.store() as store:
        results = model.predict_batch(days, store)
    for day, result in zip(record.index[:12], results, strict=True):
        assert result.status.keys() == set(SYMBOLS)
        for symbol, position in result.positions.items():
            assert position == pytest.approx(record.at[day, symbol], abs=1e-6)


def test_a_baseline_leaves_an_asset_with_the_universe_as_the_model_does(lifecycle, tmp_path):
    left = date(2018, 2, 1)
    members = [{"symbols": list(SYMBOLS[:3])}, {"symbols": [SYMBOLS[3]], "until": left}]
    workspace = lifecycle[0].workspace.with_settings(universe={"members": members})
    draft = Draft(tmp_path)
    out_of_sample(workspace, FIRST, draft, {}, print)
    record = pd.read_parquet(tmp_path / "positions.parquet")
    rules = record[record["path"].isin(BASELINES)]
    own = rules[rules["symbol"] == SYMBOLS[3]]
    before, after = own[own["date"].dt.date <= left], own[own["date"].dt.date > left]
    assert set(before["path"]) == set(after["path"]) == set(BASELINES)
    assert (before.groupby("path")["position"].last() != 0.0).all()
    assert (after["position"] == 0.0).all()


def test_stored_rows_tell_of_odd_bars_what_serving_reads_in_the_store(tmp_path):
    bars = tiny_bars()
    own = {s: bars.index[bars["symbol"] == s] for s in SYMBOLS}
    bars.loc[own["S01"][600], "volume"] = 0.0
    frozen = own["S03"][650:660]
    for column in ("open", "high", "low", "close"):
        bars.loc[frozen, column] = bars.loc[frozen[0], "close"]
    friday = bars.loc[own["S02"]].query("date.dt.day_of_week == 4").iloc[[100]]
    stray = friday.assign(date=friday["date"] + pd.Timedelta(days=1))
    settings = tiny_settings(tmp_path)
    load_store(settings, pd.concat([bars, stray]))
    workspace = Workspace.open(settings)
    for asset in ("market_data", "mega_features"):
        workspace.build(asset, FIRST)
    data, limits = load_fold_data(workspace, (FIRST,)), ServingConfig()
    stored = data.inputs().judged(limits)
    with workspace.store() as store:
        live = read_market(store, data.panel, data.dates[-1].date(), limits).faults
    assert live is not None
    for name in ("outlier_day", "is_frozen", "is_untraded", "is_off_calendar"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(live, name), err_msg=name)
    counts = [getattr(stored, n).sum() for n in ("is_untraded", "is_off_calendar", "is_frozen")]
    assert counts[:2] == [1, 1]
    assert counts[2] > 0


def test_predicting_day_by_day_equals_predicting_in_a_batch(lifecycle):
    workspace = lifecycle[0].workspace
    model = walk_forward_model(workspace, FIRST)
    with workspace.store() as store:
        days = [d.date() for d in store.session_dates(None, ANCHOR, date(2018, 1, 10))]
        batch = model.predict_batch(days, store)
        previous = None
        for day, expected in zip(days, batch, strict=True):
            single = model.predict(day, store, previous=previous)
            previous = single.metadata["held"]
            assert single.positions == pytest.approx(expected.positions, abs=1e-6)
            assert single.confidences == pytest.approx(expected.confidences, abs=1e-6)


def test_a_prediction_does_not_depend_on_later_bars(lifecycle, poisoned_fold):
    model = walk_forward_model(lifecycle[0].workspace, FIRST)
    day = date(2017, 12, 29)
    model.metadata = model.metadata.replace(trained_through="2017-12-29")
    with lifecycle[0].workspace.store() as store, poisoned_fold.store() as noisy:
        assert model.predict(day, store).positions == model.predict(day, noisy).positions


def test_every_symbol_gets_a_position_or_a_reason(lifecycle):
    workspace = lifecycle[0].workspace
    model = walk_forward_model(workspace, workspace.plan.keys[2])
    with workspace.store() as store:
        result = model.predict(LAST_SESSION, store)
    assert set(result.status) == set(SYMBOLS)
    assert {s for s, code in result.status.items() if code == OK} == set(result.positions)
    assert all(0.0 <= c <= 1.0 for c in result.confidences.values())
    assert all(np.isfinite(p) and abs(p) <= 0.25 for p in result.positions.values())
    assert all(result.feature_importance[s] for s in result.positions)


def test_a_model_that_has_seen_the_session_is_refused(lifecycle):
    workspace = lifecycle[0].workspace
    model = walk_forward_model(workspace, "live")
    with workspace.store() as store, pytest.raises(InferenceError, match="model_has_seen_label"):
        model.predict(date(2018, 1, 5), store)


def test_a_day_without_a_bar_is_no_session(lifecycle):
    workspace = lifecycle[0].workspace
    model = walk_forward_model(workspace, FIRST)
    with workspace.store() as store, pytest.raises(InferenceError, match="must be a session"):
        model.predict(date(2018, 1, 6), store)


def test_a_shorter_lookback_than_the_model_needs_is_an_error(lifecycle):
    workspace = lifecycle[0].workspace
    model = walk_forward_model(workspace, FIRST)
    with workspace.store() as store, pytest.raises(InferenceError, match="found 120"):
        model.predict(date(2018, 1, 5), store, lookback_days=120)


def test_the_kill_switch_stops_every_prediction(lifecycle, monkeypatch):
    workspace = lifecycle[0].workspace
    model = walk_forward_model(workspace, FIRST)
    monkeypatch.setenv("TFT_KILL_SWITCH", "1")
    with workspace.store() as store, pytest.raises(InferenceError, match="kill_switch"):
        model.predict(date(2018, 1, 5), store)


def test_drift_beyond_its_limit_stops_the_prediction(lifecycle):
    workspace = lifecycle[0].workspace
    model = walk_forward_model(workspace, FIRST)
    model.serving = replace(SERVING, max_drift_psi=0.0)
    with workspace.store() as store, pytest.raises(InferenceError, match="feature_drift"):
        model.predict(date(2018, 1, 5), store)


def test_signals_of_the_live_session_reach_the_ledger_exactly_once(lifecycle):
    pipeline, result = lifecycle
    workspace = pipeline.workspace
    with workspace.store() as store:
        session = store.last_session().isoformat()
    workspace.build("inference", session)
    first = workspace.build("strategy_signals", session)
    again = workspace.build("strategy_signals", session)
    assert result.promoted
    assert first.summary["published"]
    assert (first.summary["revision"], again.summary["revision"]) == (1, 1)
    assert again.content_hash == first.content_hash


def test_a_past_session_is_predicted_by_its_fold_s_model(lifecycle):
    workspace = lifecycle[0].workspace
    artifact = workspace.build("inference", "2018-01-02")
    assert artifact.summary["fold"] == FIRST
    assert artifact.summary["is_promoted"] is False


def test_skipping_tuning_ships_the_default_and_leaves_the_full_run_s_artifacts_alone(lifecycle):
    pipeline, _ = lifecycle
    toggled = TrainingPipeline(
        TrainingPipelineConfig(skip_tuning=True), settings=pipeline.workspace.settings
    )
    assert toggled.workspace.artifacts.root != pipeline.workspace.artifacts.root
    result = toggled.run()
    assert result.tuning_result["skipped"] is True
    assert pipeline.pending() == []


def test_a_partition_that_does_not_exist_and_an_unknown_override_are_refused(lifecycle):
    workspace = lifecycle[0].workspace
    with pytest.raises(FoldError, match="found '1999-01-01'"):
        workspace.build("exploration_fold", "1999-01-01")
    with pytest.raises(ConfigError, match="found 'epochs'"):
        workspace.build("exploration_fold", FIRST, {"epochs": 3})


def test_a_damaged_artifact_is_refused_by_name(lifecycle, tmp_path):
    workspace = lifecycle[0].workspace
    artifact = workspace.artifacts.read("prefiltered_features", FIRST)
    path = artifact.path / "prefilter.json"
    saved = path.read_bytes()
    path.write_bytes(saved[:-1] + b" ")
    try:
        with pytest.raises(ArtifactError, match=r"prefilter\.json must have the bytes"):
            artifact.json("prefilter.json")
    finally:
        path.write_bytes(saved)


def test_the_shipped_path_of_a_window_is_decided_before_it(lifecycle):
    workspace = lifecycle[0].workspace
    verdict = workspace.artifacts.read("production_checkpoint", "all").json("verdict.json")
    assert verdict["path_by_fold"][FIRST] == "default"
    daily = workspace.artifacts.read("production_checkpoint", "all").frame("daily.parquet")
    assert pd.DatetimeIndex(daily["date"]).is_monotonic_increasing


def test_inference_scales_with_the_statistics_the_checkpoint_carries(lifecycle):
    workspace = lifecycle[0].workspace
    model = walk_forward_model(workspace, FIRST)
    with workspace.store() as store:
        inputs = model.inputs(store, date(2018, 1, 5), date(2018, 1, 5))
    rows = model.rows(inputs)
    mean = np.array(model.metadata.normalization["mean"], dtype=float)
    std = np.array(model.metadata.normalization["std"], dtype=float)
    raw = inputs.panel.select(model.feature_names).values[-1, 0].astype(float)
    expected = np.nan_to_num(np.clip((raw - mean) / std, -5.0, 5.0))
    last_of_first_asset = rows.asset_start[1] - 1
    np.testing.assert_allclose(rows.features[last_of_first_asset], expected, atol=1e-5)
