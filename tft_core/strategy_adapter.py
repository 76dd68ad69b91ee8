"""The model as a strategy: ``TFTStrategy`` behind the ``BaseStrategy`` contract.

``signals_from`` is the one function that turns positions into signals; the Dagster asset calls
it too. Positions are made in ``inference``; what was published before comes from the ledger.
"""

import math
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tft_core.config import Settings, load_settings
from tft_core.errors import StrategyError
from tft_core.schema import MODEL_TYPE, finite_or_none
from tft_core.strategy.ledger import Ledger
from tft_core.strategy.protocol import BaseStrategy, Holdings, Signal

STRATEGY_MAJOR = 1
"""Part of the id; a new one is a new strategy, with a history of its own."""
STRATEGY_ID = f"s_tft_{MODEL_TYPE}_v{STRATEGY_MAJOR}"
CONVICTION_THRESHOLD = 0.3
"""Share of the largest position, where neither caller nor ``serving`` says otherwise."""
EXIT_REASONS = ("not_in_universe", "unknown_asset")
"""Status codes after which no answer will come: what was on is closed. Any other reason (a
holiday, late data) passes, and the position is held."""
OK = "ok"


@runtime_checkable
class Prediction(Protocol):
    """What is read of an ``InferenceResult``."""

    @property
    def date(self) -> date: ...
    @property
    def positions(self) -> dict[str, float]: ...
    @property
    def confidences(self) -> dict[str, float]: ...
    @property
    def raw_output(self) -> dict[str, float]: ...
    @property
    def status(self) -> dict[str, str]: ...
    @property
    def metadata(self) -> dict[str, Any]: ...


@runtime_checkable
class Pipeline(Protocol):
    """What is asked of a ``TFTInferencePipeline``."""

    def predict(
        self,
        date: date,
        store: Any,
        lookback_days: int | None = None,
        previous: Mapping[str, float] | None = None,
    ) -> Prediction: ...

    def required_lookback(self) -> int: ...


def signals_from(
    result: Prediction,
    previous: Mapping[str, float] | None,
    *,
    strategy_id: str = STRATEGY_ID,
    conviction_threshold: float = CONVICTION_THRESHOLD,
    max_position: float | None = None,
    open_directions: Mapping[str, str] | None = None,
) -> list[Signal]:
    """Signals of one session, by symbol.

    A position is *on* where its conviction |p| / max_position is above the threshold. On: its
    direction, every session (a change of sign is the new direction). On before and no longer:
    ``flat``. On before and without an answer now: nothing, the position is held (the ledger's
    ``positions`` show it with the reason); but where no answer will come (``EXIT_REASONS``, or
    the symbol is gone from the result): ``flat``.

    Args:
        result: The session's prediction.
        previous: Positions published for the session before; ``None`` means unknown, and each
            signal's ``previous_position`` says so.
        max_position: Default: the result's own.
        open_directions: Symbol → ``long``/``short`` that the ledger's signals left on; default:
            what the threshold says of ``previous``. Give it where it is known: after a change of
            ``max_position`` or threshold the rule says something else of an old position.

    Raises:
        StrategyError: A position is NaN or beyond its limit, or positions, confidences and
            statuses do not fit; all such symbols are named. There is no signal then.
    """
    limit = _limit(result, max_position)
    if not 0.0 <= conviction_threshold < 1.0:
        raise StrategyError(
            f"conviction_threshold must lie in [0, 1), found {conviction_threshold}; correct "
            "serving.conviction_threshold"
        )
    _refuse_bad_result(result, limit)
    before = dict(previous or {})
    was_on = (
        dict(open_directions)
        if open_directions is not None
        else {s: _direction(p) for s, p in before.items() if abs(p) / limit > conviction_threshold}
    )
    common = {
        "model_type": result.metadata.get("model_type"),
        "checkpoint_version": result.metadata.get("checkpoint_version"),
        "checkpoint_hash": result.metadata.get("checkpoint_hash"),
    }
    signals: list[Signal] = []
    for symbol in sorted(result.status.keys() | was_on.keys()):
        status = result.status.get(symbol, "not_in_universe: the model does not cover it")
        position = result.positions.get(symbol, 0.0)
        conviction = min(abs(position) / limit, 1.0)
        if status == OK and conviction > conviction_threshold:
            direction = _direction(position)
            reason = {None: "entry", direction: "hold"}.get(was_on.get(symbol), "flip")
        elif symbol in was_on and status == OK:
            direction, reason = "flat", "below_threshold"
        elif symbol in was_on and status.split(":")[0] in EXIT_REASONS:
            direction, reason = "flat", status.split(":")[0]
        else:
            continue
        signals.append(
            Signal(
                strategy_id=strategy_id,
                symbol=symbol,
                direction=direction,
                conviction=conviction,
                metadata={
                    **common,
                    "raw_position": position,
                    "raw_output": result.raw_output.get(symbol),
                    "confidence": finite_or_none(result.confidences.get(symbol, math.nan)),
                    "previous_position": None if previous is None else before.get(symbol),
                    "reason": reason,
                },
            )
        )
    return signals


def positions_after(result: Prediction, previous: Mapping[str, float] | None) -> dict[str, float]:
    """Positions to publish: the new ones, and the held ones of assets without an answer."""
    held = result.metadata.get("held")
    if held is not None:
        return dict(held)
    return {**(previous or {}), **result.positions}


class TFTStrategy(BaseStrategy):
    """The promoted model as a strategy.

    The model is loaded on the first scan, and again when another version takes over; each
    session is scanned with the version that was in production on it.

    Args:
        state_dir: See ``BaseStrategy``.
        ledger: Where previous positions come from; default the configured one.
        loader: Gives the pipeline of a session; default: the production checkpoint's.
        conviction_threshold: Default: ``serving.conviction_threshold`` of the configuration.
        publish: Write each scan to the ledger. For use without our ``Orchestrator`` or Dagster,
            where nobody else does: without a ledger there are no exits.
        settings: Default: the configuration file.
    """

    def __init__(
        self,
        state_dir: str | Path | None = None,
        *,
        ledger: Ledger | None = None,
        loader: Callable[[date], Pipeline] | None = None,
        conviction_threshold: float | None = None,
        publish: bool = False,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(state_dir)
        self._ledger = ledger
        self._loader = loader or self._load_production
        self._threshold = conviction_threshold
        self._publishes = publish
        self._settings = settings
        self._pipeline: Pipeline | None = None
        self._directory: Path | None = None
        self._last: tuple[date, Holdings] | None = None

    @property
    def strategy_id(self) -> str:
        return STRATEGY_ID

    @property
    def is_loaded(self) -> bool:
        """True once a scan has loaded the model."""
        return self._pipeline is not None

    def warmup_days(self) -> int:
        """Sessions of history one prediction needs; loads the model that serves today."""
        pipeline = self._pipeline or self._loader(date.today())
        return pipeline.required_lookback()

    def bind_ledger(self, ledger: Ledger) -> None:
        """Use this ledger and leave publishing to its owner, the orchestrator."""
        self._ledger, self._publishes = ledger, False

    def _scan_impl(self, d: date, store: Any) -> list[Signal]:
        ledger = self._ledger = self._ledger or Ledger(self._configured().ledger_path)
        pipeline = self._pipeline = self._loader(d)
        previous = ledger.previous_positions(self.strategy_id, d)
        result = pipeline.predict(d, store, previous=previous)
        if result.date != d:
            raise StrategyError(
                f"the prediction must be of {d}, found {result.date}; no signal was made"
            )
        signals = signals_from(
            result,
            previous,
            strategy_id=self.strategy_id,
            conviction_threshold=self._conviction_threshold(),
            open_directions={
                signal.symbol: signal.direction
                for signal in ledger.open_signals(self.strategy_id, d)
            },
        )
        holdings = Holdings(
            positions=positions_after(result, previous),
            status=dict(result.status),
            checkpoint_hash=result.metadata.get("checkpoint_hash"),
        )
        self._last = (d, holdings)
        if self._publishes:
            ledger.publish(
                self.strategy_id, d, signals, holdings.positions, "scan",
                checkpoint_hash=holdings.checkpoint_hash, status=holdings.status,
            )  # fmt: skip
        return signals

    def holdings(self, d: date) -> Holdings | None:
        """Positions and statuses of the scan of ``d``; ``None`` if another day was last."""
        return self._last[1] if self._last is not None and self._last[0] == d else None

    def _conviction_threshold(self) -> float:
        if self._threshold is None:
            from tft_core.inference import ServingConfig

            serving = self._configured().build(ServingConfig, "serving")
            self._threshold = serving.conviction_threshold
        return self._threshold

    def _configured(self) -> Settings:
        self._settings = self._settings or load_settings()
        return self._settings

    def _load_production(self, d: date) -> Pipeline:
        """The pipeline of the version in production on ``d``; the one at hand if it is that."""
        from tft_core.checkpoint_manager import CheckpointManager
        from tft_core.inference import ServingConfig, TFTInferencePipeline

        settings = self._configured()
        directory = CheckpointManager(settings.checkpoints_dir).production_path(MODEL_TYPE, d)
        if self._pipeline is None or directory != self._directory:
            self._pipeline = TFTInferencePipeline.from_checkpoint(
                directory, serving=settings.build(ServingConfig, "serving"), home=settings.home
            )
            self._directory = directory
        return self._pipeline


def create_strategy() -> TFTStrategy:
    """What ``StrategyRegistry.discover`` calls. It publishes its scans, since a foreign
    orchestrator will not; ours takes that over."""
    return TFTStrategy(publish=True)


def _direction(position: float) -> str:
    return "long" if position > 0 else "short"


def _limit(result: Prediction, max_position: float | None) -> float:
    limit = result.metadata.get("max_position") if max_position is None else max_position
    if not isinstance(limit, (int, float)) or not 0.0 < limit < math.inf:
        raise StrategyError(
            f"max_position must be above 0, found {limit}; give it, or a result that has it"
        )
    return float(limit)


def _refuse_bad_result(result: Prediction, limit: float) -> None:
    problems = []
    for symbol, position in sorted(result.positions.items()):
        if not math.isfinite(position):
            problems.append(f"position of {symbol} must be finite, found {position}")
        elif abs(position) > limit * (1.0 + 1e-6):
            problems.append(f"position of {symbol} must lie within ±{limit:g}, found {position:g}")
        if result.status.get(symbol) != OK:
            found = result.status.get(symbol, "no status")
            problems.append(f"{symbol} has a position, so its status must be ok, found {found!r}")
        confidence = result.confidences.get(symbol)
        # NaN says that validation could not tell; an answer without any is a broken one
        if confidence is None or not (math.isnan(confidence) or 0.0 <= confidence <= 1.0):
            problems.append(
                f"confidence of {symbol} must lie in [0, 1] or be NaN, found {confidence}"
            )
    problems += [
        f"{symbol} has status ok, so it must have a position, found none"
        for symbol, status in sorted(result.status.items())
        if status == OK and symbol not in result.positions
    ]
    if problems:
        raise StrategyError("; ".join(problems) + "; no signal was made")


__all__ = [
    "CONVICTION_THRESHOLD",
    "STRATEGY_ID",
    "TFTStrategy",
    "create_strategy",
    "positions_after",
    "signals_from",
]
