"""Exploration records, checked and laid out: runs × inputs, and folds × inputs.

A record is one row per fold × seed × input (real feature or shadow). This file knows what a
record must hold and how runs are averaged; it decides nothing.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tft_core.errors import SelectionError
from tft_core.feature_selection.chance import shadow_threshold

RUN_COLUMNS = (
    "seed",
    "feature",
    "is_shadow",
    "weight",
    "lift",
    "perm_dposition",
    "perm_dsharpe",
    "ig",
)
"""``weight`` is the input's selection weight on any scale common to the run (0 and more; NaN
for every input of a run whose network gave all of them 0); ``lift`` is relative to an even share;
``perm_*`` are what permuting the input changes on validation rows (mean absolute position;
Sharpe lost); ``ig`` is integrated gradients. All but ``weight`` may be NaN: not measured."""
RECORD_COLUMNS = ("fold", *RUN_COLUMNS)

WEIGHT, PERMUTATION = "weight", "perm_dposition"
"""The two kinds of evidence a selection may rest on."""


def checked_records(records: pd.DataFrame) -> pd.DataFrame:
    """The records with their columns in order and types settled.

    Raises:
        SelectionError: A column is missing, a row repeats, a weight is no share, or a name
            is a feature here and a shadow there.
    """
    missing = [name for name in RECORD_COLUMNS if name not in records.columns]
    if missing:
        raise SelectionError(
            f"exploration records must hold {', '.join(RECORD_COLUMNS)}, found no "
            f"{missing[0]!r}; run the exploration pass again"
        )
    if records.empty:
        raise SelectionError(
            "exploration records must hold at least one run, found none; "
            "run the exploration pass of a fold first"
        )
    frame = records.loc[:, list(RECORD_COLUMNS)].copy()
    frame["fold"] = frame["fold"].astype(str)
    frame["feature"] = frame["feature"].astype(str)
    frame["seed"] = frame["seed"].astype(np.int64)
    frame["is_shadow"] = frame["is_shadow"].astype(bool)
    for name in RECORD_COLUMNS[4:]:
        frame[name] = frame[name].astype(np.float64)
    keys = ["fold", "seed", "feature"]
    if frame.duplicated(keys).any():
        fold, seed, feature = frame.loc[frame.duplicated(keys), keys].iloc[0]
        raise SelectionError(
            f"exploration records must hold each fold, seed and feature once, found "
            f"{fold}, {seed}, {feature!r} twice; drop the older run"
        )
    # 0/0 shares of a network that closed every gate: nothing was used, which is a result
    closed = frame.groupby(["fold", "seed"])["weight"].transform("count") == 0
    frame.loc[closed, "weight"] = 0.0
    weight = frame["weight"].to_numpy()
    if not np.all(np.isfinite(weight) & (weight >= 0.0)):
        row = frame.loc[~(np.isfinite(weight) & (weight >= 0.0))].iloc[0]
        raise SelectionError(
            f"a selection weight must be a share of at least 0, found {row['weight']} for "
            f"{row['feature']!r} in fold {row['fold']}, seed {row['seed']}; that run diverged"
        )
    both = frame.groupby("feature")["is_shadow"].nunique()
    if (both > 1).any():
        raise SelectionError(
            f"an input must be a feature or a shadow throughout, found both for "
            f"{both.index[both > 1][0]!r}; give shadows names of their own"
        )
    return frame.sort_values(keys, kind="stable", ignore_index=True)


@dataclass(frozen=True, slots=True)
class RunMatrices:
    """Checked records as matrices; index of runs is (fold, seed), columns are inputs."""

    records: pd.DataFrame
    features: tuple[str, ...]
    shadows: tuple[str, ...]

    @classmethod
    def from_records(cls, records: pd.DataFrame) -> "RunMatrices":
        """Check the records and tell features from shadows.

        Raises:
            SelectionError: See ``checked_records``.
        """
        checked = checked_records(records)
        is_shadow = checked.groupby("feature")["is_shadow"].first()
        return cls(
            checked,
            tuple(is_shadow.index[~is_shadow]),
            tuple(is_shadow.index[is_shadow]),
        )

    @property
    def folds(self) -> tuple[str, ...]:
        """Keys in the order of their text: dates first, ``live`` last."""
        return tuple(sorted(self.records["fold"].unique()))

    @property
    def n_seeds(self) -> int:
        return int(self.records["seed"].nunique())

    def runs(self, column: str) -> pd.DataFrame:
        """Runs × inputs of one column; NaN where the run did not have the input."""
        return self.records.pivot(index=["fold", "seed"], columns="feature", values=column)

    def relative(self, column: str) -> pd.DataFrame:
        """Runs × inputs in units of the run's mean input: 1 is an even share.

        A run in which every input has 0 gives 0 throughout: nothing was used.
        """
        values = self.runs(column)
        mean = values.mean(axis=1)
        return values.div(mean.where(mean > 0.0, 1.0), axis=0)

    def share_of_features(self) -> pd.DataFrame:
        """Runs × real features: the weight as a share of that of all real features."""
        values = self.runs(WEIGHT)[list(self.features)]
        total = values.sum(axis=1)
        return values.div(total.where(total > 0.0, 1.0), axis=0)


def by_fold(runs: pd.DataFrame) -> pd.DataFrame:
    """Folds × inputs: the mean over a fold's seeds; NaN where the fold lacked the input."""
    return runs.groupby(level="fold").mean()


def votes(values: pd.DataFrame, shadows: tuple[str, ...], quantile: float) -> pd.DataFrame:
    """1.0 where an input beats its row's shadow threshold, 0.0 where not, NaN if missing."""
    block = values[list(shadows)].to_numpy()
    limit = np.array([shadow_threshold(row, quantile) for row in block])
    beats = (values.to_numpy() > limit[:, None]).astype(np.float64)
    return pd.DataFrame(
        np.where(values.notna().to_numpy(), beats, np.nan), values.index, values.columns
    )
