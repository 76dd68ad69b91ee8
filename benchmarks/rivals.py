"""One training step of the Temporal Fusion Transformers of other libraries.

Each looks at ``seq_len`` days of ``n_features`` observed inputs and forecasts the day after the
window's last, with its own loss. What is timed favours them: the minibatch lies ready in
memory (their data loaders are left out), logging is off, and there is no asset embedding.
"""

import importlib.util
import resource
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.measure import SEED, StepCase, StepTimes

LAYERS, HEADS, DROPOUT, GRAD_CLIP = 2, 4, 0.1, 1.0
"""The defaults of ``XTrendConfig.plan()``."""

Step = Callable[[], torch.Tensor]
"""Forward and loss of one minibatch."""


def missing() -> list[str]:
    """Distributions of the extra ``bench`` that are not installed here."""
    names = {"pytorch-forecasting": "pytorch_forecasting", "neuralforecast": "neuralforecast"}
    return [name for name, module in names.items() if importlib.util.find_spec(module) is None]


def measure(library: str, case: StepCase, warm_up: int, repeats: int) -> StepTimes:
    """Time forward, loss, backward, clipping and Adam step of one prepared minibatch."""
    torch.set_num_threads(case.threads)
    torch.manual_seed(SEED)
    warnings.simplefilter("ignore")
    prepare = {"pytorch-forecasting": pytorch_forecasting, "neuralforecast": neuralforecast}
    model, step = prepare[library](case)
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, cpu_seconds = [], []
    for _ in range(warm_up + repeats):
        started, cpu_started = time.perf_counter(), time.process_time()
        optimiser.zero_grad(set_to_none=True)
        step().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        optimiser.step()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measured = seconds[warm_up:]
    return StepTimes(
        step_ms=tuple(1e3 * s for s in measured),
        cpu_ms=tuple(1e3 * s for s in cpu_seconds[warm_up:]),
        windows_per_s=tuple(case.batch_size / s for s in measured),
        windows_per_step=case.batch_size,
        unique_rows=1.0,
        pool=0.0,
        peak_mib=(peak - before) / 1024,
        library=f"{library} {version(library)}",
    )


def pytorch_forecasting(case: StepCase) -> tuple[torch.nn.Module, Step]:
    """Encoder of ``seq_len`` days, decoder of one, quantile loss (its default)."""
    from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet

    days = case.seq_len + 1
    names = [f"f{i:03d}" for i in range(case.n_features)]
    rng = np.random.default_rng(SEED)
    frame = pd.DataFrame(
        rng.standard_normal((case.batch_size * days, case.n_features), dtype=np.float32),
        columns=names,
    ).assign(
        target=rng.standard_normal(case.batch_size * days),
        asset=np.repeat([f"A{i}" for i in range(case.batch_size)], days),
        day=np.tile(np.arange(days), case.batch_size),
    )
    unscaled: Any = dict.fromkeys(names)
    data = TimeSeriesDataSet(
        frame,
        time_idx="day",
        target="target",
        group_ids=["asset"],
        max_encoder_length=case.seq_len,
        min_encoder_length=case.seq_len,
        max_prediction_length=1,
        time_varying_unknown_reals=names,
        scalers=unscaled,
    )
    model = TemporalFusionTransformer.from_dataset(
        data,
        hidden_size=64,
        hidden_continuous_size=case.vsn_hidden,
        lstm_layers=LAYERS,
        attention_head_size=HEADS,
        dropout=DROPOUT,
    )
    x, y = next(iter(data.to_dataloader(train=True, batch_size=case.batch_size, num_workers=0)))
    shape = (case.batch_size, case.seq_len, case.n_features)
    assert x["encoder_cont"].shape == shape, x["encoder_cont"].shape
    loss: Any = model.loss
    return model, lambda: loss(model(x)["prediction"], y)


def neuralforecast(case: StepCase) -> tuple[torch.nn.Module, Step]:
    """Input of ``seq_len`` days, horizon of one, absolute error (its default)."""
    from neuralforecast.models import TFT

    names = [f"f{i:03d}" for i in range(case.n_features)]
    model = TFT(
        h=1,
        input_size=case.seq_len,
        hist_exog_list=names,
        hidden_size=64,
        n_head=HEADS,
        n_rnn_layers=LAYERS,
        dropout=DROPOUT,
        windows_batch_size=case.batch_size,
    )
    windows = {
        "insample_y": torch.randn(case.batch_size, case.seq_len, 1),
        "hist_exog": torch.randn(case.batch_size, case.seq_len, case.n_features),
        "futr_exog": None,
        "stat_exog": None,
    }
    y = torch.randn(case.batch_size, 1, 1)
    loss: Any = model.loss
    return model, lambda: loss(y=y, y_hat=model(windows))
