"""The same fold, whichever executor runs its steps: trained networks included, to the bit."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.executors import run_folds
from tests.support.tiny import load_store, tiny_bars, tiny_settings
from tft_core.training_pipeline import Workspace
from tft_core.training_pipeline.graph import SPECS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workspace]:
    """The first fold's workspace by executor, each in a state directory of its own."""
    return {
        executor: build(executor, tmp_path_factory.mktemp(executor))
        for executor in ("in_process", "multiprocess")
    }


def build(executor: str, folder: Path) -> Workspace:
    settings, storage = tiny_settings(folder / "state"), folder / "dagster"
    load_store(settings, tiny_bars())
    storage.mkdir()
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", storage)
    workspace = Workspace.open(settings)
    environ = {
        "FAKE_HOME": str(settings.home),
        "FOLDS_LOCATION": "tiny_location",
        "DAGSTER_HOME": str(storage),
        "TFT_EXECUTOR": executor,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    process = run_folds([workspace.plan.keys[0]], environ=os.environ | environ)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors[-4000:]
    return workspace


@pytest.mark.parametrize("asset", [s.name for s in SPECS.values() if s.partitions == "fold"])
def test_steps_in_processes_of_their_own_make_what_one_process_makes(
    built: dict[str, Workspace], asset: str
) -> None:
    key = built["in_process"].plan.keys[0]
    one, several = (built[name].artifacts.read(asset, key) for name in built)
    assert several.content_hash == one.content_hash
    assert built["multiprocess"].is_fresh(asset, key)
