"""What a run was made with, as its tags: profile, commit of the code, hash of the data."""

import os
from functools import cache
from pathlib import Path

from tft_assets.resources import LifecycleWorkspace
from tft_core.schema import LIVE_FOLD
from tft_core.training_pipeline.commit import COMMIT_ENV, ask_git, is_tracked
from tft_core.training_pipeline.graph import SPECS, UNPARTITIONED_KEY

PROFILE_TAG, COMMIT_TAG, DATA_TAG = "tft/profile", "tft/git_commit", "tft/data_hash"
PACKAGES = ("tft_core", "tft_assets")
HERE = Path(__file__).resolve()
HASH_DIGITS, COMMIT_DIGITS = 16, 12


def code_tags(workspace: LifecycleWorkspace) -> dict[str, str]:
    """Profile and commit: known before a run does anything."""
    return {PROFILE_TAG: workspace.settings.profile, COMMIT_TAG: git_commit()}


def data_tags(workspace: LifecycleWorkspace, asset: str, key: str) -> dict[str, str]:
    """Content hash of the ``market_data`` partition that a lifecycle partition rests on.

    The checkpoint rests on that of `live`. A session rests on no partition: what it was made from
    stands in its artifact.
    """
    if SPECS[asset].partitions == "session":
        return {}
    market = workspace.artifacts.current(
        "market_data", LIVE_FOLD if key == UNPARTITIONED_KEY else key
    )
    return {} if market is None else {DATA_TAG: market.content_hash[:HASH_DIGITS]}


@cache
def git_commit() -> str:
    """Commit of the code that runs: ``$TFT_GIT_COMMIT`` (images), else its checkout's.

    ``+changes`` is added where the packages differ from the commit; ``not a checkout`` is the
    answer for an installed wheel.
    """
    named = os.environ.get(COMMIT_ENV)
    if named:
        return named
    if not is_tracked(HERE):
        return "not a checkout"
    commit = ask_git(HERE.parent, "rev-parse", f"--short={COMMIT_DIGITS}", "HEAD")
    if commit is None:
        return "no commit yet"
    packages = [str(HERE.parents[1] / name) for name in PACKAGES]
    changes = ask_git(HERE.parent, "status", "--porcelain", "--", *packages)
    return f"{commit}+changes" if changes else commit
