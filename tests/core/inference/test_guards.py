"""Each guard: its limit, its code, and that a missing or broken state is refused too."""

import re
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from served_support import SERVING, SYMBOLS

from tft_core.checkpoint_manager import CheckpointManager
from tft_core.data.synthetic import synthetic_market
from tft_core.errors import CheckpointError, ConfigError, InferenceError
from tft_core.features.kernels import daily_volatility
from tft_core.features.panel import FeaturePanel
from tft_core.inference import (
    REASONS,
    BarFaults,
    InferenceResult,
    Refusal,
    ServingConfig,
    TFTInferencePipeline,
    guards,
)
from tft_core.inference.drift import drift_by_session


def refused(code: str, detail: str = ""):
    return pytest.raises(Refusal, match=rf"^{code}: .*{detail}")


# -- the whole session -------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "true", "on", "yes please", "?"])
def test_any_value_but_an_off_turns_the_kill_switch_on(model, store, served, monkeypatch, value):
    monkeypatch.setenv("TFT_KILL_SWITCH", value)
    with refused("kill_switch", r"TFT_KILL_SWITCH"):
        model.predict(served.sessions[-1], store)


@pytest.mark.parametrize("value", ["", "0", "off", "No"])
def test_an_off_leaves_the_kill_switch_off(tmp_path, monkeypatch, value):
    monkeypatch.setenv("TFT_KILL_SWITCH", value)
    guards.refuse_if_killed(tmp_path)


def test_a_kill_switch_that_is_a_broken_link_or_a_directory_is_on(tmp_path):
    switch = tmp_path / "KILL_SWITCH"
    switch.symlink_to(tmp_path / "nowhere")
    with refused("kill_switch", "found it on"):
        guards.refuse_if_killed(tmp_path)
    switch.unlink()
    switch.mkdir()
    with refused("kill_switch", "found it on"):
        guards.refuse_if_killed(tmp_path)


def test_a_kill_switch_beside_the_registry_stops_a_model_loaded_by_its_path_alone(
    model, store, served
):
    switch = served.checkpoint.parents[2] / "KILL_SWITCH"
    switch.touch()
    try:
        with refused("kill_switch", re.escape(str(switch))):
            model.predict(served.sessions[-1], store)
    finally:
        switch.unlink()
    assert model.predict(served.sessions[-1], store).positions


def test_a_home_that_cannot_be_listed_counts_as_killed(tmp_path):
    file = tmp_path / "home"
    file.write_text("")
    with refused("kill_switch", "must be readable"):
        guards.refuse_if_killed(file)


def test_a_model_beyond_its_age_is_refused_and_at_it_served(model, served):
    seen = date.fromisoformat(model.metadata.trained_through)
    limits = ServingConfig(max_model_age_days=10)
    guards.refuse_wrong_age(model.metadata, seen + timedelta(days=10), limits)
    with refused("stale_model", r"found 11 "):
        guards.refuse_wrong_age(model.metadata, seen + timedelta(days=11), limits)


def test_a_model_without_a_training_date_is_refused(model):
    object.__setattr__(model.metadata, "trained_through", "unknown")
    with refused("stale_model", "must say up to when"):
        guards.refuse_wrong_age(model.metadata, date(2020, 8, 3), SERVING)


def test_a_model_that_was_trained_on_the_session_is_refused(model, store, served):
    with refused("model_has_seen_label", f"through {served.trained_through - timedelta(days=30)}"):
        model.predict(served.trained_through - timedelta(days=30), store)


def test_other_feature_definitions_are_a_mismatch(served):
    manager = CheckpointManager(served.checkpoint.parent.parent)
    state, metadata = manager.load(served.checkpoint)
    changed = manager.save(state, metadata.replace(version=0, catalogue_hash="e" * 64))
    with refused("schema_mismatch", "found "):
        TFTInferencePipeline.from_checkpoint(changed)


def saved_with(served, **changes) -> Path:
    manager = CheckpointManager(served.checkpoint.parents[1])
    state, metadata = manager.load(served.checkpoint)
    return manager.save(state, metadata.replace(version=0, **changes))


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"position_config": {"max_position": 0.25}}, "position_config .*no position_smooth, max_"),
        ({"universe": {"features": {}}}, "universe .*no config"),
        ({"universe": {"config": {"members": []}}}, "universe .*no features"),
        (
            {"universe": {"config": [], "features": {}}},
            r"universe.config must be a table, found \[",
        ),
        (
            {"universe": {"config": {"members": []}, "features": {}}},
            "universe.config .*no min_present",
        ),
    ],
)
def test_a_checkpoint_without_its_sizing_or_universe_is_not_served_with_today_s_defaults(
    served, changes, detail
):
    with refused("schema_mismatch", detail):
        TFTInferencePipeline.from_checkpoint(saved_with(served, **changes))


def test_an_ensemble_that_has_lost_a_member_is_refused(served):
    """With one member left, disagreement would be unknown and nobody would notice."""
    manager = CheckpointManager(served.checkpoint.parents[1])
    state, metadata = manager.load(served.checkpoint)
    first = {name: tensor for name, tensor in state.items() if "_0/" in name}
    alone = manager.save(first, metadata.replace(version=0))
    with refused("schema_mismatch", "for each of its 2 seeds, found 1"):
        TFTInferencePipeline.from_checkpoint(alone)


def test_a_model_with_contexts_of_after_its_training_is_refused(served):
    """It would be served on sessions whose outcome lies in its bank."""
    earlier = (served.trained_through - timedelta(days=60)).isoformat()
    with refused("schema_mismatch", f"known by {earlier}.* found one of 2020"):
        TFTInferencePipeline.from_checkpoint(saved_with(served, trained_through=earlier))


def test_a_checkpoint_without_sound_confidence_knots_is_refused(served):
    manager = CheckpointManager(served.checkpoint.parent.parent)
    state, metadata = manager.load(served.checkpoint)
    falling = {"score": [0.1, 0.2], "hit_rate": [0.6, 0.5], "n_rows": 500}
    for knots in (None, falling):
        info = {**metadata.training_info, "confidence_knots": knots}
        broken = manager.save(state, metadata.replace(version=0, training_info=info))
        with pytest.raises(CheckpointError, match="confidence must"):
            TFTInferencePipeline.from_checkpoint(broken)


def test_an_ensemble_below_its_least_size_is_refused(model, store, served):
    model.serving = replace(SERVING, min_members=3)
    with refused("too_few_members", "found 2"):
        model.predict(served.sessions[-1], store)


def test_a_session_beyond_an_exchange_s_calendar_is_refused(model, store, served, monkeypatch):
    monkeypatch.setattr(store, "exchanges", lambda symbols: {"S01": "XNYS"})
    guards.refuse_unknown_calendar(store, SYMBOLS, [served.sessions[-1]])
    with refused("calendar_horizon", "XNYS .* must cover 2999-01-01"):
        guards.refuse_unknown_calendar(store, SYMBOLS, [date(2999, 1, 1)])


def test_a_universe_member_without_any_bar_is_refused(model, store, served):
    member = replace(model.universe_config.members[0], symbols=(*SYMBOLS, "GONE"))
    model.universe_config = replace(model.universe_config, members=(member,))
    with refused("missing_asset", "found none of GONE"):
        model.predict(served.sessions[-1], store)


@pytest.mark.parametrize(
    ("code", "limit"), [("feature_drift", "max_drift_psi"), ("feature_shift", "max_drift_ks")]
)
def test_drift_names_the_features_that_moved(model, store, served, code, limit):
    model.serving = replace(SERVING, **{limit: 0.0})
    with refused(code, r"at most 0, found \d.*\(largest: \w+ \d"):
        model.predict(served.sessions[-1], store)


@pytest.mark.parametrize("broken", ["missing", "undefined"])
def test_drift_that_cannot_be_measured_is_refused(model, store, served, broken):
    names = model.feature_names
    quantiles = {} if broken == "missing" else {name: [None] * 11 for name in names}
    object.__setattr__(model.metadata, "feature_quantiles", quantiles)
    with refused("feature_drift", "must be known" if broken == "missing" else "found nan"):
        model.predict(served.sessions[-1], store)


def drift_panel(values: np.ndarray) -> FeaturePanel:
    dates = pd.bdate_range("2020-01-01", periods=len(values))
    return FeaturePanel(values.astype(np.float32), dates, ("A",), ("ret_x",))


def uniform(low: float, high: float) -> np.ndarray:
    """1,000 evenly spread values of one asset's only feature."""
    return np.linspace(low, high, 1000)[:, None, None]


DECILES = {"ret_x": np.linspace(0.0, 1.0, 11).tolist()}


@pytest.mark.parametrize(
    ("values", "distance"),
    [
        (uniform(0.0, 1.0), 0.0),
        (uniform(0.25, 1.25), 0.25),  # of the real distance, what the deciles show
        (uniform(0.0, 0.5), 0.5),
        (uniform(7.0, 9.0), 0.9),  # all beyond: the last inner decile is at .9
        (np.full((1000, 1, 1), 0.55), 0.5),  # frozen in the middle
    ],
)
def test_the_ks_distance_is_the_largest_gap_at_the_deciles(values, distance):
    edges = np.array([DECILES["ret_x"]])
    made = drift_by_session(values, edges, np.array([999]), 1000)
    assert made.ks[0, 0] == pytest.approx(distance, abs=0.011)


def test_the_shift_guard_holds_at_its_limit_and_refuses_beyond_it():
    limits = ServingConfig(max_drift_psi=1e9, drift_sessions=1000, max_drift_ks=0.5)
    for high, is_refused in ((0.51, False), (0.4, True)):
        made = drift_panel(uniform(0.0, high))
        if not is_refused:
            guards.refuse_drift(made, DECILES, made.dates[-1:], limits)
            continue
        with refused("feature_shift", "at most 0.5, found 0.6"):
            guards.refuse_drift(made, DECILES, made.dates[-1:], limits)


@pytest.mark.parametrize("n_known", [0, 49])
def test_a_shift_that_too_few_values_tell_of_is_refused(n_known):
    values = uniform(0.0, 1.0).copy()
    values[n_known:] = np.nan
    made = drift_panel(values)
    edges = np.array([DECILES["ret_x"]])
    assert np.isnan(drift_by_session(values, edges, np.array([999]), 1000).ks).all()
    with refused("feature_drift", "found nan"):
        guards.refuse_drift(made, DECILES, made.dates[-1:], ServingConfig(drift_sessions=1000))


@pytest.mark.parametrize("sizes", [(11, 10), (2, 2)])
def test_training_quantiles_of_odd_numbers_are_refused(sizes):
    values = np.repeat(uniform(0.0, 1.0), 2, axis=2).astype(np.float32)
    dates = pd.bdate_range("2020-01-01", periods=len(values))
    made = FeaturePanel(values, dates, ("A",), ("ret_x", "ret_y"))
    quantiles = {
        name: np.linspace(0.0, 1.0, n).tolist()
        for name, n in zip(made.feature_names, sizes, strict=True)
    }
    with refused("feature_drift", "as many training quantiles, at least 3"):
        guards.refuse_drift(made, quantiles, made.dates[-1:], ServingConfig())


@pytest.mark.parametrize(("n_lost", "is_refused"), [(2, False), (3, True), (4, True)])
def test_features_that_have_gone_silent_are_not_left_out_of_the_median(n_lost, is_refused):
    """A group whose source has ended would else make the rest speak for the whole."""
    values = np.repeat(uniform(0.0, 1.0), 5, axis=2).astype(np.float32)
    values[:, :, :n_lost] = np.nan
    names = ("a", "b", "c", "d", "e")
    made = FeaturePanel(values, pd.bdate_range("2020-01-01", periods=1000), ("A",), names)
    quantiles = dict.fromkeys(names, DECILES["ret_x"])
    limits = ServingConfig(drift_sessions=1000)
    if not is_refused:
        guards.refuse_drift(made, quantiles, made.dates[-1:], limits)
        return
    with refused("feature_drift", f"found inf .*; {n_lost} of 5 without values"):
        guards.refuse_drift(made, quantiles, made.dates[-1:], limits)


def test_a_flag_without_bins_has_no_say_in_the_median():
    values = np.repeat(uniform(0.0, 1.0), 3, axis=2).astype(np.float32)
    values[:, :, 1:] = np.round(values[:, :, 1:])
    names = ("ret_x", "flag", "other_flag")
    made = FeaturePanel(values, pd.bdate_range("2020-01-01", periods=1000), ("A",), names)
    quantiles = {"ret_x": DECILES["ret_x"], **dict.fromkeys(names[1:], [0.0] * 5 + [1.0] * 6)}
    guards.refuse_drift(made, quantiles, made.dates[-1:], ServingConfig(drift_sessions=1000))


def test_drift_of_a_session_knows_nothing_of_later_ones():
    values = np.random.default_rng(0).uniform(size=(1000, 1, 1))
    edges, rows = np.array([DECILES["ret_x"]]), np.array([300, 699])
    before = drift_by_session(values, edges, rows, 200)
    values[700:] = values[700:] * -7.0 + 1e6
    after = drift_by_session(values, edges, rows, 200)
    np.testing.assert_array_equal(before, after)


def test_a_network_with_a_broken_weight_gives_no_position_to_anyone(model, store, served):
    with __import__("torch").no_grad():
        next(model.ensemble.members[1].head.parameters()).fill_(float("nan"))
    with refused("invalid_output", "found .*nan"):
        model.predict(served.sessions[-1], store)


def test_exposure_beyond_its_limit_is_refused_and_the_result_tells_it(model, store, served):
    result = model.predict(served.sessions[-1], store, previous=dict.fromkeys(SYMBOLS, 0.25))
    gross = sum(abs(w) for w in result.metadata["weights"].values())
    assert result.metadata["gross_exposure"] == pytest.approx(gross)
    model.serving = replace(SERVING, max_gross_exposure=gross * 0.99)
    with refused("exposure_limit", "times capital, found"):
        model.predict(served.sessions[-1], store, previous=dict.fromkeys(SYMBOLS, 0.25))


def test_a_held_position_without_a_volatility_has_no_known_exposure():
    weights, held = np.array([0.1, np.nan]), np.array([0.1, 0.2])
    with refused("exposure_limit", r"found none of B \(0.2\)"):
        guards.refuse_exposure(weights, held, ("A", "B"), date(2020, 8, 3), SERVING)
    assert (
        guards.refuse_exposure(weights, held * [1, 0], ("A", "B"), date(2020, 8, 3), SERVING) == 0.1
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1.5, "0.1", None, True])
def test_a_previous_position_that_is_no_position_is_refused(model, store, served, bad):
    with refused("bad_previous", "previous position of S01"):
        model.predict(served.sessions[-1], store, previous={"S01": bad})


def test_previous_positions_are_numbers_by_symbol(model, store, served):
    day = served.sessions[-1]
    with refused("bad_previous", r"by symbol, found \[0.1\]"):
        model.predict(day, store, previous=[0.1])
    one, other = ({"S01": number(0.125)} for number in (float, np.float32))
    plain, numpy = (model.predict(day, store, previous=held).positions for held in (one, other))
    assert plain == numpy


@pytest.mark.parametrize("kind", [pd.Timestamp, lambda day: datetime(day.year, day.month, day.day)])
def test_a_session_is_a_date_without_time(model, store, served, kind):
    with pytest.raises(InferenceError, match="must be a date without time, found"):
        model.predict(kind(served.sessions[-1]), store)


def test_a_day_without_bars_has_no_answer(model, store, served):
    with refused("no_data", "found none"):
        model.predict(served.sessions[-1] + timedelta(days=20), store)


# -- one asset ---------------------------------------------------------------------------------


def panel(symbols: int = 3, sessions: int = 120):
    frame = synthetic_market(symbols, sessions, seed=2, holidays=False)
    return frame.pivot(index="date", columns="symbol", values="close")


def faults(close: pd.DataFrame, limits: ServingConfig = SERVING, volume=None) -> BarFaults:
    values = close.to_numpy(dtype=float)
    return BarFaults.of(
        pd.DatetimeIndex(close.index), tuple(close.columns), values, daily_volatility(values),
        limits, volume,
    )  # fmt: skip


@pytest.mark.parametrize("factor", [2.0, 0.5, 10.0])
def test_a_split_stands_out_for_as_many_sessions_as_configured(factor):
    close = panel()
    close.iloc[60:, 1] *= factor
    found = ~np.isnat(faults(close, replace(SERVING, outlier_sessions=10)).outlier_day)
    assert np.flatnonzero(found[:, 1]).tolist() == list(range(60, 70))
    assert not found[:, [0, 2]].any()


def test_a_move_that_a_person_found_to_be_real_does_not_stand_out():
    close = panel()
    close.iloc[60:, 1] *= 2.0
    known = f"S01 {close.index[60].date()}"
    assert np.isnat(faults(close, replace(SERVING, accepted_moves=(known,))).outlier_day).all()


@pytest.mark.parametrize("text", ["S01", "S01 tomorrow", " 2020-01-01"])
def test_an_accepted_move_must_name_symbol_and_day(text):
    with pytest.raises(ConfigError, match="accepted_moves"):
        ServingConfig(accepted_moves=(text,))


def test_a_close_that_stands_still_counts_as_frozen_from_the_limit_on_and_not_before():
    close = panel()
    close.iloc[51:60, 0] = close.iloc[50, 0]
    frozen = faults(close, replace(SERVING, max_unchanged_sessions=5)).is_frozen
    assert np.flatnonzero(frozen[:, 0]).tolist() == [55, 56, 57, 58, 59]


def test_a_bar_without_volume_counts_only_where_the_asset_usually_trades():
    close = panel()
    volume = np.full(close.shape, 1000.0)
    volume[:, 1] = 0.0  # never has any
    volume[:, 2] = np.nan  # not told
    volume[80] = [0.0, 0.0, np.nan]
    untraded = faults(close, volume=volume).is_untraded
    assert np.argwhere(untraded).tolist() == [[80, 0]]


def test_a_bar_on_a_day_without_a_session_is_off_calendar():
    close = panel()
    trades = np.ones(close.shape, dtype=bool)
    trades[90, 1] = False
    values = close.to_numpy(dtype=float)
    made = BarFaults.of(
        pd.DatetimeIndex(close.index), SYMBOLS[:3], values, daily_volatility(values), SERVING,
        trades=trades,
    )  # fmt: skip
    assert np.argwhere(made.is_off_calendar).tolist() == [[90, 1]]


def test_faults_of_a_row_know_nothing_of_later_rows():
    close = panel()
    close.iloc[40:, 0] *= 3.0
    early = faults(close.iloc[:70])
    wild = close.copy()
    wild.iloc[70:] = wild.iloc[70:] * -7.0 + 1e6
    late = faults(wild)
    np.testing.assert_array_equal(early.outlier_day, late.outlier_day[:70])
    np.testing.assert_array_equal(early.is_frozen, late.is_frozen[:70])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"coverage": 0.1}, "short_history"),
        ({"coverage": np.nan}, "short_history"),
        ({"sigma": np.nan}, "short_history"),
        ({"sigma": 0.0}, "short_history"),
        ({"clipped": 0.6}, "input_outlier"),
        ({"clipped": np.nan}, "input_outlier"),
        ({}, ""),
    ],
)
def test_what_is_out_of_its_limit_or_unknown_costs_the_position(change, code):
    values = {"coverage": 0.9, "sigma": 0.01, "clipped": 0.1} | change
    nothing = np.zeros((1, 1), dtype=bool)
    clean = BarFaults(np.full((1, 1), np.datetime64("NaT", "D")), nothing, nothing, nothing)
    args = [np.full((1, 1), values[name]) for name in ("coverage", "sigma", "clipped")]
    limits = ServingConfig(min_coverage=0.25, max_clipped_share=0.5)
    assert guards.asset_codes(*args, clean, limits)[0, 0] == code


def test_members_that_disagree_give_no_position_and_what_was_held_is_held(model, store, served):
    day, previous = served.sessions[-1], dict.fromkeys(SYMBOLS, 0.1)
    spread = model.predict(day, store, previous=previous).metadata["disagreement"]
    most = max(spread, key=spread.get)
    model.serving = replace(SERVING, max_disagreement=spread[most] * 0.999)
    result = model.predict(day, store, previous=previous)
    assert result.status[most] == "members_disagree"
    assert most not in result.positions
    assert result.metadata["held"][most] == 0.1
    assert f"{most}: members_disagree" in result.why_no_trade()


# -- for people --------------------------------------------------------------------------------


def test_why_no_trade_says_code_finding_and_what_to_do():
    result = InferenceResult(
        date=date(2020, 8, 3), positions={}, confidences={}, feature_importance={}, raw_output={},
        status={"A": "stale_data", "B": "ok", "C": "stale_data"},
        metadata={"reasons": {"A": "last bar 2020-07-20"}},
    )  # fmt: skip
    told = "A: stale_data (last bar 2020-07-20; look for the missing bars and ingest them)"
    assert result.why_no_trade({"A", "B"}) == told
    assert result.why_no_trade().splitlines()[0] == told
    assert result.why_no_trade().splitlines()[1].startswith("C: stale_data")


def test_every_code_says_what_it_means_and_what_to_do():
    assert all(r.meaning and r.act for r in REASONS.values())
    assert {r.scope for r in REASONS.values()} == {"asset", "session"}


def test_the_runbook_is_the_table_of_codes():
    page = (Path(__file__).parents[3] / "docs" / "runbook.md").read_text("utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.M))
    assert told == {code: f"{r.meaning} | {r.act}" for code, r in REASONS.items()}
