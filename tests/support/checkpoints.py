"""Small valid checkpoints for the registry's tests."""

from typing import Any

import torch

from tft_core.checkpoint_manager import CheckpointMetadata

PASSED = {"passed": True, "rules": ["beats_long_only"]}


def metadata(**changes: Any) -> CheckpointMetadata:
    values: dict[str, Any] = {
        "model_type": "x_trend",
        "feature_names": ("ret_1", "vol_21", "flat"),
        "n_features": 3,
        "n_assets": 2,
        "asset_names": ("EUR", "JPY"),
        "config": {"n_features": 3, "n_assets": 2, "d_hidden": 8, "context_mode": "random"},
        "normalization": {"mean": [0.0, 0.1, 2.0], "std": [1.0, 0.5, None], "clip": 5.0},
        "training_info": {"epochs": [3, 4], "val_sharpe": 0.41},
        "fold": "live",
        "path": "default",
        "trained_through": "2020-06-30",
        "data_hash": "d" * 64,
        "catalogue_hash": "c" * 64,
        "fold_spec": {"key": "live", "test_start": None},
        "universe": {"config": {"members": []}, "features": {}},
        "cost_model": {"default_bps": 1.0},
        "position_config": {"max_position": 0.25},
        "seeds": (42, 43),
        "threads": 2,
        "gate": PASSED,
    }
    return CheckpointMetadata(**{**values, **changes})


def weights(seed: int = 0, size: int = 16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "member_0/head.weight": torch.randn(size, 4, generator=generator),
        "member_0/head.bias": torch.randn(4, generator=generator, dtype=torch.float64),
        "bank_0/asset_id": torch.arange(5),
        "member_0/scale": torch.tensor(1.5),
    }
