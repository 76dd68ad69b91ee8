"""The lifecycle: its graph, its artifacts, one phase per asset, and a runner without Dagster.

Names are imported on first use: Dagster reads ``graph`` and ``config`` at every start and
must not pay for torch there.
"""

import importlib
from typing import TYPE_CHECKING, Any

_HOME_OF = {
    "Artifact": "artifacts",
    "ArtifactStore": "artifacts",
    "OperationsConfig": "config",
    "StoreConfig": "config",
    "TrainingPipelineConfig": "config",
    "TrainingPipeline": "pipeline",
    "TrainingResult": "pipeline",
    "Workspace": "workspace",
}
__all__ = sorted(_HOME_OF)  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from tft_core.training_pipeline.artifacts import Artifact, ArtifactStore
    from tft_core.training_pipeline.config import (
        OperationsConfig,
        StoreConfig,
        TrainingPipelineConfig,
    )
    from tft_core.training_pipeline.pipeline import TrainingPipeline, TrainingResult
    from tft_core.training_pipeline.workspace import Workspace


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tft_core.training_pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
