"""The fold plan: calendar-anchored walk-forward windows ``train | purge | test``.

Fold keys follow from ``tft.toml`` alone, never from the store, so that Dagster's
partitions are the same on every machine. No data is read here.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd

from tft_core.errors import ConfigError, FoldError
from tft_core.schema import LABEL_LAG_SESSIONS, LIVE_FOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldConfig:
    """Anchor, lengths and number of walk-forward windows."""

    anchor: date = date(2020, 1, 1)
    """First day of the first test window."""
    test_length: str = "24M"
    """Length of each test window: a number and D, B (weekdays), W, M or Y."""
    train_length: str = "expanding"
    """How far back a fold's training rows reach, e.g. ``"48M"``; or ``"expanding"``."""
    n_windows: int = 4
    """Windows that have begun. The last one is running; all before it are complete."""
    purge_sessions: int = 5
    """Sessions left out before validation and before test; at least the label's two."""
    val_fraction: float = 0.2
    """Newest part of the training window, in time and for all assets alike, for validation."""
    min_train_sessions: int = 120
    """A fold with fewer sessions before its purge is an error."""

    def __post_init__(self) -> None:
        if self.n_windows < 2:
            raise ConfigError(
                "folds.n_windows must be at least 2 (one complete, one running), "
                f"found {self.n_windows}"
            )
        if self.purge_sessions < LABEL_LAG_SESSIONS:
            raise ConfigError(
                f"folds.purge_sessions must be at least {LABEL_LAG_SESSIONS}, the label's "
                f"horizon, found {self.purge_sessions}"
            )
        if not 0.05 <= self.val_fraction <= 0.5:
            raise ConfigError(
                f"folds.val_fraction must lie in [0.05, 0.5], found {self.val_fraction:g}"
            )
        if self.min_train_sessions < 20:
            raise ConfigError(
                f"folds.min_train_sessions must be at least 20, found {self.min_train_sessions}"
            )
        shift(self.anchor, self.test_length, 1)
        if self.train_length != "expanding":
            shift(self.anchor, self.train_length, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One walk-forward window. ``live`` has neither test start nor test end."""

    key: str
    train_start: date | None
    """First day that may train; ``None`` means all history."""
    test_start: date | None
    """First test day. Everything made for the fold uses data strictly before it."""
    test_end: date | None
    """Day after the last test day."""

    @property
    def is_live(self) -> bool:
        """True for the fold that trains on everything up to the newest bar."""
        return self.key == LIVE_FOLD


@dataclass(frozen=True, slots=True)
class WalkForward:
    """All folds of a configuration, oldest first, ``live`` last."""

    config: FoldConfig
    folds: tuple[Fold, ...]

    @classmethod
    def from_config(cls, config: FoldConfig) -> "WalkForward":
        """The plan that a configuration means; nothing else decides it."""
        starts = [shift(config.anchor, config.test_length, k) for k in range(config.n_windows + 1)]
        folds = [
            Fold(
                key=start.isoformat(),
                train_start=_train_start(start, config),
                test_start=start,
                test_end=end,
            )
            for start, end in pairwise(starts)
        ]
        # live trains through the newest bar, so a rolling window is counted from the end of
        # the running window's predecessor: its length never depends on the store's last row
        live = Fold(
            key=LIVE_FOLD,
            train_start=_train_start(starts[-2], config),
            test_start=None,
            test_end=None,
        )
        return cls(config, (*folds, live))

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all folds, in their order."""
        return tuple(fold.key for fold in self.folds)

    @property
    def reported_keys(self) -> tuple[str, ...]:
        """Keys of the complete windows: all but the running one and ``live``."""
        return self.keys[:-2]

    def fold(self, key: str) -> Fold:
        """One fold by its key.

        Raises:
            FoldError: The plan has no such key.
        """
        for fold in self.folds:
            if fold.key == key:
                return fold
        raise FoldError(
            f"fold must be one of {', '.join(self.keys)}, found {key!r}; "
            "the folds stand in the [folds] section of tft.toml"
        )

    def upto(self, key: str) -> tuple[str, ...]:
        """Keys of the folds whose feature rows fold ``key`` may train on (its own included)."""
        return self.keys[: self.keys.index(self.fold(key).key) + 1]

    def next_key(self, key: str) -> str:
        """The key whose feature rows are the test window of a numbered fold.

        Raises:
            FoldError: The plan has no such key, or it is ``live``.
        """
        if self.fold(key).is_live:
            raise FoldError("the live fold must not be walked forward: it has no test window")
        return self.keys[self.keys.index(key) + 1]

    def feature_span(self, key: str) -> tuple[date | None, date | None]:
        """``[start, end)`` of the feature rows held by partition ``key``.

        The first partition starts with history; ``live`` ends with the newest bar (``None``).
        """
        fold, position = self.fold(key), self.keys.index(key)
        start = None if position == 0 else self.folds[position - 1].test_start
        return start, fold.test_start

    def fold_of_session(self, session: date) -> Fold:
        """The fold whose test window holds a session: the model a backfill may use.

        Raises:
            FoldError: The session lies before the first window or after the running one.
        """
        for fold in self.folds[:-1]:
            assert fold.test_start is not None and fold.test_end is not None
            if fold.test_start <= session < fold.test_end:
                return fold
        raise FoldError(
            f"session must lie in a walk-forward window ({self.keys[0]} up to before "
            f"{self.folds[-2].test_end}), found {session}; `tft doctor --fix` appends windows"
        )


@dataclass(frozen=True, slots=True)
class SessionSplit:
    """Session positions of one fold: ``fit`` and ``validation`` inside its training window."""

    fit: np.ndarray
    """Positions (int64) into the fold's sessions that bear training loss."""
    validation: np.ndarray
    """Positions after a purge; the newest part of the training window."""
    train: np.ndarray
    """All positions up to the final purge: what the refit uses."""


def split_sessions(sessions: pd.DatetimeIndex, fold: Fold, config: FoldConfig) -> SessionSplit:
    """Split a fold's sessions in time, for all assets alike.

    Args:
        sessions: Sorted session dates, all before the fold's test start.

    As of:
        The newest session given; nothing later is looked at.

    Raises:
        FoldError: A session is at or after the test start, or too few remain.
    """
    if fold.test_start is not None and len(sessions) and sessions[-1].date() >= fold.test_start:
        raise FoldError(
            f"sessions of fold {fold.key} must end before {fold.test_start}, found "
            f"{sessions[-1].date()}"
        )
    first = 0
    if fold.train_start is not None:
        first = int(sessions.searchsorted(pd.Timestamp(fold.train_start)))
    last = len(sessions) - config.purge_sessions
    if last - first < config.min_train_sessions:
        raise FoldError(
            f"fold {fold.key} must have at least {config.min_train_sessions} training sessions "
            f"before its purge, found {max(last - first, 0)}; move folds.anchor later or ingest "
            "more history"
        )
    n_val = max(round((last - first) * config.val_fraction), 1)
    val_start = last - n_val
    return SessionSplit(
        fit=np.arange(first, val_start - config.purge_sessions),
        validation=np.arange(val_start, last),
        train=np.arange(first, last),
    )


def windows_begun(config: FoldConfig, newest: date) -> int:
    """Test windows that have begun by a day: what ``n_windows`` should be when that is the newest.

    0 where the anchor itself lies after the day.
    """
    begun = 0
    while shift(config.anchor, config.test_length, begun) <= newest:
        begun += 1
    return begun


def shift(start: date, length: str, times: int) -> date:
    """``start`` moved by ``times`` lengths such as ``"24M"``, ``"42B"`` or ``"1Y"``.

    Raises:
        ConfigError: The length is not a positive number and a unit.
    """
    number, unit = length[:-1], length[-1:]
    if not number.isdigit() or int(number) < 1 or unit not in ("D", "B", "W", "M", "Y"):
        raise ConfigError(
            "a fold length must be a positive number and one of D, B, W, M, Y, "
            f"found {length!r}; write e.g. '24M' or '42B'"
        )
    count = int(number) * times
    if unit == "B":
        moved = np.busday_offset(np.datetime64(start, "D"), count, roll="forward")
        return moved.astype(date)
    if unit in "DW":
        return start + timedelta(days=count * (7 if unit == "W" else 1))
    months = count * (12 if unit == "Y" else 1)
    return (pd.Timestamp(start) + pd.DateOffset(months=months)).date()


def _train_start(test_start: date, config: FoldConfig) -> date | None:
    if config.train_length == "expanding":
        return None
    return shift(test_start, config.train_length, -1)
