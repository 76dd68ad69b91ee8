"""The wheel: everything it needs is inside, and it works where there is no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.tiny_sample import write_tiny_sample_config
from tft_core.training_pipeline.graph import GRAPH

ROOT = Path(__file__).parents[1]
SOURCES = ("tft_core", "tft_assets", "pyproject.toml", "README.md", "LICENSE")
DATA = {
    "tft_core/py.typed",
    "tft_assets/py.typed",
    "tft_core/default_tft.toml",
    "tft_core/data/calendar_overrides.toml",
    "tft_core/data/bundled/NOTICE",
    "tft_core/data/bundled/ecb_eur_rates.parquet",
    "tft_core/data/bundled/eia_wti.parquet",
    "tft_core/data/bundled/wiki_stocks.parquet",
    "tft_core/reports/templates/page.html",
    "tft_core/reports/templates/page.css",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources, so that the checkout gets no build files."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    arguments = ["wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(dist)]
    subprocess.run([sys.executable, "-m", "pip", *arguments, str(source)], check=True, timeout=240)
    (made,) = dist.glob("*.whl")
    return made


def test_every_module_and_every_data_file_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {
        path.relative_to(ROOT).as_posix()
        for package in ("tft_core", "tft_assets")
        for path in (ROOT / package).rglob("*.py")
    }
    data = {
        path.relative_to(ROOT).as_posix()
        for package in ("tft_core", "tft_assets")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert data >= DATA  # the names of this list are those of the tree
    assert modules | data <= names
    assert {n.split("/")[0] for n in names} == {
        "tft_core",
        "tft_assets",
        next(n.split("/")[0] for n in names if ".dist-info/" in n),
    }


def test_the_licences_and_the_entry_points_are_in_the_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(n for n in archive.namelist() if n.endswith("/METADATA")).rpartition("/")[0]
        names = set(archive.namelist())
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert f"{info}/licenses/LICENSE" in names
    assert f"{info}/licenses/tft_core/data/bundled/NOTICE" in names
    assert "tft = tft_core.cli:main" in entry_points
    assert "tft_x_trend = tft_core.strategy_adapter" in entry_points


@pytest.mark.timeout(900)
def test_the_installed_wheel_goes_from_sample_to_checkpoint_and_loads_in_dagster(
    wheel: Path, tmp_path: Path
) -> None:
    site, here = tmp_path / "site", tmp_path / "somewhere"
    here.mkdir()
    arguments = ["install", "--no-deps", "--quiet", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *arguments], check=True, timeout=240)
    # the dependencies are the test environment's, the two packages the wheel's
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TFT_", "DAGSTER_"))}
    environ |= {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(code: str, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=here,
            env=environ | more,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    places = run("import tft_core, tft_assets; print(tft_core.__file__, tft_assets.__file__)")
    assert all(place.startswith(str(site)) for place in places.split())

    tft = "import sys; from tft_core.cli import main; sys.exit(main({arguments!r}))"
    assert "the default configuration" in run(tft.format(arguments=["sample"]))
    assert (here / "tft.toml").read_text() == (ROOT / "tft.toml").read_text()

    tiny = write_tiny_sample_config(tmp_path / "tiny.toml")
    answer = run(
        tft.format(arguments=["run", "--skip-tuning"]),
        TFT_CONFIG=str(tiny),
        TFT_HOME=str(here / "var"),
    )
    assert "out-of-sample Sharpe net" in answer
    assert list((here / "var" / "checkpoints").glob("x_trend/v*/MANIFEST.json"))

    loaded = run(
        "from tft_assets.definitions import defs; "
        "print(len(defs.resolve_asset_graph().get_all_asset_keys()))"
    )
    assert int(loaded) == len(GRAPH) + 1  # and the market store, which is observed
