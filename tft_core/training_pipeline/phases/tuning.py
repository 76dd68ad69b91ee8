"""Phase ``optuna_study``: tune on the newest inner folds of a fold's training window."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from tft_core.config import Settings
from tft_core.data.universe import Universe
from tft_core.evidence import EvidenceLedger, search_evidence
from tft_core.feature_selection import FeatureSelectionConfig
from tft_core.features.normalization import Scaler
from tft_core.folds import FoldConfig, split_sessions
from tft_core.hp_tuner import (
    DailyRecord,
    HPTuner,
    InnerFold,
    SearchSpace,
    TunerConfig,
    finished_trials,
    importances,
    inner_folds,
    tunable_defaults,
)
from tft_core.models.config import XTrendConfig
from tft_core.positions import PositionConfig, walk_positions
from tft_core.reports.html import study_page
from tft_core.reports.study_plots import history_png, importances_png, parallel_png
from tft_core.schema import MODEL_TYPE, finite_or_none
from tft_core.sequences import RowTable
from tft_core.training.config import TrainingConfig
from tft_core.training.walk_forward import train_ensemble
from tft_core.training_pipeline.artifacts import Draft
from tft_core.training_pipeline.graph import SPECS, study_key
from tft_core.training_pipeline.phases.selection import prefilter_rows, shipped_features
from tft_core.training_pipeline.record import record_path
from tft_core.training_pipeline.rows import FoldData, load_training_data
from tft_core.training_pipeline.workspace import Progress, Workspace


def optuna_study(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """The fold's study, or a pointer to the earlier study that the fold uses."""
    used = study_key(key, workspace.plan, workspace.retune_every)
    if used != key:
        draft.write_json("study.json", {"study": used})
        draft.summary.update(study=used, is_pointer=True)
        return
    default = default_params(workspace)
    if "tuning" in workspace.skip:
        draft.write_json(
            "study.json",
            {"study": key, "skipped": True, "best_params": default, "default_params": default},
        )
        draft.summary.update(study=key, skipped=True)
        return
    settings = workspace.settings
    config = settings.build(TunerConfig, "tuning", **overrides)
    count_trials(settings)
    tuner = HPTuner(
        config,
        partial(StudyObjective, workspace, key, config),
        settings.studies_url,
        f"{MODEL_TYPE}-{key}",
        defaults=default_values(workspace),
        identity=study_identity(workspace, key),
    )
    result = tuner.tune(
        lambda number, total, value, best: progress(
            f"optuna_study {key}: trial {number + 1}{'' if total == np.inf else f' of {total}'}, "
            f"objective {value:.2f}, best {best:.2f}"
        )
    )
    count_trials(settings)
    daily = result.daily.rename(columns=str)
    study = {
        "study": key,
        **_without_times(result.to_dict()),
        "importances": [asdict(i) for i in importances(result.trials, tuner.space)],
        "evidence": search_evidence(daily, str(result.best_number)).to_dict(),
    }
    draft.write_json("study.json", study)
    draft.write_frame("table_trials.parquet", result.trials.drop(columns=["seconds", "attempts"]))
    draft.write_frame("daily.parquet", daily.reset_index())
    draft.write_text("study.html", study_page(study, f"Study of fold {key}"))
    draft.write_bytes("history.png", history_png(result.trials))
    draft.write_bytes("importances.png", importances_png(study["importances"]))
    draft.write_bytes("parallel.png", parallel_png(result.trials, result.best_number))
    draft.summary.update(
        study=key,
        is_pointer=False,
        best_value=finite_or_none(result.best_value),
        default_value=finite_or_none(result.default_value),
        deflated_sharpe=study["evidence"]["deflation"]["deflated"],
        overfitting_probability=study["evidence"]["overfitting"]["probability"],
        n_finished=result.n_finished,
        n_pruned=result.n_pruned,
        budget=result.budget.sentence,
        best_params=str(result.best_params),
        seconds=round(float(result.trials["seconds"].sum()), 1),
        optimiser_steps=int(result.trials["optimiser_steps"].sum()),
    )


def count_trials(settings: Settings) -> EvidenceLedger:
    """The ledger, with every finished trial of the study database counted.

    All studies, also those that were killed or left behind when space or data changed.
    """
    ledger = EvidenceLedger.under(settings.home)
    for name, trials in finished_trials(settings.studies_url, f"{MODEL_TYPE}-").items():
        ledger.record_trials(name, trials)
    return ledger


def _without_times(study: dict[str, Any]) -> dict[str, Any]:
    """The study without wall times, which differ between two runs of the same search."""
    trials = [
        {k: v for k, v in row.items() if k not in ("seconds", "attempts")}
        for row in study["trials"]
    ]
    return {**{k: v for k, v in study.items() if k != "seconds"}, "trials": trials}


def default_values(workspace: Workspace) -> dict[str, Any]:
    """Every tunable setting as configured: the default configuration."""
    settings = workspace.settings
    return tunable_defaults(
        settings.build(XTrendConfig, "model", n_features=1, n_assets=1),
        settings.build(TrainingConfig, "training"),
        settings.build(PositionConfig, "positions"),
    )


def default_params(workspace: Workspace) -> dict[str, Any]:
    """The default configuration as a trial of the configured space would draw it."""
    config = workspace.settings.build(TunerConfig, "tuning")
    return SearchSpace.from_table(config.space, default_values(workspace)).default_params()


def study_identity(workspace: Workspace, key: str) -> dict[str, Any]:
    """What gives a trial its meaning beside space and budget: data, features, other settings."""
    upstream = {
        f"{asset}/{k}": workspace.artifacts.read(asset, k).content_hash
        for asset, k in workspace.upstream("optuna_study", key)
    }
    sections = workspace.settings.sections
    fixed = {name: sections.get(name, {}) for name in SPECS["optuna_study"].sections}
    del fixed["tuning"]
    folds = {k: v for k, v in sections.get("folds", {}).items() if k != "n_windows"}
    code = SPECS["optuna_study"].code_version
    return {"upstream": upstream, "settings": fixed, "folds": folds, "code": code}


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
    def _split(self):
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
        settings = self.workspace.settings
        space = SearchSpace.from_table(self.config.space, default_values(self.workspace))
        split = space.split(params)
        model = settings.build(
            XTrendConfig,
            "model",
            n_features=prepared.rows.n_features,
            n_assets=len(prepared.rows.symbols),
            **split.model,
        )
        training = replace(
            settings.build(TrainingConfig, "training", **split.training),
            pretrain_epochs=self.config.pretrain_epochs,
            finetune_epochs=self.config.finetune_epochs,
        )
        positions_config = settings.build(PositionConfig, "positions", **split.positions)
        fitted = train_ensemble(
            prepared.rows,
            prepared.fit,
            prepared.validation,
            prepared.train,
            model,
            training,
            positions=positions_config,
            seeds=(seed,),
            refit=False,
        )
        window = prepared.test_sessions
        inside = np.isin(prepared.rows.date_index, window) & np.isfinite(prepared.rows.sigma)
        end_rows = np.flatnonzero(inside)
        raw = np.full((len(prepared.data.dates), len(prepared.rows.symbols)), np.nan)
        output = fitted.ensemble.predict(prepared.rows, end_rows)
        raw[prepared.rows.date_index[end_rows], prepared.rows.asset_id[end_rows]] = output.z
        positions = walk_positions(raw[window], positions_config)
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
        first = self.first_session
        known = self._known(fold)
        panel = known.panel.select(features or self._features(fold))
        has_session = np.isfinite(known.close)
        fit_sessions = fold.fit + first
        scaler = Scaler.fit(panel.values[fit_sessions][has_session[fit_sessions]])
        rows = RowTable.build(panel, known.close, known.sigma_daily, known.cost_rate, scaler)
        position, loss = rows.date_index, rows.can_bear_loss

        def rows_in(sessions: np.ndarray, before: int) -> np.ndarray:
            return np.isin(position, sessions + first) & loss & (rows.label_end < before + first)

        return PreparedInner(
            data=known,
            rows=rows,
            fit=rows_in(fold.fit, int(fold.validation[0])),
            validation=rows_in(fold.validation, int(fold.test[0])),
            train=rows_in(fold.train, int(fold.test[0])),
            test_sessions=fold.test + first,
        )

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
    rows: RowTable
    fit: np.ndarray
    validation: np.ndarray
    train: np.ndarray
    test_sessions: np.ndarray
