"""The walls between packages, the shape of the project, and what must never be in the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("tft_core/**/*.py"), *ROOT.glob("tft_assets/**/*.py")])


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_imports_go_one_way():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout


def test_every_public_name_of_the_core_can_be_imported():
    import tft_core

    for name in tft_core.__all__:
        assert getattr(tft_core, name).__name__


def test_serving_loads_neither_optuna_nor_training():
    loaded = run_python(
        "import sys\n"
        "from tft_core import TFTInferencePipeline, TFTStrategy, Signal, CheckpointManager\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('optuna', 'dagster') or "
        "m.startswith(('tft_core.training', 'tft_core.hp_tuner'))])"
    )
    assert loaded == "[]"


def test_there_are_292_features():
    code = "from tft_core import MegaFeatureBuilder; print(len(MegaFeatureBuilder().feature_names))"
    assert run_python(code) == "292"


@pytest.mark.parametrize(
    "pattern",
    [
        r"\bTODO\b|\bFIXME\b|NotImplementedError",
        r"except( Exception)?:\s*(pass)?$",
        r"from __future__ import annotations",
    ],
)
def test_no_source_file_holds(pattern):
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found


def test_every_module_says_what_belongs_in_it():
    silent = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.read_text("utf-8").strip() and not path.read_text("utf-8").startswith('"""')
    ]
    assert not silent
