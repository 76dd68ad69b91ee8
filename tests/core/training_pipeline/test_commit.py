"""The commit that checkpoints carry: of the image, of the checkout, or none, and never a crash."""

import subprocess
from pathlib import Path

import pytest

from tft_core.training_pipeline import commit


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module as a file of a new repository, not yet committed."""
    monkeypatch.delenv("TFT_GIT_COMMIT", raising=False)
    path = tmp_path / "commit.py"
    path.write_text("one")
    monkeypatch.setattr(commit, "HERE", path)
    git(tmp_path, "init", "-q")
    return path


def test_an_image_names_its_commit(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFT_GIT_COMMIT", "0123abc")
    assert commit.git_commit() == "0123abc"


def test_a_checkout_s_commit_is_that_of_its_head(code: Path) -> None:
    git(code.parent, "add", "-A")
    assert commit.git_commit() is None  # nothing is committed yet
    git(code.parent, "commit", "-qm", "one")
    assert commit.git_commit() == git(code.parent, "rev-parse", "HEAD")


def test_a_wheel_below_somebody_s_repository_does_not_carry_their_commit(code: Path) -> None:
    (code.parent / "theirs.txt").write_text("something else")
    git(code.parent, "add", "theirs.txt")
    git(code.parent, "commit", "-qm", "theirs")
    assert commit.git_commit() is None


def test_a_machine_without_git_has_no_commit_and_does_not_fail(
    code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(code.parent, "add", "-A")
    git(code.parent, "commit", "-qm", "one")
    monkeypatch.setenv("PATH", str(code.parent))
    assert commit.git_commit() is None
