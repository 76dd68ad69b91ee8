import pytest

from tft_core.errors import ConfigError
from tft_core.models.config import XTrendConfig


def test_presets_round_trip_through_a_dictionary() -> None:
    for preset in (XTrendConfig.plan, XTrendConfig.paper, XTrendConfig.smoke):
        config = preset(n_features=8, n_assets=50)
        assert XTrendConfig.from_dict(config.to_dict()) == config


def test_the_paper_preset_holds_the_papers_figures() -> None:
    config = XTrendConfig.paper(n_features=8, n_assets=50)
    assert (config.seq_len, config.warmup, config.n_heads) == (126, 63, 4)
    assert (config.vsn, config.share_vsn, config.context_mode) == ("paper", False, "segment")
    assert config.mle_weight == 1.0
    quantile = XTrendConfig.paper(n_features=8, n_assets=50, loss_mode="joint_quantile")
    assert quantile.mle_weight == 5.0


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
