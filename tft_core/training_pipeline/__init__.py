"""The lifecycle: its graph, its artifacts, one phase per asset, and a runner without Dagster."""

from tft_core.training_pipeline.artifacts import Artifact, ArtifactStore
from tft_core.training_pipeline.config import (
    OperationsConfig,
    TrainingPipelineConfig,
)
from tft_core.training_pipeline.pipeline import TrainingPipeline, TrainingResult
from tft_core.training_pipeline.workspace import Workspace

__all__ = [
    "Artifact",
    "ArtifactStore",
    "OperationsConfig",
    "TrainingPipeline",
    "TrainingPipelineConfig",
    "TrainingResult",
    "Workspace",
]
