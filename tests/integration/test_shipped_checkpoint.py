"""What the checkpoint in production says of itself, and that a rollback of it lasts."""

import shutil

import torch

from tests.support.tiny import tiny_settings
from tft_core.training_pipeline import TrainingPipeline


def test_the_shipped_checkpoint_says_everything_about_itself(lifecycle):
    pipeline, result = lifecycle
    registry = pipeline.workspace.registry
    meta = registry.load_metadata(result.checkpoint_path)
    for field in (
        "feature_names", "asset_names", "config", "normalization", "training_info",
        "feature_selection", "fold_spec", "universe", "cost_model", "position_config", "calendar",
        "context_bank", "feature_quantiles", "seeds", "library_versions", "data_hash",
        "catalogue_hash", "run_info",
    ):  # fmt: skip
        assert getattr(meta, field), field
    assert meta.gate is not None
    assert meta.gate["passed"] is result.promoted
    assert meta.status == "candidate"
    assert meta.sharpe_oos == result.sharpe_oos
    assert meta.total_return_oos == result.total_return_oos
    assert meta.max_drawdown_oos == result.max_drawdown_oos
    assert meta.threads == 1
    # the same seed gives the same weights only for the same instruction set
    assert meta.run_info["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert len(meta.seeds) == 2
    assert set(meta.feature_quantiles) == set(meta.feature_names)
    assert meta.calendar["last_session"] == meta.trained_through
    assert meta.context_bank["available_from"] <= meta.trained_through
    # the bytes that the verdict was added to are the candidate's
    digest = pipeline.workspace.artifacts.read("production_fold", "live").json("candidates.json")
    assert registry.content_hash_of(result.checkpoint_path) in digest.values()


def test_a_rolled_back_model_does_not_return_under_another_number(lifecycle, tmp_path):
    pipeline, result = lifecycle
    home = tmp_path / "home"
    shutil.copytree(pipeline.workspace.settings.home, home)
    workspace = TrainingPipeline(settings=tiny_settings(home)).workspace
    registry = workspace.registry
    state, metadata = registry.load(registry.root / "x_trend" / result.checkpoint_path.name)
    other = registry.save(state, metadata.replace(version=0, data_hash="another"), force=True)
    registry.promote(other, "something else")
    (model,) = [row for row in registry.list_checkpoints() if row["status"] == "retired"]
    registry.promote(model["path"], "back again")
    registry.rollback("it lost money")
    versions = len(registry.list_checkpoints())
    workspace.build("production_checkpoint", "all")
    assert len(registry.list_checkpoints()) == versions
    assert registry.production_path() == other
