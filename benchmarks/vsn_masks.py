"""Does the identified VSN keep its result when its masks are drawn per asset of a minibatch?

The synthetic study (`docs/EXPERIMENTS.md`) hid each variable per training *sequence*; the network
hides it per *asset* of a minibatch, so that a row shared by windows is encoded once. Both train
the same network on the same minibatches here. ``python -m benchmarks.vsn_masks``, about one CPU
minute.

The fixture: 5 assets, 60 features with an autocorrelation of .9, of which 6 carry the next
return at an information coefficient of .10, 6 are clones of these (ρ = .97) and 48 are noise.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata

from benchmarks.planted import N_TRUE, NETWORK, auc, planted_rows
from tft_core.models.batching import RowTensors
from tft_core.models.config import XTrendConfig
from tft_core.models.ensemble import Ensemble
from tft_core.models.losses import LossTerms, Targets, training_loss
from tft_core.models.network import Batch, XTrend
from tft_core.sequences import RowTable, epoch_windows, minibatches
from tft_core.training.config import TrainingConfig
from tft_core.training.determinism import pinned
from tft_core.training.evaluation import diversified_sharpe
from tft_core.training.loop import CLAMP_FLOOR, CLAMPED_STEPS
from tft_core.training.step import make_optimiser

N_FEATURES, IC = 60, 0.10
TRAIN_DAYS, TEST_DAYS, GAP = 1000, 2500, 10
IS_TRUE = np.arange(N_FEATURES) < N_TRUE
STEPS, RAMP = 320, 0.33
TRAINING = TrainingConfig(lr=1.5e-3, weight_decay=1e-4, threads=1, batch_size=32)
CONFIG = replace(NETWORK, n_features=N_FEATURES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-sets", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--penalty", type=float, default=CONFIG.vsn_penalty, help="λ")
    options = parser.parse_args()
    config = replace(CONFIG, vsn_penalty=options.penalty)
    lines = []
    for data in range(options.data_sets):
        rows = planted_rows(data, N_FEATURES, IC, TRAIN_DAYS + GAP + TEST_DAYS)
        for by in ("asset", "sequence"):
            for seed in range(options.seeds):
                started = time.process_time()
                member = train(rows, config, seed, by)
                weight = member.main_selection.static_weights().numpy()  # type: ignore[union-attr]
                line = {
                    "masks by": by,
                    "data": data,
                    "seed": seed,
                    "AUC": auc(weight, IS_TRUE),
                    "weight": weight,
                    "Sharpe": sharpe_after(rows, member),
                    "alive": int((weight > 0).sum()),
                    "CPU s": time.process_time() - started,
                }
                lines.append(line)
                print({k: v for k, v in line.items() if k != "weight"}, flush=True)
    table = pd.DataFrame(lines)
    means = table.groupby(["masks by", "data"])["weight"].apply(
        lambda w: auc(mean_rank(w), IS_TRUE)
    )
    summary = table.groupby("masks by")[["AUC", "Sharpe", "alive", "CPU s"]].agg(["mean", "std"])
    print(summary.round(2).to_string())
    print("AUC of the seeds' mean rank:")
    print(means.unstack().round(2).to_string())


def train(rows: RowTable, config: XTrendConfig, seed: int, masks_by: str) -> XTrend:
    """A fixed number of steps on gross returns, as the training loop takes them."""
    with pinned(seed, TRAINING.threads):
        rng = np.random.default_rng([seed, 2])
        member = XTrend(config).train()
        optimiser, tensors = make_optimiser(member, TRAINING), RowTensors.of(rows, config)
        label = torch.from_numpy(np.append(np.nan_to_num(rows.scaled_label), 0.0)).float()
        loss_rows = (rows.date_index < TRAIN_DAYS) & rows.can_bear_loss
        step = 0
        while step < STEPS:
            index, bears = epoch_windows(rows, loss_rows, config.seq_len, config.warmup, rng)
            for windows in minibatches(bears, TRAINING.batch_size, 1, rng):
                batch = tensors.batch(index[windows])
                if masks_by == "sequence":
                    batch = one_group_per_sequence(batch)
                y = label[torch.from_numpy(index[windows])]
                none, date = torch.zeros_like(y), torch.zeros_like(y, dtype=torch.int64)
                bears_loss = torch.from_numpy(bears[windows])
                targets = Targets(y, none, none, bears_loss, date, n_dates=1)
                loss = training_loss(member(batch), targets, LossTerms())
                penalty = member.penalty()
                assert penalty is not None
                share = min(1.0, step / (RAMP * STEPS))
                optimiser.zero_grad(set_to_none=False)  # they are views of the optimiser's
                (loss + share * penalty).backward()
                torch.nn.utils.clip_grad_norm_(member.parameters(), TRAINING.grad_clip)
                optimiser.step()
                step += 1
                for selection in member.identified():
                    selection.clamp(CLAMP_FLOOR if step < CLAMPED_STEPS or share < 1 else 0.0)
        return member.eval()


def one_group_per_sequence(batch: Batch) -> Batch:
    """Every window with rows and a group, hence masks, of its own."""
    n_windows, length = batch.index.shape
    window, flat = torch.arange(n_windows).repeat_interleave(length), batch.index.flatten()
    real = flat < len(batch.x)
    own = torch.full_like(flat, int(real.sum()))
    own[real] = torch.arange(int(real.sum()))
    return batch._replace(
        x=batch.x[flat[real]],
        coverage=batch.coverage[flat[real]],
        label=batch.label[flat[real]],
        group=window[real],
        entity=batch.entity[batch.window_group],
        index=own.view_as(batch.index),
        window_group=torch.arange(n_windows),
    )


def sharpe_after(rows: RowTable, member: XTrend) -> float:
    """Gross Sharpe ratio of the days after the training."""
    at = np.flatnonzero((rows.date_index >= TRAIN_DAYS + GAP) & rows.can_bear_loss)
    z = Ensemble(member.config, [member], [None]).predict(rows, at).z
    return diversified_sharpe(rows, at, z)


def mean_rank(weights: pd.Series) -> np.ndarray:
    return np.mean([rankdata(w) for w in weights], axis=0)


if __name__ == "__main__":
    main()
