import json
import math
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.metadata_fuzz import FIELDS, JSON_VALUES, check_bytes, check_value, edited_texts
from tests.support.checkpoints import metadata
from tft_core.checkpoint_manager import CheckpointMetadata
from tft_core.errors import CheckpointError


def test_json_gives_the_same_metadata_back():
    meta = metadata(
        sharpe_oos=np.float64(0.1 + 0.2),
        feature_quantiles={"ret_1": [-1.0, None, 2.0], "vol_21": [0.0], "flat": [None] * 3},
        training_info={"best": np.arange(3), "when": date(2020, 1, 2), "n": np.int64(4)},
    )
    again = CheckpointMetadata.from_json(meta.to_json())
    assert again == meta
    assert again.sharpe_oos == 0.30000000000000004
    assert again.training_info == {"best": [0, 1, 2], "when": "2020-01-02", "n": 4}


def test_a_change_of_the_callers_dict_does_not_reach_the_metadata():
    config = {"d_hidden": 8, "inner": {"list": [1]}}
    meta = metadata(config=config)
    config["inner"]["list"].append(2)
    meta.to_dict()["config"]["inner"]["list"].append(3)
    assert meta.config == {"d_hidden": 8, "inner": {"list": [1]}}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sharpe_oos", math.nan, "sharpe_oos must be a finite number or None, found nan"),
        ("sharpe_oos", "0.4", "sharpe_oos must be a finite number or None, found '0.4'"),
        ("total_return_oos", math.inf, "total_return_oos must be a finite number"),
        ("max_drawdown_oos", True, "max_drawdown_oos must be a finite number or None, found True"),
        ("version", -1, "version must be a whole number from 0"),
        ("version", True, "version must be a whole number"),
        ("model_type", "../evil", "model_type must be lower-case letters"),
        ("feature_names", ("a", "a", "b"), "feature_names must not repeat a name, found 'a' twice"),
        ("feature_names", (), "feature_names must hold at least one name"),
        ("n_features", 4, "n_features must be the number of names, 3, found 4"),
        ("n_assets", 0, "n_assets must be a whole number from 1"),
        ("config", {"n_features": 7}, "config.n_features must be 3, found 7"),
        ("config", {"a": {"b": [1.0, math.nan]}}, r"config.a.b\[1\] must be finite, found nan"),
        ("config", {1: 2}, "config must have text keys, found 1"),
        ("config", {"f": object()}, "config.f must be plain data, found object"),
        ("config", [1], "config must be a table"),
        (
            "feature_quantiles",
            {"ret_1": ["0"]},
            "feature_quantiles.ret_1 must be a list",
        ),
        ("config", {"big": 2**70}, "config.big must fit 64 bits"),
        ("config", {"text": "\ud800"}, "config.text must be valid Unicode"),
        ("normalization", {"mean": [0.0], "std": [1.0], "clip": 5.0}, "mean must hold 3 numbers"),
        (
            "normalization",
            {"mean": [0.0] * 3, "std": [1.0, 0.0, 1.0], "clip": 5.0},
            r"normalization.std\[1\] must be above 0, found 0.0",
        ),
        (
            "normalization",
            {"mean": [0.0] * 3, "std": [1.0] * 3, "clip": None},
            "normalization.clip must be above 0, found None",
        ),
        ("path", "best", "path must be one of tuned, default, found 'best'"),
        ("trained_through", "2020-6-30", "trained_through must be an ISO date"),
        ("created_at", "2020-06-30T10:00:00", "created_at must be an ISO time with a zone"),
        ("created_at", "0001-01-01T00:00:00+23:59", "ISO time with a zone, from 1970 on"),
        ("created_at", "1969-12-31T23:59:59+00:00", "ISO time with a zone, from 1970 on"),
        ("created_at", 20200630, "created_at must be an ISO time with a zone"),
        ("version", 1_000_000_000, "version must be a whole number from 0 to 999999999"),
        ("seeds", (1,) * 1001, "seeds must be a list of 1 to 1000 seeds, found tuple of 1001"),
        ("seeds", (), "seeds must be a list of 1 to 1000 seeds"),
        ("threads", 0, "threads must be a whole number from 1"),
        ("gate", {"verdict": "fine"}, "gate must hold a boolean 'passed'"),
        ("library_versions", {"torch": 2}, "library_versions.torch must be a text"),
        ("feature_quantiles", {"ret_1": [0, 1]}, "must hold every feature .* found no vol_21"),
        (
            "feature_quantiles",
            {"ret_1": [1, 0], "vol_21": [0, 1], "flat": [0, 1]},
            "feature_quantiles.ret_1 must ascend",
        ),
        ("schema_version", 1, "schema_version must be 2, found 1"),
        ("data_hash", "", "data_hash must be a text"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_field(field, value, message):
    table = {**metadata().to_dict(), field: value}
    with pytest.raises(CheckpointError, match=message):
        CheckpointMetadata.from_dict(table)


def test_all_bad_fields_are_named_at_once():
    with pytest.raises(CheckpointError, match=r"version .* seeds .* threads"):
        metadata(version=-1, seeds=(), threads=0)


def test_missing_and_unknown_keys_are_listed_at_once():
    table = json.loads(metadata().to_json())
    del table["seeds"], table["config"]
    table.update(evil=1, extra=2, schema_version=3)
    wrong = r"schema 2, found no config, seeds and unknown evil, extra \(it says schema 3\)"
    with pytest.raises(CheckpointError, match=wrong):
        CheckpointMetadata.from_json(json.dumps(table))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nest at most"),
        ('{"a":' * 30 + "1" + "}" * 30, "nest at most 24 deep"),
        ('{"version": 1, "version": 2}', "keys must be unique, found 'version' twice"),
        ('{"sharpe_oos": NaN}', "must be finite, found NaN"),
        ('{"sharpe_oos": 1e999}', "must be finite, found inf"),
        ('{"version": ' + "9" * 4000 + "}", "must fit 64 bits"),
        ('{"version": ' + "9" * 5000 + "}", "well formed"),
        ('{"model_type": "\\ud800"}', "lone surrogate"),
        ("{", "well formed"),
        ("", "well formed"),
        ("[1]", "must be a JSON object, found list"),
        (b"\xff\xfe{}", "well formed"),
        (b" " * (2 * 1024 * 1024 + 1), "at most 2097152 bytes"),
    ],
)
def test_hostile_json_is_refused(text, message):
    with pytest.raises(CheckpointError, match=message):
        CheckpointMetadata.from_json(text)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FIELDS), JSON_VALUES)
def test_any_value_in_any_field_is_taken_or_refused_by_name(name, value):
    assert check_value(name, value) in ("taken", "refused")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | edited_texts())
def test_any_bytes_give_metadata_or_a_typed_error(data):
    assert check_bytes(data) in ("taken", "refused")
