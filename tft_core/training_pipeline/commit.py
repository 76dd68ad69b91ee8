"""Which commit the code that runs is of, as checkpoints and runs carry it."""

import os
import subprocess
from pathlib import Path

COMMIT_ENV = "TFT_GIT_COMMIT"
HERE = Path(__file__).resolve()


def git_commit() -> str | None:
    """``$TFT_GIT_COMMIT`` (images), else the commit of the checkout that this package lies in.

    ``None`` for an installed wheel, before a checkout's first commit, and where there is no git.
    """
    named = os.environ.get(COMMIT_ENV)
    if named:
        return named
    return ask_git(HERE.parent, "rev-parse", "HEAD") if is_tracked(HERE) else None


def is_tracked(path: Path) -> bool:
    """Whether a file is part of a git repository.

    A wheel that is installed below somebody's own repository is not.
    """
    return ask_git(path.parent, "ls-files", "--error-unmatch", str(path)) is not None


def ask_git(folder: Path, *arguments: str) -> str | None:
    """What git answers in a folder; ``None`` where it refuses, is silent for 20 s, or is absent."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
