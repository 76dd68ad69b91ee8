from dataclasses import replace
from pathlib import Path

import pytest

from tft_core.config import load_settings
from tft_core.errors import ConfigError
from tft_core.folds import FoldConfig
from tft_core.hp_tuner.config import TunerConfig
from tft_core.models.config import XTrendConfig
from tft_core.training.config import TrainingConfig

ROOT = Path(__file__).parents[3]


def test_presets_round_trip_through_a_dictionary() -> None:
    for preset in (XTrendConfig.plan, XTrendConfig.paper, XTrendConfig.smoke):
        config = preset(n_features=8, n_assets=50)
        assert XTrendConfig.from_dict(config.to_dict()) == config


PUBLISHED = {
    "n_features": 8,  # |X| = 8, eq. 5–6
    "n_assets": 50,  # Tables 5–6
    "architecture": "x_trend",
    "d_hidden": 64,  # Table 4: {64, 128}
    "n_heads": 4,  # Table 3
    "lstm_layers": 1,  # eq. 14: one LSTM
    "dropout": 0.3,  # Table 4: {0.3, 0.4, 0.5}
    "seq_len": 126,  # Table 3: l_t
    "warmup": 63,  # Table 3: l_s
    "ctx_len": 21,  # Table 1: l_c of the best X-Trend
    "n_context": 20,  # Table 1: C of the best X-Trend
    "context_mode": "segment",  # Table 1: C of the best X-Trend
    "vsn": "paper",  # eq. 13
    "vsn_hidden": 64,  # eq. 13: FFN_j is as wide as the network
    "share_vsn": False,  # eq. 15–16: separate encoders
    "entity_dropout": 0.0,
    "target_embedding": True,  # few-shot
    "loss_mode": "sharpe",  # eq. 8
    "mle_weight": 1.0,  # §3.4: α of the joint Gaussian loss
}
"""What Tables 1, 3 and 4 and the equations say, field by field."""
OURS = {
    "context_pool": 0,  # contexts of a minibatch are drawn from a pool that its targets share
    "causal_contexts": True,  # footnote 4 of the paper is the option
    # of the identified form, which the preset does not have
    "vsn_penalty": 2.0,
    "vsn_dropout": 0.5,
}


def test_every_field_of_the_paper_preset_is_published_or_listed_as_ours() -> None:
    config = XTrendConfig.paper(n_features=8, n_assets=50)
    assert config.to_dict() == PUBLISHED | OURS


def test_the_paper_preset_follows_the_loss_and_the_width() -> None:
    quantile = XTrendConfig.paper(n_features=8, n_assets=50, loss_mode="joint_quantile")
    assert quantile.mle_weight == 5.0
    gaussian = XTrendConfig.paper(n_features=8, n_assets=50, loss_mode="joint_mle")
    assert gaussian.mle_weight == 1.0
    assert XTrendConfig.paper(n_features=8, n_assets=50, d_hidden=128).vsn_hidden == 128


def test_the_paper_profile_is_the_paper_preset_and_tables_3_and_4() -> None:
    settings = load_settings(ROOT / "tft.toml", profile="paper")
    model = settings.build(XTrendConfig, "model", n_features=8, n_assets=50)
    preset = XTrendConfig.paper(n_features=8, n_assets=50)
    assert replace(model, vsn_penalty=preset.vsn_penalty) == preset  # unused in the form
    training = settings.build(TrainingConfig, "training")
    assert (training.lr, training.weight_decay) == (1e-3, 0.0)  # Adam is AdamW without decay
    assert (training.finetune_epochs, training.patience, training.n_seeds) == (100, 10, 10)
    assert training.pretrain_epochs == 0
    assert training.batch_size in (64, 128)
    assert training.grad_clip in (1e-2, 1.0, 1e2)
    assert settings.build(FoldConfig, "folds").val_fraction == 0.1
    tuning = settings.build(TunerConfig, "tuning")
    assert tuning.n_trials == 10
    assert dict(tuning.space) == {
        "dropout": [0.3, 0.4, 0.5], "d_hidden": [64, 128], "batch_size": [64, 128]
    }  # fmt: skip


PLANNED = {
    "d_hidden": 64, "n_heads": 4, "lstm_layers": 2, "dropout": 0.1, "seq_len": 42, "ctx_len": 42,
    "n_context": 16, "loss_mode": "sharpe", "mle_weight": 0.1,
}  # fmt: skip


def test_the_plan_preset_holds_the_plans_figures() -> None:
    plan = XTrendConfig.plan(n_features=80, n_assets=4)
    assert plan == XTrendConfig(n_features=80, n_assets=4)
    found = plan.to_dict()
    assert {name: found[name] for name in PLANNED} == PLANNED


def test_the_smoke_preset_has_every_part_at_the_smallest_size() -> None:
    smoke, plan = (
        preset(n_features=5, n_assets=3) for preset in (XTrendConfig.smoke, XTrendConfig.plan)
    )
    assert smoke.uses_context and smoke.warmup > 0
    for size in ("d_hidden", "seq_len", "ctx_len", "n_context", "vsn_hidden", "lstm_layers"):
        assert getattr(smoke, size) <= getattr(plan, size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_hidden": 10, "n_heads": 4}, "multiple of n_heads"),
        ({"warmup": 42}, r"warmup must lie in \[0, seq_len=42\), found 42"),
        ({"vsn": "softmax"}, "one of identified, paper, tft, none, found 'softmax'"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), found 1.0"),
        ({"n_context": 0}, 'use context_mode "none", found 0'),
        ({"context_mode": "time", "ctx_len": 21}, r"must equal seq_len \(42\).*found 21"),
        ({"context_pool": 3}, r"0 or at least n_context \(16\), found 3"),
        ({"n_features": 0}, "n_features must be at least 1, found 0"),
    ],
)
def test_an_impossible_configuration_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        XTrendConfig(**{"n_features": 5, "n_assets": 3, **change})


def test_a_stored_configuration_of_another_version_is_refused() -> None:
    stored = XTrendConfig.smoke(n_features=5, n_assets=3).to_dict()
    with pytest.raises(ConfigError, match="found a difference in gate"):
        XTrendConfig.from_dict({**stored, "gate": 1})
