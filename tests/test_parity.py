"""Every name of the plan exists, or stands in docs/PARITY.md with its replacement."""

import importlib
from dataclasses import fields
from pathlib import Path

import pytest

PARITY = (Path(__file__).parents[1] / "docs" / "PARITY.md").read_text("utf-8")

CLASSES = {
    "tft_core.feature_selection": ["FeatureSelectionConfig", "FeatureSelector", "StabilityReport"],
    "tft_core.checkpoint_manager": ["CheckpointMetadata", "CheckpointManager"],
    "tft_core.hp_tuner": ["TunerConfig", "HPTuner", "TuningResult", "SearchSpace"],
    "tft_core.inference": ["InferenceResult", "TFTInferencePipeline"],
    "tft_core.training_pipeline": ["TrainingPipelineConfig", "TrainingPipeline", "TrainingResult"],
    "tft_core.strategy_adapter": ["TFTStrategy", "create_strategy"],
    "tft_core.strategy": ["BaseStrategy", "Signal", "StrategyRegistry", "Orchestrator"],
    "tft_core.models.backbone": ["XTrendBackbone"],
}
FIELDS = {
    ("tft_core.feature_selection", "FeatureSelectionConfig"): (
        "min_coverage correlation_threshold vsn_weight_threshold final_max_features "
        "stability_min_folds"
    ),
    ("tft_core.feature_selection", "StabilityReport"): (
        "stable_features stability_scores vsn_weight_per_fold recommended_features "
        "feature_group_breakdown"
    ),
    ("tft_core.checkpoint_manager", "CheckpointMetadata"): (
        "version model_type created_at git_commit feature_names n_features n_assets asset_names "
        "config normalization training_info feature_selection optuna_best_params sharpe_oos "
        "total_return_oos max_drawdown_oos"
    ),
    ("tft_core.hp_tuner", "TunerConfig"): "n_trials timeout_seconds n_folds_per_trial seed",
    ("tft_core.inference", "InferenceResult"): (
        "positions confidences feature_importance raw_output metadata"
    ),
    ("tft_core.training_pipeline", "TrainingResult"): (
        "checkpoint_path feature_report tuning_result n_features_initial n_features_prefiltered "
        "n_features_final sharpe_oos total_return_oos max_drawdown_oos elapsed_seconds"
    ),
}


@pytest.mark.parametrize(
    ("module", "name"), [(m, n) for m, names in CLASSES.items() for n in names]
)
def test_the_plan_s_name_exists(module, name):
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("owner", "names"), FIELDS.items(), ids=lambda x: str(x)[:40])
def test_the_plan_s_fields_exist(owner, names):
    cls = getattr(importlib.import_module(owner[0]), owner[1])
    assert set(names.split()) <= {field.name for field in fields(cls)}


@pytest.mark.parametrize(
    ("attribute", "cls"),
    [
        ("save", "CheckpointManager"),
        ("load", "CheckpointManager"),
        ("load_latest", "CheckpointManager"),
        ("list_checkpoints", "CheckpointManager"),
        ("from_checkpoint", "TFTInferencePipeline"),
        ("from_latest", "TFTInferencePipeline"),
        ("predict", "TFTInferencePipeline"),
        ("predict_batch", "TFTInferencePipeline"),
        ("save_production_checkpoint", "XTrendBackbone"),
        ("load_production_checkpoint", "XTrendBackbone"),
    ],
)
def test_the_plan_s_methods_exist(attribute, cls):
    module = next(m for m, names in CLASSES.items() if cls in names)
    assert hasattr(getattr(importlib.import_module(module), cls), attribute)


@pytest.mark.parametrize(
    "name",
    [
        "model.pt",
        "feature_selector.pkl",
        "optuna_study.db",
        "build_config_from_trial",
        "TuningResult.study",
        "lookback_days=120",
        "step_size",
        "epochs",
        "train_window",
        "cost_bps",
    ],
)
def test_a_name_that_is_gone_stands_in_the_parity_page(name):
    assert name in PARITY
