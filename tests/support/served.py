"""A market store and a checkpoint to serve from it, without the lifecycle around them.

The network is trained for one short epoch, so that it has statistics, contexts and calibration
as any checkpoint has; whether it is any good is nobody's business here.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tft_core.checkpoint_manager import CheckpointManager, CheckpointMetadata
from tft_core.data.store import MarketDataStore
from tft_core.data.universe import Universe, UniverseConfig, UniverseMember
from tft_core.features.as_known import session_risk, wealth
from tft_core.features.builder import FeatureConfig, MegaFeatureBuilder
from tft_core.features.normalization import Scaler
from tft_core.models.config import XTrendConfig
from tft_core.positions import CostConfig, PositionConfig
from tft_core.schema import MODEL_TYPE
from tft_core.sequences import RowTable
from tft_core.training.config import TrainingConfig
from tft_core.training.walk_forward import train_ensemble
from tft_core.training_pipeline.phases.production import confidence_knots, feature_quantiles


@dataclass(frozen=True, slots=True)
class Served:
    """Where things are, and up to when the model has seen the market."""

    store_path: Path
    checkpoint: Path
    trained_through: date
    sessions: tuple[date, ...]
    """Sessions after training, oldest first."""


def serve(
    home: Path,
    bars: pd.DataFrame,
    *,
    n_live: int,
    n_train: int,
    groups: Sequence[str] = (),
    n_features: int | None = None,
    n_members: int = 2,
    model: dict[str, Any] | None = None,
    smoke: bool = True,
) -> Served:
    """Load bars, train a throw-away ensemble on the sessions before the last ``n_live``.

    Args:
        n_train: Sessions that bear loss.
        groups: Feature groups to build; default all.
        n_features: Features of the model; default all that vary.
    """
    home.mkdir(parents=True, exist_ok=True)
    store_path = home / "market.duckdb"
    symbols = tuple(sorted(bars["symbol"].unique()))
    universe_config = UniverseConfig(members=(UniverseMember(symbols=symbols),))
    feature_config = FeatureConfig(groups=tuple(groups)) if groups else FeatureConfig()
    builder = MegaFeatureBuilder(feature_config, universe_config)
    with MarketDataStore(store_path) as store:
        store.ingest(bars)
        Universe.resolve(universe_config, store.symbols())
        dates = store.session_dates()
        seq_len = (model or {}).get("seq_len", 42)
        first = dates[-(n_live + n_train + seq_len)].date()
        last = dates[-n_live - 1].date()
        panel = builder.build(store, symbols, first, last)
        risk = session_risk(store, symbols, panel.dates[0].date(), last)
    at = risk.dates.get_indexer(panel.dates)
    close, sigma = wealth(risk.returns)[at], risk.sigma_daily[at]
    known = np.isfinite(panel.values[np.isfinite(close)]).mean(axis=0)
    names = np.array(panel.feature_names)[known > 0.9]
    if n_features is not None:  # of all groups alike
        names = names[np.linspace(0, len(names) - 1, n_features).round().astype(int)]
    names = tuple(dict.fromkeys(names.tolist()))
    panel = panel.select(names)
    observed = panel.values[np.isfinite(close)]
    scaler = Scaler.fit(observed)
    rows = RowTable.build(panel, close, sigma, np.full_like(sigma, 1e-4), scaler)
    shape = XTrendConfig.smoke if smoke else XTrendConfig.plan
    config = shape(n_features=len(names), n_assets=len(symbols), **(model or {}))
    training = TrainingConfig(
        pretrain_epochs=0, finetune_epochs=1, n_seeds=n_members, threads=1, lr=5e-4
    )
    split = panel.dates[-max(n_train // 3, 10)]
    bears = rows.can_bear_loss
    fit = rows.between(panel.dates[seq_len], split) & bears
    validation = rows.between(split, None) & bears
    result = train_ensemble(rows, fit, validation, fit | validation, config, training, refit=False)
    metadata = CheckpointMetadata(
        model_type=MODEL_TYPE,
        feature_names=names,
        n_features=len(names),
        n_assets=len(symbols),
        asset_names=symbols,
        config=config.to_dict(),
        normalization=scaler.to_dict(),
        training_info={"confidence_knots": confidence_knots(result.validation)},
        fold="live",
        path="default",
        trained_through=last.isoformat(),
        data_hash="0" * 64,
        catalogue_hash=builder.catalogue_hash(),
        fold_spec={},
        universe={
            "config": {"members": [{"symbols": list(symbols)}], "min_present": 0.8},
            "features": {"groups": list(groups)} if groups else {},
        },
        cost_model=asdict(CostConfig()),
        position_config=asdict(PositionConfig()),
        feature_quantiles=feature_quantiles(observed, names),
        seeds=training.seeds,
        threads=1,
    )
    checkpoint = CheckpointManager(home / "checkpoints").save(
        result.ensemble.state_dict(), metadata
    )
    live = tuple(d.date() for d in dates[-n_live:])
    return Served(store_path, checkpoint, last, live)
