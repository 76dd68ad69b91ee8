"""Phase ``out_of_sample``: walk a fold's candidates and the baselines through its test window."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from tft_core.baselines import BASELINES
from tft_core.evidence import EvidenceLedger
from tft_core.inference import ServingConfig, TFTInferencePipeline
from tft_core.positions import PositionConfig, walk_positions
from tft_core.reports.plots import equity_png
from tft_core.training_pipeline.artifacts import Draft
from tft_core.training_pipeline.phases.production import PATHS, candidate
from tft_core.training_pipeline.record import record_path, wide_net
from tft_core.training_pipeline.rows import FoldData, load_fold_data
from tft_core.training_pipeline.workspace import Progress, Workspace

BASELINE_HISTORY = timedelta(days=3 * 366)
"""Enough for every rule: the MACD blend reads 504 sessions."""


def out_of_sample(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """Walk the fold's candidates and the baselines through its test window, net of costs."""
    fold = workspace.plan.fold(key)
    data = load_fold_data(
        workspace,
        workspace.plan.upto(workspace.plan.next_key(key)),
        start=fold.train_start,
    )
    window = np.flatnonzero(data.dates >= pd.Timestamp(key))  # the key is the first test day
    universe = workspace.dated_universe(data.panel.symbols)
    records, configs, frames = {}, {}, []
    for path in PATHS:
        # the limits of serving: what would not have been traded is not in the record either
        pipeline = TFTInferencePipeline.from_checkpoint(
            candidate(workspace, key, path),
            serving=workspace.settings.build(ServingConfig, "serving"),
        )
        first, last = data.dates[window[0]].date(), data.dates[window[-1]].date()
        walk = pipeline.walk(data.inputs(), first, last)
        configs[path] = pipeline.positions_config
        records[path] = record_path(data, universe, window, walk.positions, configs[path])
        frames.append(_positions_frame(walk.dates, walk.symbols, path, walk.raw, walk.positions))
    base = workspace.settings.build(PositionConfig, "positions")
    is_member = universe.holds(data.panel.symbols, data.dates[window])
    for name, raw in _baseline_outputs(workspace, key, data).items():
        # a rule's full position is 1; scaled to the model's largest so that the same
        # smoothing and caps apply (the Sharpe ratio does not depend on it)
        positions = walk_positions(raw[window] * base.max_position, base, is_member=is_member)
        records[name] = record_path(data, universe, window, positions, base)
        configs[name] = base
        frames.append(
            _positions_frame(data.dates[window], data.panel.symbols, name, raw[window], positions)
        )
    EvidenceLedger.under(workspace.settings.home).record_look(
        workspace.artifacts.read("production_fold", key).content_hash, [key], "out_of_sample"
    )
    daily = pd.concat([record.frame(path) for path, record in records.items()], ignore_index=True)
    draft.write_frame("daily.parquet", daily)
    draft.write_frame("positions.parquet", pd.concat(frames, ignore_index=True))
    draft.write_frame("by_asset.parquet", _by_asset(records, data))
    draft.write_json("metrics.json", {path: record.figures() for path, record in records.items()})
    table = pd.DataFrame({path: record.figures() for path, record in records.items()}).T
    draft.write_frame("table_metrics.parquet", table.rename_axis("path").reset_index())
    draft.write_bytes("equity.png", equity_png(wide_net(daily)))
    for path, record in records.items():
        draft.summary[f"sharpe_net_{path}"] = record.figures()["sharpe_net"]
    draft.summary.update(
        n_days=len(records["default"].dates),
        universe_hash=workspace.universe_hash(key),
        sharpe_se=records["default"].figures()["sharpe_se"],
        max_drawdown_default=records["default"].figures()["max_drawdown"],
        turnover_ann_default=records["default"].figures()["turnover_ann"],
        first=str(records["default"].dates[0].date()),
        last=str(records["default"].dates[-1].date()),
    )


def _baseline_outputs(workspace: Workspace, key: str, data: FoldData) -> dict[str, np.ndarray]:
    """Raw outputs of the rules on the dates and symbols of ``data``.

    They read further back than the fold trains: a rule must not lack its year of history
    because the network was given a short training window.
    """
    fold = workspace.plan.fold(key)
    history = load_fold_data(
        workspace,
        workspace.plan.upto(workspace.plan.next_key(key)),
        features=workspace.builder().feature_names[:1],
        start=None if fold.train_start is None else fold.train_start - BASELINE_HISTORY,
    )
    rows = history.dates.get_indexer(data.dates)
    columns = pd.Index(history.panel.symbols).get_indexer(pd.Index(data.panel.symbols))
    return {name: rule(history.close)[rows][:, columns] for name, rule in BASELINES.items()}


def _positions_frame(
    dates: pd.DatetimeIndex,
    symbols: tuple[str, ...],
    path: str,
    raw: np.ndarray,
    positions: np.ndarray,
) -> pd.DataFrame:
    time, asset = np.nonzero(np.isfinite(raw))
    return pd.DataFrame(
        {
            "date": dates[time],
            "symbol": np.asarray(symbols, dtype=object)[asset],
            "path": path,
            "raw": raw[time, asset],
            "position": positions[time, asset],
        }
    )


def _by_asset(records: Mapping[str, Any], data: FoldData) -> pd.DataFrame:
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "path": path,
                    "symbol": data.panel.symbols,
                    "net": record.by_asset.sum(axis=0),
                }
            )
            for path, record in records.items()
        ],
        ignore_index=True,
    )
