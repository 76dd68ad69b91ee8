"""Phase ``production_fold``: train what would ship, twice, and save both as candidates."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tft_core.checkpoint_manager import CheckpointMetadata
from tft_core.checks import Finding, training_converged
from tft_core.confidence import Calibration
from tft_core.data.universe import UniverseConfig
from tft_core.errors import ArtifactError
from tft_core.features.builder import FeatureConfig
from tft_core.folds import FoldConfig
from tft_core.inference import TFTInferencePipeline
from tft_core.models.config import XTrendConfig
from tft_core.positions import CostConfig, PositionConfig
from tft_core.reports.plots import training_curves
from tft_core.schema import MODEL_TYPE, PathName, canonical_json, content_hash, finite_or_none
from tft_core.training.config import TrainingConfig
from tft_core.training.determinism import machine
from tft_core.training.progress import ConsoleProgress
from tft_core.training.walk_forward import EnsembleResult, train_ensemble
from tft_core.training_pipeline.artifacts import Draft
from tft_core.training_pipeline.commit import git_commit
from tft_core.training_pipeline.configured import default_params, model_config, search_space
from tft_core.training_pipeline.epochs import epochs_table
from tft_core.training_pipeline.graph import study_key
from tft_core.training_pipeline.phases.selection import read_stability, shipped_features
from tft_core.training_pipeline.rows import (
    FoldData,
    TrainingRows,
    load_training_data,
    training_rows,
)
from tft_core.training_pipeline.workspace import Progress, Workspace

PATHS: tuple[PathName, ...] = ("default", "tuned")
N_QUANTILES = 11
LIBRARIES = (
    "torch", "numpy", "scipy", "pandas", "scikit-learn", "TA-Lib", "duckdb", "optuna",
    "exchange_calendars", "safetensors",
)  # fmt: skip
"""Whose versions a checkpoint carries: whatever may change a number of it."""


def production_fold(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """Train default and tuned ensembles with full budgets; save both as candidates."""
    settings = workspace.settings
    features = shipped_features(workspace, key)
    data = load_training_data(workspace, key, features)
    fold = workspace.plan.fold(key)
    part = training_rows(data, fold, settings.build(FoldConfig, "folds"), features)
    study = workspace.artifacts.read(
        "optuna_study", study_key(key, workspace.plan, workspace.retune_every)
    ).json("study.json")
    params = {"default": default_params(workspace.settings), "tuned": study["best_params"]}
    saved: dict[str, str] = {}
    directories: dict[str, Path] = {}
    histories = []
    for path in PATHS:
        if path == "tuned" and params["tuned"] == params["default"]:
            saved["tuned"], directories["tuned"] = saved["default"], directories["default"]
            draft.summary["tuned_is_default"] = True
            continue
        progress(f"production_fold {key}: training the {path} configuration")
        result, model, positions, training = _train(
            workspace, part, params[path], overrides, f"{key} {path}"
        )
        metadata = _metadata(
            workspace, key, path, data, part, result, model, training, positions, study
        )
        directory = workspace.registry.save(
            result.ensemble.state_dict(),
            metadata,
            feature_selector=_selector(workspace, key),
            optuna_study={k: v for k, v in study.items() if k != "daily"},
        )
        # a version's name holds the time it was saved; what it is, is its content hash
        saved[path] = workspace.registry.content_hash_of(directory)
        directories[path] = directory
        draft.findings.extend(_verify_candidate(workspace, directory, result, part))
        histories.append(epochs_table(result.histories).assign(path=path))
        draft.summary[f"sharpe_validation_{path}"] = finite_or_none(result.val_sharpe)
        draft.summary[f"optimiser_steps_{path}"] = result.optimiser_steps
        draft.summary[f"seconds_{path}"] = round(result.seconds, 1)
        draft.summary[f"refit_epochs_{path}"] = result.refit_epochs
    history = pd.concat(histories, ignore_index=True)
    draft.findings.extend(training_converged(history))
    draft.write_json("candidates.json", saved)
    draft.write_frame("histories.parquet", history)
    draft.write_bytes("training_curves.png", training_curves(history[history["path"] == "default"]))
    draft.summary.update(
        n_features=len(features),
        n_train_rows=int(part.train.sum()),
        n_assets=len(part.rows.symbols),
        trained_through=str(data.dates[-1].date()),
        study=study["study"],
        universe_hash=workspace.universe_hash(key),
        **{f"checkpoint_{path}": directories[path].name for path in PATHS},
    )


def candidate(workspace: Workspace, key: str, path: str) -> Path:
    """Registry directory of the candidate that a fold's training saved for a path.

    Raises:
        ArtifactError: The registry no longer holds it.
    """
    artifact = workspace.artifacts.read("production_fold", key)
    digest = artifact.json("candidates.json")[path]
    directory = workspace.registry.find(digest)
    if directory is None:
        raise ArtifactError(
            f"the registry must hold the {path} candidate of fold {key} ({digest[:12]}), found it "
            "gone; materialize production_fold again"
        )
    return directory


def _train(
    workspace: Workspace,
    part: TrainingRows,
    params: Mapping[str, Any],
    overrides: Mapping[str, Any],
    label: str,
) -> tuple[EnsembleResult, XTrendConfig, PositionConfig, TrainingConfig]:
    settings = workspace.settings
    split = search_space(settings).split(params)
    model = model_config(settings, part.rows.n_features, len(part.rows.symbols), **split.model)
    training = settings.build(TrainingConfig, "training", **{**split.training, **overrides})
    positions = settings.build(PositionConfig, "positions", **split.positions)
    result = train_ensemble(
        part.rows,
        part.fit,
        part.validation,
        part.train,
        model,
        training,
        positions=positions,
        refit=True,
        progress=ConsoleProgress(label),
    )
    return result, model, positions, training


def _metadata(
    workspace: Workspace,
    key: str,
    path: PathName,
    data: FoldData,
    part: TrainingRows,
    result: EnsembleResult,
    model: XTrendConfig,
    training: TrainingConfig,
    positions: PositionConfig,
    study: Mapping[str, Any],
) -> CheckpointMetadata:
    settings, fold = workspace.settings, workspace.plan.fold(key)
    features = part.rows.feature_names
    report = read_stability(workspace, key)
    values = data.panel.select(features).values[part.split.train]
    values = values[np.isfinite(data.close[part.split.train])]
    return CheckpointMetadata(
        model_type=MODEL_TYPE,
        git_commit=git_commit(),
        feature_names=features,
        n_features=len(features),
        n_assets=len(part.rows.symbols),
        asset_names=part.rows.symbols,
        config=model.to_dict(),
        normalization=part.scaler.to_dict(),
        training_info={
            "training": asdict(training),
            "best_epochs": list(result.best_epochs),
            "refit_epochs": result.refit_epochs,
            "val_sharpe": finite_or_none(result.val_sharpe),
            "val_sharpe_members": [finite_or_none(v) for v in result.val_sharpe_members],
            "optimiser_steps": result.optimiser_steps,
            "first_session": str(data.dates[part.split.train[0]].date()),
            "last_loss_session": str(data.dates[part.split.train[-1]].date()),
            "n_rows": int(part.train.sum()),
            "confidence_knots": confidence_knots(result.validation),
        },
        feature_selection={
            "verdict": report.verdict if report else "skipped",
            "sentence": report.sentence if report else "feature selection was switched off",
            "n_recommended": len(features),
            "stability_scores": {
                name: finite_or_none(score)
                for name, score in (report.stability_scores if report else {}).items()
                if name in features
            },
        },
        optuna_best_params=study["best_params"] if path == "tuned" else None,
        fold=key,
        path=path,
        trained_through=str(data.dates[-1].date()),
        data_hash=content_hash(workspace.upstream_hashes("production_fold", key)),
        catalogue_hash=workspace.builder().catalogue_hash(),
        fold_spec={
            "train_start": str(fold.train_start) if fold.train_start else None,
            "test_start": str(fold.test_start) if fold.test_start else None,
            "test_end": str(fold.test_end) if fold.test_end else None,
            "purge_sessions": settings.build(FoldConfig, "folds").purge_sessions,
        },
        universe={
            "config": _plain(settings.build(UniverseConfig, "universe")),
            "features": _plain(settings.build(FeatureConfig, "features")),
        },
        cost_model=_plain(settings.build(CostConfig, "costs")),
        position_config=asdict(positions),
        calendar=_sessions(data.dates),
        context_bank=_context_bank(model, result),
        feature_quantiles=feature_quantiles(values, features),
        seeds=training.seeds,
        threads=training.threads,
        library_versions={n: version(n) for n in LIBRARIES} | {"python": platform.python_version()},
        run_info={"seconds": round(result.seconds, 3), **machine(training.device)},
    )


def _sessions(dates: pd.DatetimeIndex) -> dict[str, Any]:
    days = [str(day.date()) for day in dates]
    return {
        "first_session": days[0],
        "last_session": days[-1],
        "n_sessions": len(days),
        "sessions_hash": content_hash(days),
    }


def _context_bank(model: XTrendConfig, result: EnsembleResult) -> dict[str, Any]:
    known = result.ensemble.context_available
    return {
        "mode": model.context_mode,
        "n_context": model.n_context if model.uses_context else 0,
        "ctx_len": model.ctx_len,
        "available_from": None if known is None else str(known),
    }


def confidence_knots(validation: pd.DataFrame) -> dict[str, Any]:
    """Calibration of the ensemble's outputs on its validation rows, predicted before the refit.

    Args:
        validation: Columns ``z``, ``disagreement`` and ``scaled_label``, one row each.
    """
    columns = ("z", "disagreement", "scaled_label")
    z, disagreement, label = (validation[name].to_numpy(np.float64) for name in columns)
    return Calibration.fit(z, disagreement, label).to_dict()


def feature_quantiles(values: np.ndarray, names: tuple[str, ...]) -> dict[str, list[float | None]]:
    """Deciles (with both ends) of each unscaled feature over the training rows."""
    levels = np.linspace(0.0, 1.0, N_QUANTILES)
    out: dict[str, list[float | None]] = {}
    for column, name in zip(values.T, names, strict=True):
        finite = column[np.isfinite(column)]
        quantiles = np.quantile(finite, levels) if len(finite) else np.full(N_QUANTILES, np.nan)
        out[name] = [finite_or_none(float(q)) for q in quantiles]
    return out


def _verify_candidate(
    workspace: Workspace, directory: Path, result: EnsembleResult, part: TrainingRows
) -> list[Finding]:
    """Load what was saved and compare its outputs with those of the trained ensemble."""
    problems = workspace.registry.verify(directory)
    if not problems:
        loaded = TFTInferencePipeline.from_checkpoint(directory)
        rows = np.flatnonzero(part.validation)[-64:]
        again = loaded.ensemble.predict(part.rows, rows).z
        trained = result.ensemble.predict(part.rows, rows).z
        if not np.array_equal(again, trained):
            worst = float(np.max(np.abs(again - trained)))
            problems = [f"outputs differ from those before saving by {worst:.2e}"]
    return [
        Finding(
            code="checkpoint_verifies",
            severity="error",
            message=f"{directory.name}: {problem}",
            values={},
        )
        for problem in problems
    ]


def _selector(workspace: Workspace, key: str) -> dict[str, Any]:
    return workspace.artifacts.read("vsn_stability_report", key).json("report.json")


def _plain(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON values; dates become ISO text."""
    return json.loads(canonical_json(asdict(config)))
