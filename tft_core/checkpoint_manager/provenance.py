"""Where and with what a model was made: library versions and the commit of the code."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("torch", "numpy", "pandas", "duckdb", "safetensors", "TA-Lib", "scipy", "optuna")


def library_versions() -> dict[str, str]:
    """Installed versions of what can change a weight; an absent library is left out."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # optional: a serving machine has no tuner
    return found


def git_commit() -> str | None:
    """Commit of the source tree this code runs from, ``-dirty`` if changed; ``None`` if unknown."""
    here = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
