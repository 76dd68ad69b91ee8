"""Predictions: batch and single, attribution, sizing, what a result says."""

import json
import math
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import torch
from served_support import SERVING, SYMBOLS

from tft_core.checkpoint_manager import CheckpointManager
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.inference import InferenceResult, TFTInferencePipeline
from tft_core.models.attribution import TOLERANCE
from tft_core.positions import next_positions


def test_a_batch_equals_its_sessions_one_by_one(model, store, served):
    days = list(served.sessions[-5:])
    batch = model.predict_batch(days, store, explain="all")
    previous = None
    for day, expected in zip(days, batch, strict=True):
        single = model.predict(day, store, previous=previous)
        previous = single.metadata["held"]
        assert single.status == expected.status
        for name in ("positions", "raw_output", "confidences"):
            assert getattr(single, name) == pytest.approx(getattr(expected, name), abs=1e-6)
        for symbol in single.positions:
            got, want = (r.feature_importance[symbol] for r in (single, expected))
            assert got == pytest.approx(want, abs=1e-5)


def test_a_record_s_panel_may_lack_members_that_are_long_gone(model, store, served):
    first, last = served.sessions[-5], served.sessions[-1]
    whole = replace(model.inputs(store, first, last), faults=None)
    kept = [1, 2]
    part = replace(
        whole,
        panel=replace(
            whole.panel,
            values=whole.panel.values[:, kept],
            has_session=whole.panel.has_session[:, kept],
            symbols=tuple(np.array(whole.panel.symbols)[kept]),
        ),
        close=whole.close[:, kept],
        sigma_daily=whole.sigma_daily[:, kept],
    )
    everyone, some = (model.walk(inputs, first, last) for inputs in (whole, part))
    assert len(some.symbols) < len(everyone.symbols)
    assert np.abs(some.positions).max() > 0.0
    np.testing.assert_allclose(some.positions, everyone.positions[:, kept], atol=1e-6)


def test_what_serving_sees_in_volume_and_calendar_counts_in_a_record_too(model, store, served):
    """A night with such a bar holds its position; a record that walks on is not the nights'."""
    first, last = served.sessions[-5], served.sessions[-1]
    whole = replace(model.inputs(store, first, last), faults=None)
    nothing = np.zeros(whole.close.shape, dtype=bool)
    untraded, stray = nothing.copy(), nothing.copy()
    untraded[-2, 0], stray[-2, 1] = True, True
    told = replace(whole, is_untraded=untraded, is_off_calendar=stray)
    clean, made = (model.walk(inputs, first, last) for inputs in (whole, told))
    assert made.codes[-2].tolist() == ["zero_volume", "off_calendar", "", "", ""]
    assert np.isnan(made.raw[-2, :2]).all()
    np.testing.assert_array_equal(made.positions[-2, :2], made.positions[-3, :2])
    assert (clean.positions[-2, :2] != clean.positions[-3, :2]).all()
    # two rows fewer in the batch may be another kernel, which rounds in another order
    np.testing.assert_allclose(made.positions[:, 2:], clean.positions[:, 2:], rtol=0, atol=1e-6)


def test_only_the_sessions_asked_for_are_explained(model, store, served):
    days = list(served.sessions[-3:])
    told = {
        how: [bool(r.feature_importance) for r in model.predict_batch(days, store, explain=how)]
        for how in ("none", "last", "all")
    }
    assert told == {
        "none": [False, False, False],
        "last": [False, False, True],
        "all": [True, True, True],
    }


def test_attributions_add_up_to_the_output_of_that_date_and_asset(model, store, served):
    one, other = model.predict_batch(list(served.sessions[-2:]), store, explain="all")
    for result in (one, other):
        for symbol, raw in result.raw_output.items():
            rest = result.metadata["attribution"][symbol]
            total = rest["start"] + sum(result.feature_importance[symbol].values())
            total += rest["other_features"] - rest["residual"]
            assert total == pytest.approx(raw, abs=1e-5)
            assert abs(rest["residual"]) <= TOLERANCE
    assert one.feature_importance["S00"] != other.feature_importance["S00"]
    assert one.feature_importance["S00"] != one.feature_importance["S01"]


def test_positions_are_those_of_the_sizing_function(model, store, served):
    previous = dict.fromkeys(SYMBOLS, 0.1)
    result = model.predict(served.sessions[-1], store, previous=previous)
    raw = np.array([result.raw_output[s] for s in SYMBOLS])
    expected = next_positions(raw, np.full(len(SYMBOLS), 0.1), model.positions_config)
    assert [result.positions[s] for s in SYMBOLS] == pytest.approx(expected.tolist())
    assert result.metadata["previous"] == "given"


def test_a_weight_is_the_position_scaled_to_the_volatility_target(model, store, served):
    day = served.sessions[-1]
    result = model.predict(day, store)
    closes = store.panel(SYMBOLS, None, day).close
    returns = closes[1:] / closes[:-1] - 1.0
    # σ of EWMA span 60 over the last 252 returns, by its definition
    decay = (1.0 - 2.0 / 61.0) ** np.arange(252)[::-1]
    for column, symbol in enumerate(SYMBOLS):
        window = returns[-252:, column]
        w = decay[-len(window) :] / decay[-len(window) :].sum()
        mean = w @ window
        sigma = math.sqrt((w @ (window - mean) ** 2) / (1.0 - w @ w))
        expected = result.positions[symbol] * 0.15 / math.sqrt(252) / (sigma * len(SYMBOLS))
        assert result.metadata["weights"][symbol] == pytest.approx(expected, rel=0.02)


def test_an_unknown_previous_position_is_stated_and_starts_flat(model, store, served):
    unknown = model.predict(served.sessions[-1], store)
    flat = model.predict(served.sessions[-1], store, previous=dict.fromkeys(SYMBOLS, 0.0))
    assert unknown.positions == flat.positions
    assert (unknown.metadata["previous"], flat.metadata["previous"]) == (
        "unknown: started flat",
        "given",
    )


def test_a_result_survives_json_with_an_unknown_confidence():
    result = InferenceResult(
        date=date(2020, 8, 3), positions={"A": 0.1}, confidences={"A": math.nan},
        feature_importance={}, raw_output={"A": 0.2}, status={"A": "ok"},
    )  # fmt: skip
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert '"confidences": {"A": null}' in text
    back = InferenceResult.from_dict(json.loads(text))
    assert math.isnan(back.confidences["A"])
    assert (back.date, back.positions) == (result.date, result.positions)


def test_a_warm_pipeline_answers_as_a_new_one_does(model, store, served):
    for day in served.sessions[-3:]:
        warm = model.predict(day, store)
        new = TFTInferencePipeline.from_checkpoint(served.checkpoint, serving=SERVING)
        fresh = new.predict(day, store)
        for name in ("positions", "raw_output", "confidences"):
            assert getattr(warm, name) == pytest.approx(getattr(fresh, name), abs=1e-6)
        assert new.builder.cache.n_hits == 0
    assert model.builder.cache.n_hits >= 2 * (model.serving.drift_sessions - 1)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_no_bit_and_torch_has_its_own_back(
    model, store, served, threads
):
    model.serving = replace(SERVING, threads=threads)
    before = torch.get_num_threads()
    result = model.predict(served.sessions[-1], store)
    assert torch.get_num_threads() == before
    model.serving = replace(SERVING, threads=1)
    alone = model.predict(served.sessions[-1], store)
    assert result.metadata["threads"] == threads
    assert result.raw_output == alone.raw_output
    assert result.feature_importance == alone.feature_importance


def test_groups_that_the_model_does_not_read_are_not_built(model, store, served):
    manager = CheckpointManager(served.checkpoint.parent.parent)
    state, metadata = manager.load(served.checkpoint)
    everything = metadata.replace(version=0, universe={**metadata.universe, "features": {}},
                                  catalogue_hash=MegaFeatureBuilder().catalogue_hash())  # fmt: skip
    whole = TFTInferencePipeline.from_checkpoint(manager.save(state, everything), serving=SERVING)
    assert set(whole.builder.groups) == set(model.builder.groups)
    assert len(whole.builder.feature_names) < len(MegaFeatureBuilder().feature_names)
    day = served.sessions[-1]
    assert whole.predict(day, store).positions == model.predict(day, store).positions
