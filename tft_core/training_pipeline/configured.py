"""Networks and searches as the settings describe them, for the features and assets of a fold, and
the look at all sections before hours of work begin."""

from typing import Any

from tft_core.checks.gate import GateConfig
from tft_core.config import Settings
from tft_core.data.universe import UniverseConfig
from tft_core.feature_selection import FeatureSelectionConfig
from tft_core.features.builder import FeatureConfig
from tft_core.folds import FoldConfig
from tft_core.hp_tuner import SearchSpace, TunerConfig, tunable_defaults
from tft_core.inference import ServingConfig
from tft_core.models.config import XTrendConfig
from tft_core.positions import CostConfig, PositionConfig
from tft_core.training.config import TrainingConfig
from tft_core.training.exploration import ExplorationConfig
from tft_core.training_pipeline.config import OperationsConfig, StoreConfig

SECTIONS: tuple[tuple[type, str], ...] = (
    (StoreConfig, "store"),
    (UniverseConfig, "universe"),
    (FoldConfig, "folds"),
    (FeatureConfig, "features"),
    (CostConfig, "costs"),
    (FeatureSelectionConfig, "selection"),
    (ExplorationConfig, "exploration"),
    (GateConfig, "gate"),
    (ServingConfig, "serving"),
    (OperationsConfig, "operations"),
)
"""Sections of a lifecycle beside those that ``search_space`` reads."""


def model_config(
    settings: Settings, n_features: int, n_assets: int, **overrides: Any
) -> XTrendConfig:
    """The configured network for this many features and assets.

    Args:
        overrides: Settings of section ``[model]`` in place of the configured ones.
    """
    return settings.build(
        XTrendConfig, "model", n_features=n_features, n_assets=n_assets, **overrides
    )


def default_values(settings: Settings) -> dict[str, Any]:
    """Every tunable setting as configured: the default configuration."""
    return tunable_defaults(
        model_config(settings, n_features=1, n_assets=1),
        settings.build(TrainingConfig, "training"),
        settings.build(PositionConfig, "positions"),
    )


def search_space(settings: Settings) -> SearchSpace:
    """The configured search space, the default configuration a member of it."""
    config = settings.build(TunerConfig, "tuning")
    return SearchSpace.from_table(config.space, default_values(settings))


def default_params(settings: Settings) -> dict[str, Any]:
    """The default configuration as a trial of the configured space would draw it."""
    return search_space(settings).default_params()


def require_usable(settings: Settings) -> None:
    """Read every section of the settings once, the last phase's too.

    Raises:
        ConfigError: One cannot be used; told now, not by the phase that reads it after hours.
    """
    for kind, section in SECTIONS:
        settings.build(kind, section)
    search_space(settings)
