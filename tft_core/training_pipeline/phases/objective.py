"""What a study evaluates: one member trained on an inner fold, walked through its test window."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from tft_core.data.universe import Universe
from tft_core.feature_selection import FeatureSelectionConfig
from tft_core.folds import FoldConfig, SessionSplit, split_sessions
from tft_core.hp_tuner import DailyRecord, InnerFold, TunerConfig, inner_folds
from tft_core.positions import PositionConfig, walk_positions
from tft_core.training.config import TrainingConfig
from tft_core.training.walk_forward import train_ensemble
from tft_core.training_pipeline.configured import model_config, search_space
from tft_core.training_pipeline.phases.selection import prefilter_rows, shipped_features
from tft_core.training_pipeline.record import record_path
from tft_core.training_pipeline.rows import (
    FoldData,
    TrainingRows,
    load_training_data,
    split_rows,
)
from tft_core.training_pipeline.workspace import Workspace


@dataclass(frozen=True)
class StudyObjective:
    """Trains on one inner fold and walks its test window: what the tuner evaluates.

    Plain data, so that worker processes can be handed a copy.
    """

    workspace: Workspace
    key: str
    config: TunerConfig

    @cached_property
    def data(self) -> FoldData:
        return load_training_data(self.workspace, self.key)

    @cached_property
    def first_session(self) -> int:
        """Position of the first training session in ``data``."""
        return int(self._split.train[0])

    @cached_property
    def _split(self) -> SessionSplit:
        return split_sessions(
            self.data.dates, self.workspace.plan.fold(self.key), self._fold_config
        )

    @cached_property
    def _fold_config(self) -> FoldConfig:
        return self.workspace.settings.build(FoldConfig, "folds")

    @cached_property
    def universe(self) -> Universe:
        return self.workspace.dated_universe(self.data.panel.symbols)

    @cached_property
    def folds(self) -> list[InnerFold]:
        return inner_folds(
            len(self._split.train),
            n_folds=self.config.n_folds_per_trial,
            test_sessions=self.config.inner_test_sessions,
            purge=self._fold_config.purge_sessions,
            val_fraction=self._fold_config.val_fraction,
        )

    @cached_property
    def _prepared(self) -> dict[int, "PreparedInner"]:
        return {}

    def __call__(self, params: dict[str, Any], inner_fold: int, seed: int) -> DailyRecord:
        if inner_fold not in self._prepared:
            self._prepared[inner_fold] = self.prepare(self.folds[inner_fold])
        return self.evaluate(self._prepared[inner_fold], params, seed)

    def evaluate(self, prepared: "PreparedInner", params: dict[str, Any], seed: int) -> DailyRecord:
        """Train one member on a prepared inner fold and walk its test window."""
        settings, part = self.workspace.settings, prepared.part
        rows = part.rows
        split = search_space(settings).split(params)
        model = model_config(settings, rows.n_features, len(rows.symbols), **split.model)
        training = replace(
            settings.build(TrainingConfig, "training", **split.training),
            pretrain_epochs=self.config.pretrain_epochs,
            finetune_epochs=self.config.finetune_epochs,
        )
        positions_config = settings.build(PositionConfig, "positions", **split.positions)
        fitted = train_ensemble(
            rows,
            part.fit,
            part.validation,
            part.train,
            model,
            training,
            positions=positions_config,
            seeds=(seed,),
            refit=False,
        )
        window = prepared.test_sessions
        end_rows = np.flatnonzero(np.isin(rows.date_index, window) & np.isfinite(rows.sigma))
        raw = rows.to_panel(fitted.ensemble.predict(rows, end_rows).z, end_rows)
        is_member = self.universe.holds(prepared.data.panel.symbols, prepared.data.dates[window])
        positions = walk_positions(raw[window], positions_config, is_member=is_member)
        record = record_path(prepared.data, self.universe, window, positions, positions_config)
        return DailyRecord(record.dates, record.net, fitted.optimiser_steps)

    def prepare(self, fold: InnerFold, features: tuple[str, ...] | None = None) -> "PreparedInner":
        """Scaler and rows of one inner fold, from its own training rows.

        Args:
            features: To train on; default those of the newest report dated before the inner
                test, else the inner fold's own pre-filtered ones.

        As of:
            The inner test start less its purge.
        """
        first, known = self.first_session, self._known(fold)
        split = SessionSplit(
            fit=fold.fit + first, validation=fold.validation + first, train=fold.train + first
        )
        test_sessions = fold.test + first
        chosen = features or self._features(fold)
        part = split_rows(known, split, chosen, stop=int(test_sessions[0]))
        return PreparedInner(known, part, test_sessions)

    def _known(self, fold: InnerFold) -> FoldData:
        """Data up to the end of an inner test."""
        return self.data.until(self.first_session + int(fold.test[-1]) + 1)

    def _features(self, fold: InnerFold) -> tuple[str, ...]:
        dated = self.dated_report(fold)
        if dated is not None and "feature_selection" not in self.workspace.skip:
            return shipped_features(self.workspace, dated)
        return self.prefiltered(fold)

    def dated_report(self, fold: InnerFold) -> str | None:
        """Key of the newest stability report dated before the inner test, if there is one."""
        test_start = self.data.dates[self.first_session + int(fold.test[0])]
        earlier = self.workspace.plan.upto(self.key)[:-1]
        dated = [k for k in earlier if pd.Timestamp(k) <= test_start]
        return dated[-1] if dated else None

    def prefiltered(self, fold: InnerFold) -> tuple[str, ...]:
        """What the pre-filter keeps on the inner fold's own training rows."""
        selection = self.workspace.settings.build(FeatureSelectionConfig, "selection")
        sessions = fold.train + self.first_session
        return prefilter_rows(self._known(fold), sessions, selection).kept


@dataclass(frozen=True, slots=True)
class PreparedInner:
    """One inner fold, ready to train on with any parameters."""

    data: FoldData
    """Up to the last session of the inner test."""
    part: TrainingRows
    """Rows of ``data``; those that bear loss have labels that end before the test."""
    test_sessions: Int64[np.ndarray, " session"]
    """Positions in ``data`` of the inner test's sessions."""
