"""One finished tiny lifecycle, shared by the integration tests."""

import pytest

from tests.support.tiny import load_store, tiny_bars, tiny_settings
from tft_core.training_pipeline import TrainingPipeline


@pytest.fixture(scope="session")
def lifecycle(tmp_path_factory):
    """(pipeline, result) of a full run in a state directory of its own."""
    settings = tiny_settings(tmp_path_factory.mktemp("lifecycle"))
    load_store(settings, tiny_bars())
    pipeline = TrainingPipeline(settings=settings)
    return pipeline, pipeline.run()
