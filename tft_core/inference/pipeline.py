"""Serving: from a checkpoint and the market store to positions, or to a stated reason.

Training's own walk through a test window calls the same ``walk``, so a backfill of the
past reproduces the out-of-sample record. Nothing here trains or tunes.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import date, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from tft_core.checkpoint_manager import CheckpointManager, CheckpointMetadata
from tft_core.confidence import Calibration
from tft_core.config import Settings, build_dataclass, load_settings
from tft_core.data.store import MarketDataStore
from tft_core.data.universe import Universe, UniverseConfig
from tft_core.errors import InferenceError
from tft_core.features.builder import FeatureConfig, MegaFeatureBuilder
from tft_core.features.normalization import Scaler
from tft_core.features.panel import FeaturePanel
from tft_core.features.row_cache import RowCache
from tft_core.inference import guards
from tft_core.inference.answer import Walk, explain_sessions, row_codes, session_status
from tft_core.inference.config import ServingConfig
from tft_core.inference.inputs import MarketInputs, read_market
from tft_core.inference.reasons import OK, Refusal
from tft_core.inference.result import InferenceResult
from tft_core.models.attribution import Attribution
from tft_core.models.config import XTrendConfig
from tft_core.models.ensemble import Ensemble
from tft_core.positions import PositionConfig, portfolio_weights, walk_positions
from tft_core.schema import MODEL_TYPE, finite_or_none
from tft_core.sequences import RowTable

Explain = Literal["all", "last", "none"]
"""Which sessions of a batch get their feature attribution."""

GONE = ("not_in_universe", "unknown_asset")
"""Status codes after which an asset gets no answer any more."""


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
        self.calibration = Calibration.from_dict(
            dict(metadata.training_info.get("confidence_knots") or {})
        )
        _refuse_defaults(metadata)
        self.positions_config = build_dataclass(
            PositionConfig, metadata.position_config, where="checkpoint position_config"
        )
        self.universe_config = build_dataclass(
            UniverseConfig, metadata.universe["config"], where="checkpoint universe"
        )
        features = build_dataclass(
            FeatureConfig, metadata.universe["features"], where="checkpoint features"
        )
        every = MegaFeatureBuilder(features, self.universe_config)
        guards.refuse_mismatch(metadata, every, self.scaler, ensemble)
        used = set(metadata.feature_names)
        groups = tuple(name for name, names in every.groups.items() if used & set(names))
        self.builder = MegaFeatureBuilder(
            replace(features, groups=groups),  # what the model does not read is not built
            self.universe_config,
            RowCache(2 * self._n_rows),  # assets pause, so a prediction asks for a few more
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

        Args:
            serving: Default: the limits of ``ServingConfig`` itself.
            home: Where the kill switch's file is looked for; default: where the registry lies.

        Raises:
            CheckpointError: A file is missing, damaged or does not fit the metadata.
            Refusal: It was made for other features, or lacks or contradicts something.
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
            home=path.resolve().parent.parent.parent if home is None else home,
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
        """Sessions of history one prediction needs, for its window and for the guards."""
        return self.builder.required_lookback() + self._n_rows - 1

    @property
    def _n_rows(self) -> int:
        return max(self.ensemble.config.seq_len, self.serving.drift_sessions)

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
                smoothing then starts flat, and the result says so. A symbol it does not name
                was never held.

        As of:
            The close of ``date``; later bars and later restatements are not read.

        Raises:
            Refusal: No answer must be given; ``code`` says why (see ``reasons``).
            InferenceError: The call itself is wrong.
        """
        return self._predict_many([date], store, lookback_days, previous, "all")[0]

    def predict_batch(
        self,
        dates: Sequence[date],
        store: MarketDataStore,
        lookback_days: int | None = None,
        previous: Mapping[str, float] | None = None,
        explain: Explain = "last",
    ) -> list[InferenceResult]:
        """``predict`` for consecutive sessions, features built once; chains ``previous``.

        Args:
            explain: Sessions whose features are attributed: attribution costs as much for each
                session of a batch as for a single one.

        Raises:
            Refusal: Some session must get no answer; none of the batch is given then.
        """
        if list(dates) != sorted(set(dates)):
            raise InferenceError(
                f"dates must ascend without repeats, found {[str(d) for d in dates[:5]]}…; "
                "sort them"
            )
        return self._predict_many(list(dates), store, lookback_days, previous, explain)

    def _predict_many(
        self,
        dates: list[date],
        store: MarketDataStore,
        lookback_days: int | None,
        previous: Mapping[str, float] | None,
        explain: Explain,
    ) -> list[InferenceResult]:
        started = time.perf_counter()
        if not dates:
            return []
        for day in dates:  # a moment compares with no date, and would miss its own session
            if isinstance(day, datetime) or not isinstance(day, date):
                raise InferenceError(
                    f"a session must be a date without time, found {day!r}; use .date()"
                )
        guards.refuse_if_killed(self._home)
        guards.refuse_thin_ensemble(len(self.ensemble), self.serving)
        for day in dates:
            guards.refuse_wrong_age(self.metadata, day, self.serving)
        inputs = self.inputs(store, dates[0], dates[-1], lookback_days)
        symbols = inputs.panel.symbols
        trading = [s for s, has in zip(symbols, inputs.has_bars, strict=True) if has]
        guards.refuse_unknown_calendar(store, trading, dates)
        held = guards.refuse_bad_previous(previous, symbols)
        rows = self.rows(inputs)
        walk = self.walk(inputs, dates[0], dates[-1], held, rows=rows)
        stamps = pd.DatetimeIndex(dates)
        at = walk.dates.get_indexer(stamps)
        if (at < 0).any():
            raise Refusal(
                "no_data",
                f"{dates[int(np.flatnonzero(at < 0)[0])]} must be a session with at least one bar "
                f"of the universe, found none; the newest is {inputs.panel.dates[-1].date()}",
            )
        self.refuse_drift(inputs, dates[-1], stamps)
        weights = self.weights(inputs, walk)
        active = self._is_member(symbols, walk.dates)
        explained = explain_sessions(
            self.ensemble,
            rows,
            walk,
            {"all": at, "last": at[-1:], "none": at[:0]}[explain],
            self.serving.threads,
        )
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return [
            self._result(
                day, int(i), inputs, walk, weights[i], active, explained, previous, elapsed_ms
            )
            for day, i in zip(dates, at, strict=True)
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
        held = store.symbols()
        guards.refuse_missing_members(self.universe_config, held)
        symbols = Universe.resolve(self.universe_config, held).symbols
        start = store.history_start(symbols, first, self._n_rows)
        if not len(store.session_dates(symbols, start, last)):
            raise Refusal(
                "no_data",
                f"the store must hold bars of the universe up to {last}, found none since {start}",
            )
        panel = self.builder.build(store, symbols=symbols, start=start, end=last)
        return read_market(store, panel, last, self.serving)

    def walk(
        self,
        inputs: MarketInputs,
        first: date,
        last: date,
        previous: Float[np.ndarray, " asset"] | None = None,
        positions_config: PositionConfig | None = None,
        *,
        rows: RowTable | None = None,
    ) -> Walk:
        """Outputs and positions on every session of ``inputs`` in [first, last].

        Args:
            rows: ``self.rows(inputs)``, where it was made already.

        Raises:
            Refusal: The network gave a number that is not finite.
        """
        table = self.rows(inputs) if rows is None else rows
        dates, symbols = inputs.panel.dates, tuple(inputs.panel.symbols)
        inside = np.flatnonzero((dates >= pd.Timestamp(first)) & (dates <= pd.Timestamp(last)))
        codes = row_codes(inputs, table, inside, self.scaler.clip, self.serving)
        column_of = pd.Index(symbols).get_indexer(pd.Index(table.symbols))
        place = np.full(len(dates), -1)
        place[inside] = np.arange(len(inside))
        cell = place[table.date_index], column_of[table.asset_id]
        wanted = (cell[0] >= 0) & (cell[1] >= 0)
        wanted[wanted] = codes[cell[0][wanted], cell[1][wanted]] == ""
        end_rows = np.flatnonzero(wanted)
        raw, disagreement = (np.full((len(inside), len(symbols)), np.nan) for _ in range(2))
        output = None
        if len(end_rows):
            output = self.ensemble.predict(table, end_rows, workers=self.serving.threads)
        if output is not None:
            target = cell[0][end_rows], cell[1][end_rows]
            guards.refuse_bad_output(output, table, end_rows)
            raw[target], disagreement[target] = output.z, output.disagreement
            split = disagreement > self.serving.max_disagreement
            codes[split], raw[split] = "members_disagree", np.nan
        positions = walk_positions(
            raw,
            positions_config or self.positions_config,
            previous,
            is_member=self._is_member(symbols, dates[inside]) & self._is_known(symbols),
        )
        return Walk(dates[inside], symbols, raw, disagreement, positions, codes, end_rows, output)

    def weights(self, inputs: MarketInputs, walk: Walk) -> Float[np.ndarray, "time asset"]:
        """Capital weights of a walk's positions; NaN where an asset never had a volatility."""
        at = inputs.panel.dates.get_indexer(walk.dates)
        sigma = inputs.sigma_carried[at]
        n_assets = self._universe(walk.symbols).size(walk.dates)
        weights = portfolio_weights(walk.positions, sigma, n_assets, self.positions_config)
        return np.where(np.isfinite(sigma), weights, np.nan)

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

    def refuse_drift(
        self, inputs: MarketInputs, last: date, dates: pd.DatetimeIndex | None = None
    ) -> None:
        """Raise where the features of ``dates`` (default: the newest row) have drifted."""
        recent = inputs.panel.dates[inputs.panel.dates <= pd.Timestamp(last)]
        guards.refuse_drift(
            inputs.panel.select(self.feature_names),
            self.metadata.feature_quantiles,
            recent[-1:] if dates is None else dates,
            self.serving,
        )

    # -- assembly ------------------------------------------------------------------------

    def _universe(self, symbols: Sequence[str]) -> Universe:
        """The checkpoint's universe with these symbols first; members without data included."""
        members = {s for member in self.universe_config.members for s in member.symbols}
        resolved = Universe.resolve(
            self.universe_config, (*symbols, *sorted(members - set(symbols)))
        )
        return resolved

    def _is_member(
        self, symbols: Sequence[str], dates: pd.DatetimeIndex
    ) -> Bool[np.ndarray, "time asset"]:
        """True where each of these symbols belongs to the universe, which may hold more."""
        return self._universe(symbols).holds(symbols, dates)

    def _is_known(self, symbols: Sequence[str]) -> np.ndarray:
        return np.isin(np.array(symbols, dtype=object), np.array(self.metadata.asset_names))

    def _result(
        self,
        day: date,
        index: int,
        inputs: MarketInputs,
        walk: Walk,
        weights: Float[np.ndarray, " asset"],
        active: Bool[np.ndarray, "time asset"],
        explained: Mapping[tuple[pd.Timestamp, str], tuple[Attribution, int]],
        previous: Mapping[str, float] | None,
        elapsed_ms: float,
    ) -> InferenceResult:
        gross = guards.refuse_exposure(
            weights, walk.positions[index], walk.symbols, day, self.serving
        )
        status, reasons = session_status(
            index, inputs, walk, active[index], self._is_known(walk.symbols), self.serving
        )
        usable = {s: i for i, s in enumerate(walk.symbols) if status[s] == OK}
        stamp = walk.dates[index]
        columns = list(usable.values())
        confidence = self.calibration.probability(
            walk.raw[index, columns], walk.disagreement[index, columns]
        )
        importance, attribution = {}, {}
        for symbol in usable:
            if (stamp, symbol) in explained:
                made, row = explained[stamp, symbol]
                importance[symbol], attribution[symbol] = made.shown(
                    row, self.feature_names, self.serving.top_features
                )
        return InferenceResult(
            date=day,
            positions={s: float(walk.positions[index, i]) for s, i in usable.items()},
            confidences=dict(zip(usable, confidence.tolist(), strict=True)),
            feature_importance=importance,
            raw_output={s: float(walk.raw[index, i]) for s, i in usable.items()},
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
                "held": {
                    s: float(p) for s, p in zip(walk.symbols, walk.positions[index], strict=True)
                },
                "weights": {
                    s: finite_or_none(w) for s, w in zip(walk.symbols, weights, strict=True)
                },
                "gross_exposure": gross,
                "disagreement": {
                    s: finite_or_none(walk.disagreement[index, i]) for s, i in usable.items()
                },
                "attribution": attribution,
                "n_features": len(self.feature_names),
                "lookback_sessions": self.required_lookback(),
                "threads": self.serving.threads,
                "inference_time_ms": elapsed_ms,
            },
        )


def _refuse_defaults(metadata: CheckpointMetadata) -> None:
    """Sizes and universe must be the trained ones: today's defaults stand in for none of them."""
    stored = metadata.universe
    guards.refuse_incomplete(stored, ("config", "features"), "universe")
    for what, values, cls in (
        ("position_config", metadata.position_config, PositionConfig),
        ("universe.config", stored["config"], UniverseConfig),
    ):
        guards.refuse_incomplete(values, [field.name for field in fields(cls)], what)
