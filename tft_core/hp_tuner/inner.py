"""Inner walk-forward folds: the newest part of one fold's training window, cut again.

Positions only; no data is read. Scaler and pre-filter are redone by whoever trains on them.
"""

from dataclasses import dataclass

import numpy as np

from tft_core.errors import ConfigError, FoldError
from tft_core.schema import LABEL_LAG_SESSIONS


@dataclass(frozen=True, slots=True)
class InnerFold:
    """Session positions (int64) inside the outer fold's training window."""

    fit: np.ndarray
    validation: np.ndarray
    """Newest part of ``train``, after a purge."""
    train: np.ndarray
    """Everything up to the purge before ``test``."""
    test: np.ndarray


def inner_folds(
    n_sessions: int,
    *,
    n_folds: int,
    test_sessions: int,
    purge: int,
    val_fraction: float = 0.2,
    min_train_sessions: int = 60,
) -> list[InnerFold]:
    """Cut the newest inner folds, oldest first.

    Args:
        n_sessions: Sessions of the outer training window, its final purge already left out,
            so that the last inner label still ends before the outer test.
        n_folds: Non-overlapping test windows that tile the newest part.
        purge: Sessions left out before each validation and test window.
        min_train_sessions: Sessions the oldest inner fold must train on, which keeps every
            test window away from the start of history.

    As of:
        The day before each inner test window, less the purge.

    Raises:
        ConfigError: The purge is shorter than the label.
        FoldError: The training window is too short for so many folds.
    """
    if purge < LABEL_LAG_SESSIONS:
        raise ConfigError(
            f"purge of inner folds must be at least {LABEL_LAG_SESSIONS}, the label's horizon, "
            f"found {purge}"
        )
    first_test = n_sessions - n_folds * test_sessions
    if first_test - purge < min_train_sessions:
        needed = n_folds * test_sessions + purge + min_train_sessions
        raise FoldError(
            f"a training window must hold at least {needed} sessions for {n_folds} inner folds "
            f"of {test_sessions}, found {n_sessions}; lower tuning.n_folds_per_trial or "
            "tuning.inner_test_sessions"
        )
    return [
        _cut(start, test_sessions, purge, val_fraction)
        for start in range(first_test, n_sessions, test_sessions)
    ]


def _cut(test_start: int, test_sessions: int, purge: int, val_fraction: float) -> InnerFold:
    train_end = test_start - purge
    val_start = train_end - max(round(train_end * val_fraction), 1)
    return InnerFold(
        fit=np.arange(0, val_start - purge),
        validation=np.arange(val_start, train_end),
        train=np.arange(0, train_end),
        test=np.arange(test_start, test_start + test_sessions),
    )
