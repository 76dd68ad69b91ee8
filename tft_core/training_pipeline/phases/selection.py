"""Phases ``prefiltered_features``, ``exploration_fold`` and ``vsn_stability_report``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tft_core.checks import selection_is_above_chance, training_converged
from tft_core.config import Settings
from tft_core.feature_selection import (
    FeatureSelectionConfig,
    PrefilterResult,
    StabilityReport,
    cross_check,
    prefilter,
    screen,
    stability_report,
)
from tft_core.folds import FoldConfig, split_sessions
from tft_core.positions import PositionConfig
from tft_core.reports.html import prefilter_page, stability_page
from tft_core.reports.plots import largest_bars, training_curves
from tft_core.schema import finite_or_none
from tft_core.training.config import TrainingConfig
from tft_core.training.exploration import ExplorationConfig, explore
from tft_core.training.progress import ConsoleProgress
from tft_core.training_pipeline.artifacts import Draft
from tft_core.training_pipeline.configured import model_config
from tft_core.training_pipeline.epochs import epochs_table
from tft_core.training_pipeline.rows import (
    FoldData,
    TrainingRows,
    asset_classes,
    load_training_data,
    training_rows,
)
from tft_core.training_pipeline.workspace import Progress, Workspace


def prefiltered_features(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """Coverage and correlation filter on all training rows of the fold."""
    data = load_training_data(workspace, key)
    folds = workspace.settings.build(FoldConfig, "folds")
    split = split_sessions(data.dates, workspace.plan.fold(key), folds)
    result = prefilter_rows(
        data,
        split.train,
        workspace.settings.build(FeatureSelectionConfig, "selection"),
        asset_classes(workspace, key, data.panel.symbols),
    )
    draft.write_json("prefilter.json", result.to_dict())
    draft.write_frame("table_prefilter.parquet", result.table().reset_index())
    draft.write_text("prefilter.html", prefilter_page(result, title=f"Pre-filter, fold {key}"))
    counts = result.counts
    draft.summary.update(
        n_features=counts["features"],
        n_kept=counts["kept"],
        n_low_coverage=counts["low_coverage"],
        n_constant=counts["constant"],
        n_correlated=counts["correlated"],
        n_rows=result.n_rows,
    )


def prefilter_rows(
    data: FoldData,
    sessions: np.ndarray,
    config: FeatureSelectionConfig,
    asset_class: np.ndarray | None = None,
) -> PrefilterResult:
    """Tier 1 on the asset sessions of some dates.

    Args:
        asset_class: Class of each symbol, for the coverage table by class.
    """
    of_rows = None
    if asset_class is not None:
        has_session = np.isfinite(data.close[sessions])
        of_rows = asset_class[np.nonzero(has_session)[1]].tolist()
    return prefilter(
        data.values_of(sessions), data.panel.feature_names, config, asset_class=of_rows
    )


def exploration_fold(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """Short training with shadow features; weights and importances of every seed."""
    settings = workspace.settings
    kept = read_prefilter(workspace, key).kept
    if "feature_selection" in workspace.skip:
        draft.write_json("skipped.json", {"reason": "feature selection was switched off"})
        draft.summary.update(skipped=True, n_features=len(kept))
        return
    seed = {"seed": overrides["seed"]} if "seed" in overrides else {}
    n_seeds = {"n_seeds": overrides["n_seeds"]} if "n_seeds" in overrides else {}
    exploration = settings.build(ExplorationConfig, "exploration", **n_seeds)
    training = settings.build(TrainingConfig, "training", **seed)
    data = load_training_data(workspace, key, kept)
    part = training_rows(data, workspace.plan.fold(key), settings.build(FoldConfig, "folds"), kept)
    result = explore(
        part.rows,
        part.fit,
        part.validation,
        model_config(workspace.settings, len(kept), len(part.rows.symbols)),
        training,
        exploration,
        positions=settings.build(PositionConfig, "positions"),
        progress=ConsoleProgress(f"exploration {key}"),
    )
    records = result.records.assign(fold=key)
    draft.write_frame("records.parquet", records)
    draft.write_frame("screen.parquet", screened(data, part, kept, settings).reset_index())
    history = epochs_table(result.histories)
    draft.write_frame("histories.parquet", history)
    draft.findings.extend(training_converged(history))
    features = feature_table(records)
    draft.write_bytes("weights.png", largest_bars(features["weight"], "Largest weights"))
    draft.write_bytes(
        "permutation.png",
        largest_bars(features["perm_dposition"], "Largest change of position when permuted"),
    )
    draft.write_bytes("training_curves.png", training_curves(history))
    draft.write_frame("table_features.parquet", features.reset_index())
    draft.summary.update(
        n_features=len(kept),
        n_seeds=exploration.n_seeds,
        seed=training.seed,
        sharpe_validation=finite_or_none(float(np.mean(result.val_sharpe_members))),
        optimiser_steps=result.optimiser_steps,
        top_feature=str(features.index[0]),
        top_lift=finite_or_none(float(features["lift"].iloc[0])),
        seconds_training=round(result.seconds_training, 1),
        seconds_measuring=round(result.seconds_measuring, 1),
    )


def feature_table(records: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of all that is measured of the real features, by weight.

    Beside them the share of seeds in which a feature outweighs the largest shadow.
    """
    shadows, real = records[records["is_shadow"]], records[~records["is_shadow"]]
    largest = real["seed"].map(shadows.groupby("seed")["weight"].max())
    beats = real["weight"].gt(largest).where(largest.notna())
    measured = real.assign(above_all_shadows=beats.astype(float)).groupby("feature")
    columns = ["weight", "lift", "above_all_shadows", "perm_dposition", "perm_dsharpe", "ig"]
    return measured[columns].mean().sort_values("weight", ascending=False)


def screened(
    data: FoldData, part: TrainingRows, kept: tuple[str, ...], settings: Settings
) -> pd.DataFrame:
    """Rank IC and mutual information of the unscaled features on the training rows.

    As of:
        The last label of the training rows, which is complete before the purge's end.
    """
    rows = part.rows
    day, asset = rows.date_index[part.train], rows.asset_id[part.train]
    return screen(
        data.panel.select(kept).values[day, asset],
        kept,
        rows.scaled_label[part.train],
        day,
        settings.build(FeatureSelectionConfig, "selection"),
    )


def vsn_stability_report(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """Aggregate the exploration of folds ≤ k into a verdict and the features to ship."""
    pre = read_prefilter(workspace, key)
    if "feature_selection" in workspace.skip:
        draft.write_json("report.json", {"skipped": True, "recommended_features": list(pre.kept)})
        draft.summary.update(
            verdict="skipped", n_recommended=len(pre.kept), n_prefiltered=len(pre.kept)
        )
        return
    records = pd.concat(
        [
            workspace.artifacts.read("exploration_fold", k).frame("records.parquet")
            for k in workspace.plan.upto(key)
        ],
        ignore_index=True,
    )
    report = stability_report(
        records,
        workspace.settings.build(FeatureSelectionConfig, "selection"),
        workspace.builder().group_of,
        pre.kept,
        clusters=pre.clusters,
    )
    newest = workspace.artifacts.read("exploration_fold", key)
    checked = cross_check(newest.frame("screen.parquet").set_index("feature"), report)
    draft.write_json("report.json", report.to_dict())
    draft.write_frame("table_features.parquet", report.table.reset_index())
    draft.write_frame("records.parquet", records)
    draft.write_frame("weights.parquet", report.vsn_weight_per_fold.reset_index())
    draft.write_frame("cross_check.parquet", checked.reset_index())
    draft.write_text(
        "stability.html",
        stability_page(
            report, title=f"Feature stability, fold {key}", prefilter=pre, screened=checked
        ),
    )
    weights = report.vsn_weight_per_fold.mean(axis=1).sort_values(ascending=False)
    draft.write_bytes("weights.png", largest_bars(weights, "Largest weights"))
    finding = selection_is_above_chance(report)
    if finding is not None:
        draft.findings.append(finding)
    draft.summary.update(
        verdict=report.verdict,
        sentence=report.sentence,
        n_recommended=len(report.recommended_features),
        n_stable_plan_rule=len(report.stable_features),
        n_filled=len(report.filled_features),
        n_flagged=int((checked["flag"] != "").sum()),
        n_prefiltered=len(pre.kept),
        n_folds=report.n_folds,
        n_seeds=report.n_seeds,
    )


def read_prefilter(workspace: Workspace, key: str) -> PrefilterResult:
    """What the fold's pre-filter kept and dropped."""
    artifact = workspace.artifacts.read("prefiltered_features", key)
    return PrefilterResult.from_dict(artifact.json("prefilter.json"))


def read_stability(workspace: Workspace, key: str) -> StabilityReport | None:
    """The fold's report; ``None`` where feature selection was switched off."""
    raw = workspace.artifacts.read("vsn_stability_report", key).json("report.json")
    return None if raw.get("skipped") else StabilityReport.from_dict(raw)


def shipped_features(workspace: Workspace, key: str) -> tuple[str, ...]:
    """The features fold ``key`` trains on: its report's, in the builder's order."""
    raw = workspace.artifacts.read("vsn_stability_report", key).json("report.json")
    recommended = set(raw["recommended_features"])
    return tuple(n for n in workspace.builder().feature_names if n in recommended)
