"""The rivals of the futures table get a budget that trains them to their end."""

from dataclasses import replace

import torch

from benchmarks.futures import VARIANTS
from tests.support.row_tables import planted_rows, split
from tft_core.models.config import XTrendConfig
from tft_core.models.rivals import rival
from tft_core.training.config import TrainingConfig
from tft_core.training.walk_forward import train_ensemble


def test_a_few_hundred_steps_take_the_linear_rival_to_a_linear_signal() -> None:
    rows = planted_rows(n_assets=4, n_days=700, n_features=8, ic=0.35, cost=0.0)
    config = rival("linear", XTrendConfig.smoke(n_features=8, n_assets=4))
    training = TrainingConfig(
        pretrain_epochs=0, finetune_epochs=15, n_seeds=3, threads=1, batch_size=64, patience=15
    )
    training = replace(training, **VARIANTS["linear"].training)
    result = train_ensemble(rows, *split(rows, 500, 680), config, training, refit=False)
    assert result.optimiser_steps <= 3 * 15 * 16
    beta = torch.tensor([1.0, -0.9, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0])
    for member in result.ensemble.members:
        w = member.state_dict()["selection.shared.linear.weight"][0]
        assert float(torch.cosine_similarity(w, beta, dim=0)) > 0.9
