"""The search space: what can be drawn, what is refused, how it becomes settings."""

import itertools
import math

import optuna
import pytest

from tft_core.errors import ConfigError
from tft_core.hp_tuner import PLAN_SPACE, SearchSpace, TunerConfig, tunable_defaults
from tft_core.models.config import XTrendConfig
from tft_core.positions import PositionConfig
from tft_core.training.config import TrainingConfig

DEFAULTS = tunable_defaults(
    XTrendConfig(n_features=5, n_assets=3), TrainingConfig(), PositionConfig()
)


def draws(space: SearchSpace, n: int = 200) -> list[dict]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(n)]


def test_an_empty_table_is_the_plans_space():
    space = SearchSpace.from_table({}, DEFAULTS)
    drawn = draws(space)
    assert set().union(*drawn) == set(PLAN_SPACE)
    for name, values in PLAN_SPACE.items():
        seen = [d[name] for d in drawn if name in d]
        if isinstance(values, list):
            assert set(seen) == set(values)
        else:
            assert values["low"] <= min(seen) < max(seen) <= values["high"]


def test_a_drawn_trial_becomes_three_valid_configurations():
    space = SearchSpace.from_table({}, DEFAULTS)
    for params in draws(space, 100):
        parts = space.split(params)
        XTrendConfig(n_features=5, n_assets=3, **parts.model)
        TrainingConfig(**parts.training)
        PositionConfig(**parts.positions)
        assert set(parts.positions) == {"max_position", "position_smooth"}


def test_seq_len_21_keeps_steps_that_bear_loss():
    parts = SearchSpace.from_table({}, DEFAULTS).split({"seq_len": 21})
    assert parts.model == {"seq_len": 21, "warmup": 10}


def test_time_equivalent_contexts_follow_the_drawn_window():
    model = XTrendConfig(
        n_features=5, n_assets=3, context_mode="time", context_pool=20, n_context=16
    )
    defaults = tunable_defaults(model, TrainingConfig(), PositionConfig())
    parts = SearchSpace.from_table({}, defaults).split({"seq_len": 63, "n_context": 32})
    assert (parts.model["ctx_len"], parts.model["context_pool"]) == (63, 32)


def test_a_rival_is_tuned_on_the_parts_it_has():
    def tuned(**changes):
        model = XTrendConfig(n_features=5, n_assets=3, **changes)
        defaults = tunable_defaults(model, TrainingConfig(), PositionConfig())
        table = {**PLAN_SPACE, "vsn_penalty": [0.5, 4.0], "vsn_hidden": [4, 8]}
        return SearchSpace.from_table(table, defaults), set(table)

    space, everything = tuned(context_mode="none", vsn="none")
    assert set(space.dimensions) == everything - {"n_context", "vsn_penalty", "vsn_hidden"}
    linear = {"architecture": "linear", "context_mode": "none", "vsn": "none"}
    space, _ = tuned(**linear)
    assert set(space.dimensions) == {
        "seq_len", "lr", "batch_size", "max_position", "position_smooth"
    }  # fmt: skip
    for params in draws(space, 20):
        XTrendConfig(n_features=5, n_assets=3, **linear, **space.split(params).model)


def test_the_papers_selection_network_is_as_wide_as_a_drawn_network():
    model = XTrendConfig.paper(n_features=8, n_assets=50)
    space = SearchSpace.from_table(
        {"d_hidden": [64, 128]}, tunable_defaults(model, TrainingConfig(), PositionConfig())
    )
    assert space.split({"d_hidden": 128}).model["vsn_hidden"] == 128
    plan = SearchSpace.from_table({"d_hidden": [64, 128]}, DEFAULTS)
    assert "vsn_hidden" not in plan.split({"d_hidden": 128}).model


def test_the_likelihoods_weight_exists_only_where_the_loss_has_it():
    for params in draws(SearchSpace.from_table({}, DEFAULTS)):
        assert ("mle_weight" in params) == (params["loss_mode"] == "joint_mle")


def test_a_weight_without_any_loss_that_has_it_is_no_dimension():
    table = {"lr": [1e-3, 2e-3], "mle_weight": {"low": 0.01, "high": 0.2}}
    assert set(SearchSpace.from_table(table, DEFAULTS).dimensions) == {"lr"}


def test_heads_that_do_not_divide_the_hidden_size_cannot_be_drawn():
    sizes, heads = [8, 12, 16, 64], [1, 3, 4, 8]
    space = SearchSpace.from_table({"d_hidden": sizes, "n_heads": heads}, DEFAULTS)
    drawn = {(p["d_hidden"], p["n_heads"]) for p in draws(space, 400)}
    assert drawn == {(d, h) for d, h in itertools.product(sizes, heads) if d % h == 0}


def test_hidden_sizes_that_the_fixed_heads_do_not_divide_cannot_be_drawn():
    space = SearchSpace.from_table({"d_hidden": [6, 8, 10, 12]}, DEFAULTS)  # 4 heads by default
    assert {p["d_hidden"] for p in draws(space)} == {8, 12, 64}


def test_a_default_outside_the_table_belongs_to_the_space():
    table = {"d_hidden": [8, 16], "dropout": {"low": 0.2, "high": 0.3}}
    space = SearchSpace.from_table(table, DEFAULTS)
    assert space.to_dict()["dimensions"] == {
        "d_hidden": [8, 16, 64],
        "dropout": {"low": 0.1, "high": 0.3, "log": False},
    }
    assert space.default_params() == {"d_hidden": 64, "dropout": 0.1}


def test_burn_in_is_the_longest_window_of_the_space():
    assert SearchSpace.from_table({}, DEFAULTS).max_seq_len == 63
    assert SearchSpace.from_table({"lr": [1e-3]}, DEFAULTS).max_seq_len == 42


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"learning_rate": [1e-3]}, "found 'learning_rate'"),
        ({"d_hidden": {"low": 8, "high": 64}}, "must be a list of int values, found a range"),
        ({"lr": {"low": 1e-3}}, "a table of low, high and log"),
        ({"lr": {"low": 2e-3, "high": 1e-3}}, "found low 0.002, high 0.001"),
        ({"lr": {"low": 0.0, "high": 1e-3, "log": True}}, "low > 0 for a log scale"),
        ({"n_heads": [2, "4"]}, r"different int values, found \[2, '4'\]"),
        ({"n_heads": []}, r"found \[\]"),
        ({"n_heads": [2, 2]}, r"found \[2, 2\]"),
    ],
)
def test_a_malformed_space_is_refused(table, message):
    with pytest.raises(ConfigError, match=message):
        SearchSpace.from_table(table, DEFAULTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_trials": 0}, "n_trials must be at least 1, found 0"),
        ({"timeout_seconds": 0.0}, "timeout_seconds must be positive, found 0"),
        ({"n_jobs": 3, "n_trials": 2}, r"must not exceed n_trials \(2\), found 3"),
        ({"inner_test_sessions": 5}, "inner_test_sessions must be at least 10, found 5"),
        ({"n_trials": 2.5}, "n_trials must be a whole number or inf, found 2.5"),
        ({"n_trials": math.inf, "timeout_seconds": None}, "a study must have a limit, found neith"),
    ],
)
def test_impossible_budgets_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        TunerConfig(**changes)


def test_no_time_limit_can_be_written_in_code_and_in_toml():
    assert TunerConfig(timeout_seconds=None).time_limit == float("inf")
    assert TunerConfig(timeout_seconds=float("inf")).time_limit == float("inf")
