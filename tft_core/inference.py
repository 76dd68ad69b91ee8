"""Serving: from a checkpoint and the market store to positions, or to a stated reason.

Training's own walk through a test window calls the same ``walk``, so a backfill of the
past reproduces the out-of-sample record. Nothing here trains or tunes.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tft_core.checkpoint_manager import CheckpointManager, CheckpointMetadata
from tft_core.config import Settings, build_dataclass, load_settings
from tft_core.data.store import MarketDataStore
from tft_core.data.universe import Universe, UniverseConfig
from tft_core.errors import ConfigError, InferenceError
from tft_core.features.as_known import session_risk, wealth
from tft_core.features.builder import FeatureConfig, MegaFeatureBuilder
from tft_core.features.normalization import Scaler
from tft_core.features.panel import FeaturePanel
from tft_core.models.config import XTrendConfig
from tft_core.models.ensemble import Ensemble
from tft_core.positions import PositionConfig, walk_positions
from tft_core.schema import MODEL_TYPE, finite_or_none
from tft_core.sequences import RowTable

OK = "ok"
GONE = ("not_in_universe", "unknown_asset")
"""Status codes after which an asset gets no answer any more."""
KILL_SWITCH_ENV = "TFT_KILL_SWITCH"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingConfig:
    """Limits beyond which no position is given."""

    max_model_age_days: int = 120
    """Calendar days from the newest bar a model has seen to the session it predicts."""
    max_bar_age_sessions: int = 3
    """Universe sessions without a bar after which an asset counts as stale, not as closed."""
    min_coverage: float = 0.25
    """Smallest share of an asset's features that must have a value."""
    max_drift_psi: float = 4.0
    """Largest median population stability index of the newest features against training."""
    drift_sessions: int = 63
    """Newest sessions whose feature distribution is compared with training."""
    conviction_threshold: float = 0.3
    """Share of the largest position below which a strategy emits no signal."""
    top_features: int = 10
    """Features per asset whose attribution is reported."""

    def __post_init__(self) -> None:
        for name in ("max_model_age_days", "max_bar_age_sessions", "drift_sessions"):
            if getattr(self, name) < 1:
                raise ConfigError(f"serving.{name} must be at least 1, found {getattr(self, name)}")
        if not 0.0 <= self.conviction_threshold <= 1.0:
            raise ConfigError(
                "serving.conviction_threshold must lie in [0, 1], "
                f"found {self.conviction_threshold:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult:
    """Answers of one session: a position or a reason for every symbol of the universe."""

    date: date
    positions: dict[str, float]
    """Position p of each asset with status ``ok``, in [−max_position, max_position]."""
    confidences: dict[str, float]
    """Probability, calibrated on validation data, that the sign of the output is right."""
    feature_importance: dict[str, dict[str, float]]
    """Integrated gradients of this very prediction: asset → feature → share of |output|."""
    raw_output: dict[str, float]
    """Ensemble mean z in [−1, 1] before clipping and smoothing."""
    status: dict[str, str]
    """``ok``, or the code of why there is no position (``metadata["reasons"]`` says more)."""
    metadata: dict[str, Any] = field(default_factory=dict)

    def why_no_trade(self) -> str:
        """One line per asset without a position, for a person."""
        reasons = self.metadata.get("reasons", {})
        lines = [
            f"{symbol}: {code} ({reasons.get(symbol, 'no detail')})"
            for symbol, code in sorted(self.status.items())
            if code != OK
        ]
        return "\n".join(lines) if lines else "every asset has a position"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketInputs:
    """What predictions are made from: features, closes and volatilities on one grid."""

    panel: FeaturePanel
    close: Float[np.ndarray, "time asset"]
    sigma_daily: Float[np.ndarray, "time asset"]


@dataclass(frozen=True, slots=True)
class Walk:
    """Positions over consecutive sessions."""

    dates: pd.DatetimeIndex
    symbols: tuple[str, ...]
    raw: Float[np.ndarray, "time asset"]
    """Ensemble mean output; NaN where the asset has no session or too few features."""
    disagreement: Float[np.ndarray, "time asset"]
    positions: Float[np.ndarray, "time asset"]


class TFTInferencePipeline:
    """Loads one checkpoint and predicts with exactly what it was trained with."""

    def __init__(
        self,
        ensemble: Ensemble,
        metadata: CheckpointMetadata,
        *,
        path: Path | None = None,
        checkpoint_hash: str = "",
        serving: ServingConfig | None = None,
        home: Path | None = None,
    ) -> None:
        self.ensemble = ensemble
        self.metadata = metadata
        self.path = path
        self.checkpoint_hash = checkpoint_hash
        self.serving = serving or ServingConfig()
        self._home = home
        self.scaler = Scaler.from_dict(metadata.normalization)
        self.positions_config = build_dataclass(
            PositionConfig, metadata.position_config, where="checkpoint position_config"
        )
        self.universe_config = build_dataclass(
            UniverseConfig, metadata.universe["config"], where="checkpoint universe"
        )
        self.builder = MegaFeatureBuilder(
            build_dataclass(
                FeatureConfig, metadata.universe["features"], where="checkpoint features"
            ),
            self.universe_config,
        )
        if self.builder.catalogue_hash() != metadata.catalogue_hash:
            raise InferenceError(
                "feature definitions must be those the checkpoint was trained with "
                f"({metadata.catalogue_hash[:12]}), found {self.builder.catalogue_hash()[:12]}; "
                "retrain, or serve with the code version of the checkpoint"
            )

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint_dir: str | os.PathLike[str],
        *,
        serving: ServingConfig | None = None,
        home: Path | None = None,
    ) -> "TFTInferencePipeline":
        """Load and verify one checkpoint directory.

        Raises:
            CheckpointError: A file is missing, damaged or does not fit the metadata.
        """
        path = Path(checkpoint_dir)
        # <root>/<model_type>/v<version>_<timestamp>
        state, metadata = CheckpointManager(path.parent.parent).load(path)
        ensemble = Ensemble.from_state(XTrendConfig.from_dict(metadata.config), state)
        return cls(
            ensemble,
            metadata,
            path=path,
            checkpoint_hash=CheckpointManager.content_hash_of(path),
            serving=serving,
            home=home,
        )

    @classmethod
    def from_latest(
        cls, model_type: str = MODEL_TYPE, settings: Settings | None = None
    ) -> "TFTInferencePipeline":
        """The newest saved checkpoint, promoted or not."""
        resolved = settings or load_settings()
        directory = CheckpointManager(resolved.checkpoints_dir).latest_path(model_type)
        return cls._configured(directory, resolved)

    @classmethod
    def from_production(
        cls, model_type: str = MODEL_TYPE, settings: Settings | None = None
    ) -> "TFTInferencePipeline":
        """The promoted checkpoint."""
        resolved = settings or load_settings()
        directory = CheckpointManager(resolved.checkpoints_dir).production_path(model_type)
        return cls._configured(directory, resolved)

    @classmethod
    def _configured(cls, directory: Path, settings: Settings) -> "TFTInferencePipeline":
        serving = settings.build(ServingConfig, "serving")
        return cls.from_checkpoint(directory, serving=serving, home=settings.home)

    @property
    def model_type(self) -> str:
        return self.metadata.model_type

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(self.metadata.feature_names)

    def required_lookback(self) -> int:
        """Sessions of history one prediction needs, for its window and for the drift guard."""
        n_rows = max(self.ensemble.config.seq_len, self.serving.drift_sessions)
        return self.builder.required_lookback() + n_rows - 1

    # -- predictions ---------------------------------------------------------------------

    def predict(
        self,
        date: date,
        store: MarketDataStore,
        lookback_days: int | None = None,
        previous: Mapping[str, float] | None = None,
    ) -> InferenceResult:
        """Positions decided after the close of ``date``.

        Args:
            date: A session with at least one bar.
            lookback_days: Sessions of history to read; default what the model needs.
            previous: Positions published for the session before; ``None`` means unknown:
                smoothing then starts flat, and the result says so.

        As of:
            The close of ``date``; later bars and later restatements are not read.

        Raises:
            InferenceError: No answer must be given: the model is stale or has seen the
                label, inputs drifted, the kill switch is on, or no asset has a bar.
        """
        return self._predict_many([date], store, lookback_days, previous)[0]

    def predict_batch(
        self,
        dates: Sequence[date],
        store: MarketDataStore,
        lookback_days: int | None = None,
        previous: Mapping[str, float] | None = None,
    ) -> list[InferenceResult]:
        """``predict`` for consecutive sessions, features built once; chains ``previous``."""
        if list(dates) != sorted(set(dates)):
            raise InferenceError(
                f"dates must ascend without repeats, found {[str(d) for d in dates[:5]]}…; "
                "sort them"
            )
        return self._predict_many(list(dates), store, lookback_days, previous)

    def _predict_many(
        self,
        dates: list[date],
        store: MarketDataStore,
        lookback_days: int | None,
        previous: Mapping[str, float] | None,
    ) -> list[InferenceResult]:
        started = time.perf_counter()
        if not dates:
            return []
        self._refuse_if_killed()
        for day in dates:
            self._refuse_wrong_age(day)
        inputs = self.inputs(store, dates[0], dates[-1], lookback_days)
        universe = self._universe(inputs.panel.symbols)
        walk = self.walk(inputs, dates[0], dates[-1], self._held(previous, inputs.panel.symbols))
        rows_of = {d.date(): i for i, d in enumerate(walk.dates)}
        missing = [d for d in dates if d not in rows_of]
        if missing:
            raise InferenceError(
                f"{missing[0]} must be a session with at least one bar of the universe, found "
                f"none; newest session in the store: {inputs.panel.dates[-1].date()}"
            )
        self.refuse_drift(inputs, dates[-1])
        importance = self._importance(inputs, [pd.Timestamp(d) for d in dates])
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return [
            self._result(
                day, rows_of[day], walk, inputs, universe, importance, previous, elapsed_ms
            )
            for day in dates
        ]

    def inputs(
        self,
        store: MarketDataStore,
        first: date,
        last: date,
        lookback_days: int | None = None,
    ) -> MarketInputs:
        """Features, closes and volatilities that predictions of [first, last] need.

        Rows of session t are built as of t. The universe is the checkpoint's.
        """
        required = self.required_lookback()
        if lookback_days is not None and lookback_days < required:
            raise InferenceError(
                f"lookback_days must be at least {required} sessions for this model (longest "
                f"feature plus sequence), found {lookback_days}; leave it out to use that"
            )
        symbols = self._universe(store.symbols()).symbols
        n_rows = max(self.ensemble.config.seq_len, self.serving.drift_sessions)
        start = store.history_start(symbols, first, n_rows)
        panel = self.builder.build(store, symbols=symbols, start=start, end=last)
        if not len(panel.dates):
            raise InferenceError(
                f"the store must hold bars of the universe up to {last}, found none from "
                f"{start} on; run `tft ingest`"
            )
        risk = session_risk(store, symbols, panel.dates[0].date(), last)
        offset = risk.dates.get_indexer(panel.dates)
        return MarketInputs(
            panel=panel,
            close=wealth(risk.returns)[offset],
            sigma_daily=risk.sigma_daily[offset],
        )

    def walk(
        self,
        inputs: MarketInputs,
        first: date,
        last: date,
        previous: Float[np.ndarray, " asset"] | None = None,
        positions_config: PositionConfig | None = None,
    ) -> Walk:
        """Raw outputs and positions on every session of ``inputs`` in [first, last]."""
        rows = self.rows(inputs)
        dates = inputs.panel.dates
        inside = np.flatnonzero((dates >= pd.Timestamp(first)) & (dates <= pd.Timestamp(last)))
        shape = (len(inside), len(inputs.panel.symbols))
        raw, disagreement = np.full(shape, np.nan), np.full(shape, np.nan)
        position_of = np.full(len(dates), -1)
        position_of[inside] = np.arange(len(inside))
        wanted = (position_of[rows.date_index] >= 0) & self._is_usable(rows)
        end_rows = np.flatnonzero(wanted)
        if len(end_rows):
            output = self.ensemble.predict(rows, end_rows)
            column_of = pd.Index(inputs.panel.symbols).get_indexer(pd.Index(rows.symbols))
            target = position_of[rows.date_index[end_rows]], column_of[rows.asset_id[end_rows]]
            raw[target] = output.z
            disagreement[target] = output.disagreement
        if np.isinf(raw).any():
            raise InferenceError("model output must be finite, found an infinity; do not trade")
        positions = walk_positions(raw, positions_config or self.positions_config, previous)
        return Walk(dates[inside], tuple(inputs.panel.symbols), raw, disagreement, positions)

    def rows(self, inputs: MarketInputs) -> RowTable:
        """The checkpoint's features, scaled with the checkpoint's scaler, as flat rows.

        The asset axis is the model's, so that ``asset_id`` is the embedding it was trained
        with; assets the model does not know are left out.
        """
        panel = inputs.panel.select(self.feature_names)
        columns = pd.Index(panel.symbols).get_indexer(pd.Index(self.metadata.asset_names))
        known = columns >= 0

        def align(wide: np.ndarray) -> np.ndarray:
            aligned = wide[:, np.where(known, columns, 0)]
            aligned[:, ~known] = np.nan
            return aligned

        close = align(inputs.close)
        return RowTable.build(
            FeaturePanel(
                values=align(panel.values),
                dates=panel.dates,
                symbols=tuple(self.metadata.asset_names),
                feature_names=self.feature_names,
            ),
            close,
            align(inputs.sigma_daily),
            np.zeros_like(close),
            self.scaler,
        )

    # -- guards --------------------------------------------------------------------------

    def _refuse_if_killed(self) -> None:
        by_env = os.environ.get(KILL_SWITCH_ENV, "").lower() not in ("", "0", "false", "no")
        file = self._home / "KILL_SWITCH" if self._home is not None else None
        if by_env or (file is not None and file.exists()):
            where = f"${KILL_SWITCH_ENV}" if by_env else str(file)
            raise InferenceError(
                f"kill_switch: the kill switch must be off to predict, found it on ({where}); "
                "remove it when trading may go on"
            )

    def _refuse_wrong_age(self, day: date) -> None:
        seen = date.fromisoformat(self.metadata.trained_through)
        if day < seen:
            raise InferenceError(
                f"model_has_seen_label: the model must not have been trained through {day}, found "
                f"bars up to {seen} in its training; use the model of that session's fold"
            )
        if day - seen > timedelta(days=self.serving.max_model_age_days):
            raise InferenceError(
                f"stale_model: the model must be at most {self.serving.max_model_age_days} days "
                f"old, found {(day - seen).days} (trained through {seen}, asked for {day}); "
                "materialize production_checkpoint"
            )

    def refuse_drift(self, inputs: MarketInputs, last: date) -> None:
        """Raise where the newest features are no longer distributed as in training."""
        quantiles = self.metadata.feature_quantiles
        recent = inputs.panel.dates <= pd.Timestamp(last)
        values = inputs.panel.select(self.feature_names).values[recent]
        psi = median_psi(
            values[-self.serving.drift_sessions :].reshape(-1, values.shape[-1]),
            np.array([quantiles[name] for name in self.feature_names], dtype=np.float64),
        )
        # NaN means that drift could not be measured, which is refused too
        if not psi <= self.serving.max_drift_psi:
            raise InferenceError(
                "feature_drift: the median population stability index of the features must be at "
                f"most {self.serving.max_drift_psi:g}, found {psi:.2f}; look at the data, then "
                "retrain or raise serving.max_drift_psi"
            )

    def _is_usable(self, rows: RowTable) -> np.ndarray:
        return (rows.coverage >= self.serving.min_coverage) & np.isfinite(rows.sigma)

    def _status(
        self, day: int, inputs: MarketInputs, walk: Walk, universe: Universe
    ) -> tuple[dict[str, str], dict[str, str]]:
        """(code, detail) per symbol; the detail is given where the code is not ``ok``."""
        stamp = walk.dates[day]
        row = int(inputs.panel.dates.get_loc(stamp))
        active = universe.active(pd.DatetimeIndex([stamp]))[0]
        known = set(self.metadata.asset_names)
        codes, details = {}, {}
        for column, symbol in enumerate(walk.symbols):
            bars = np.flatnonzero(np.isfinite(inputs.close[: row + 1, column]))
            last = inputs.panel.dates[bars[-1]].date() if len(bars) else None
            if not active[column]:
                code, detail = "not_in_universe", "its membership does not cover this session"
            elif symbol not in known:
                code, detail = "unknown_asset", "the model was not trained with it"
            elif last is None:
                code, detail = "stale_data", "no bar in the model's window"
            elif row - bars[-1] > self.serving.max_bar_age_sessions:
                code, detail = "stale_data", f"last bar {last}"
            elif bars[-1] != row:
                code, detail = "no_session", f"last bar {last}"
            elif np.isnan(walk.raw[day, column]):
                code, detail = "short_history", "too few features have a value, or no volatility"
            else:
                codes[symbol] = OK
                continue
            codes[symbol], details[symbol] = code, detail
        return codes, details

    # -- assembly ------------------------------------------------------------------------

    def _universe(self, symbols: Sequence[str]) -> Universe:
        return Universe.resolve(self.universe_config, tuple(symbols))

    @staticmethod
    def _held(
        previous: Mapping[str, float] | None, symbols: Sequence[str]
    ) -> Float[np.ndarray, " asset"] | None:
        if previous is None:
            return None
        held = np.array([previous.get(symbol, 0.0) for symbol in symbols], dtype=np.float64)
        if not np.isfinite(held).all():
            bad = symbols[int(np.flatnonzero(~np.isfinite(held))[0])]
            raise InferenceError(
                f"previous position of {bad} must be finite, found {previous[bad]}"
            )
        return held

    def _importance(
        self, inputs: MarketInputs, dates: list[pd.Timestamp]
    ) -> dict[tuple[pd.Timestamp, str], dict[str, float]]:
        rows = self.rows(inputs)
        stamps = rows.dates[rows.date_index]
        end_rows = np.flatnonzero(stamps.isin(dates) & self._is_usable(rows))
        if not len(end_rows):
            return {}
        shares = self.ensemble.importance(rows, end_rows)
        order = np.argsort(-np.abs(shares), axis=1)[:, : self.serving.top_features]
        return {
            (stamps[row], rows.symbols[rows.asset_id[row]]): {
                self.feature_names[j]: float(shares[i, j]) for j in order[i]
            }
            for i, row in enumerate(end_rows)
        }

    def _result(
        self,
        day: date,
        index: int,
        walk: Walk,
        inputs: MarketInputs,
        universe: Universe,
        importance: dict[tuple[pd.Timestamp, str], dict[str, float]],
        previous: Mapping[str, float] | None,
        elapsed_ms: float,
    ) -> InferenceResult:
        status, reasons = self._status(index, inputs, walk, universe)
        usable = {s: i for i, s in enumerate(walk.symbols) if status[s] == OK}
        raw = {s: float(walk.raw[index, i]) for s, i in usable.items()}
        stamp = walk.dates[index]
        return InferenceResult(
            date=day,
            positions={s: float(walk.positions[index, i]) for s, i in usable.items()},
            confidences={s: self.confidence(raw[s]) for s in usable},
            feature_importance={s: importance.get((stamp, s), {}) for s in usable},
            raw_output=raw,
            status=status,
            metadata={
                "model_type": self.metadata.model_type,
                "checkpoint_version": self.metadata.version,
                "checkpoint_hash": self.checkpoint_hash,
                "checkpoint_path": str(self.path) if self.path else None,
                "trained_through": self.metadata.trained_through,
                "fold": self.metadata.fold,
                "reasons": reasons,
                "max_position": self.positions_config.max_position,
                "previous": "given" if previous is not None else "unknown: started flat",
                # what has left the universe is held no longer
                "held": {
                    s: 0.0 if status[s] in GONE else float(walk.positions[index, i])
                    for i, s in enumerate(walk.symbols)
                },
                "disagreement": {
                    s: finite_or_none(walk.disagreement[index, i]) for s, i in usable.items()
                },
                "n_features": len(self.feature_names),
                "lookback_sessions": self.required_lookback(),
                "inference_time_ms": elapsed_ms,
            },
        )

    def confidence(self, raw: float) -> float:
        """Calibrated probability that the sign of a raw output is right.

        Piecewise-linear through the knots that training measured on validation rows
        (isotonic in |z|); outside the knots the nearest one holds.
        """
        knots = self.metadata.training_info["confidence_knots"]
        return float(np.interp(abs(raw), knots["abs_output"], knots["hit_rate"]))


def median_psi(
    values: Float[np.ndarray, "row feature"],
    quantiles: Float[np.ndarray, "feature quantile"],
) -> float:
    """Median over features of the population stability index against training quantiles.

    Features without a value in either sample are left out; NaN if none is left.

    Source:
        PSI = Σ_b (q_b − p_b) ln(q_b / p_b), with half a row added to each bin.
    """
    n_bins = quantiles.shape[1] - 1
    expected = np.full(n_bins, 1.0 / n_bins)
    figures = []
    for column, edges in zip(values.T, quantiles, strict=True):
        finite = column[np.isfinite(column)]
        inner = edges[1:-1]
        # a feature with ties (an indicator, a calendar flag) has no such bins
        if len(finite) < 5 * n_bins or not np.isfinite(inner).all() or (np.diff(inner) <= 0).any():
            continue
        counts = np.bincount(np.searchsorted(inner, finite), minlength=n_bins)
        actual = (counts + 0.5) / (counts.sum() + 0.5 * n_bins)
        figures.append(float(np.sum((actual - expected) * np.log(actual / expected))))
    return float(np.median(figures)) if figures else float("nan")


__all__ = [
    "OK",
    "InferenceResult",
    "MarketInputs",
    "ServingConfig",
    "TFTInferencePipeline",
    "Walk",
    "median_psi",
]
