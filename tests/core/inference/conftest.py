"""One small served model and its store, shared by the tests of serving."""

import pytest
from served_support import SERVING, bars

from tests.support.served import Served, serve
from tft_core.data.store import MarketDataStore
from tft_core.inference import TFTInferencePipeline


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Served:
    return serve(
        tmp_path_factory.mktemp("served"),
        bars(),
        n_live=30,
        n_train=70,
        groups=("ret", "paper", "vol", "xs"),
        model={"seq_len": 12, "warmup": 4},
    )


@pytest.fixture
def model(served) -> TFTInferencePipeline:
    return TFTInferencePipeline.from_checkpoint(served.checkpoint, serving=SERVING)


@pytest.fixture
def store(served):
    with MarketDataStore(served.store_path, read_only=True) as opened:
        yield opened
