"""Starts ``tests/assets/run_folds.py``, the program that runs folds under an executor."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "assets"


def run_folds(
    keys: Sequence[str], *arguments: str, environ: Mapping[str, str]
) -> subprocess.Popen[str]:
    """The running program; what ``environ`` names replaces what this process has."""
    return subprocess.Popen(
        [sys.executable, str(FOLDER / "run_folds.py"), *keys, *arguments],
        cwd=FOLDER,
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
