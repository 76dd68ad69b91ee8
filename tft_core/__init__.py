"""The science of the TFT/X-Trend lifecycle: market data to signals, without Dagster.

Names are imported on first use, so that serving loads neither Optuna nor training.
"""

import importlib
from typing import TYPE_CHECKING, Any

_HOME_OF = {
    "MarketDataStore": "tft_core.data.store",
    "MegaFeatureBuilder": "tft_core.features.builder",
    "FeatureSelector": "tft_core.feature_selection",
    "FeatureSelectionConfig": "tft_core.feature_selection",
    "StabilityReport": "tft_core.feature_selection",
    "FoldConfig": "tft_core.folds",
    "WalkForward": "tft_core.folds",
    "XTrendConfig": "tft_core.models.config",
    "XTrendBackbone": "tft_core.models.backbone",
    "TrainingPipeline": "tft_core.training_pipeline",
    "TrainingPipelineConfig": "tft_core.training_pipeline",
    "TrainingResult": "tft_core.training_pipeline",
    "HPTuner": "tft_core.hp_tuner",
    "TunerConfig": "tft_core.hp_tuner",
    "TuningResult": "tft_core.hp_tuner",
    "CheckpointManager": "tft_core.checkpoint_manager",
    "CheckpointMetadata": "tft_core.checkpoint_manager",
    "TFTInferencePipeline": "tft_core.inference",
    "InferenceResult": "tft_core.inference",
    "TFTStrategy": "tft_core.strategy_adapter",
    "create_strategy": "tft_core.strategy_adapter",
    "BaseStrategy": "tft_core.strategy",
    "Signal": "tft_core.strategy",
    "StrategyRegistry": "tft_core.strategy",
    "Orchestrator": "tft_core.strategy",
}

__all__ = sorted(_HOME_OF)  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from tft_core.checkpoint_manager import CheckpointManager, CheckpointMetadata
    from tft_core.data.store import MarketDataStore
    from tft_core.feature_selection import FeatureSelectionConfig, FeatureSelector, StabilityReport
    from tft_core.features.builder import MegaFeatureBuilder
    from tft_core.folds import FoldConfig, WalkForward
    from tft_core.hp_tuner import HPTuner, TunerConfig, TuningResult
    from tft_core.inference import InferenceResult, TFTInferencePipeline
    from tft_core.models.backbone import XTrendBackbone
    from tft_core.models.config import XTrendConfig
    from tft_core.strategy import BaseStrategy, Orchestrator, Signal, StrategyRegistry
    from tft_core.strategy_adapter import TFTStrategy, create_strategy
    from tft_core.training_pipeline import (
        TrainingPipeline,
        TrainingPipelineConfig,
        TrainingResult,
    )


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tft_core' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
