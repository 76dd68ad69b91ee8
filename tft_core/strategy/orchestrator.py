"""One decision day: every strategy scans, its answer is published, targets and actions follow.

The ledger makes a session's publication happen once, the book makes its actions be asked for
once: a rerun changes nothing. A strategy that fails is reported; the others go on.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tft_core.checkpoint_manager.atomic import locked, make_directory
from tft_core.errors import StrategyError
from tft_core.logs import get_logger
from tft_core.strategy.book import Book, Held, Positions, change, from_signals, size_of
from tft_core.strategy.ledger import Ledger
from tft_core.strategy.protocol import Holdings, Leg, Signal, StrategyProtocol
from tft_core.strategy.publication import Publication
from tft_core.strategy.registry import StrategyRegistry, default_registry

EventLog = Callable[[dict[str, Any]], None]
logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TargetPosition:
    """What an allocator wants held."""

    strategy_id: str
    symbol: str
    direction: str
    weight: float
    """Size, without sign."""
    instrument_type: str = "FUT"
    strike: float = 0.0
    expiry: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def leg(self) -> Leg:
        """The instrument meant."""
        return (self.symbol, self.instrument_type, float(self.strike), self.expiry)


@dataclass(frozen=True, slots=True)
class RiskCheck:
    """What a risk manager says of one target."""

    target: TargetPosition
    approved: bool
    blocked: bool
    gate: str
    adjusted_weight: float
    reason: str


@runtime_checkable
class Allocator(Protocol):
    """Turns signals into sized targets."""

    def allocate(self, signals: list[Signal], regime: Any) -> list[TargetPosition]:
        """Targets of one session; what gets none is left as it is held."""
        ...


@runtime_checkable
class RiskManager(Protocol):
    """Approves, cuts or blocks targets. Its results have the fields of ``RiskCheck``."""

    def check(self, targets: list[TargetPosition], state: Any) -> list[Any]:
        """One answer a target; ``state`` is what is held before (``book.Positions``)."""
        ...


class SignalAllocator:
    """One target a signal, sized by its raw position, else by its conviction."""

    def allocate(self, signals: list[Signal], regime: Any) -> list[TargetPosition]:
        """One target a signal, in their order; the regime is not looked at."""
        return [
            TargetPosition(
                strategy_id=signal.strategy_id,
                symbol=signal.symbol,
                direction=signal.direction,
                weight=0.0 if signal.direction == "flat" else size_of(signal),
                instrument_type=signal.instrument_type,
                strike=signal.strike,
                expiry=signal.expiry,
                metadata=dict(signal.metadata),
            )
            for signal in signals
        ]


class Orchestrator:
    """Runs strategies day by day into the ledger.

    Args:
        store: The market store that strategies read.
        registry: Default: ``default_registry``, discovered if it is empty.
        allocator: Default: one target a signal.
        risk_manager: Default: none; every target is approved, and its check says so.
        state_file: The book of what was asked to be held (see ``book``); default beside the
            ledger. Where it is missing, what the ledger's signals left on is assumed held.
        event_log: A callable, or a file that gets one JSON line a day.
        ledger: Default: the configured one.
        regime_detector: ``(store, d) → regime`` for the allocator; default: "unknown".
    """

    def __init__(
        self,
        store: Any,
        registry: StrategyRegistry | None = None,
        allocator: Allocator | None = None,
        risk_manager: RiskManager | None = None,
        state_file: str | Path | None = None,
        event_log: EventLog | str | Path | None = None,
        ledger: Ledger | None = None,
        regime_detector: Callable[[Any, date], Any] | None = None,
    ) -> None:
        self.store = store
        self.registry = default_registry if registry is None else registry
        if registry is None and not len(self.registry):
            self.registry.discover()
        self.allocator: Allocator = allocator or SignalAllocator()
        self.risk_manager = risk_manager
        self.event_log = event_log
        self.ledger = ledger or Ledger()
        beside = self.ledger.path.with_name("orchestrator_book.json")
        self.state_file = Path(state_file) if state_file is not None else beside
        self.regime_detector = regime_detector
        for strategy in self.registry.all():
            # a strategy that reads or publishes for itself must use this very ledger
            bind = getattr(strategy, "bind_ledger", None)
            if bind is not None:
                bind(self.ledger)

    def run_day(
        self, d: date, *, cause: str = "scheduled", redeliver: bool = False
    ) -> dict[str, Any]:
        """Scan, publish, allocate, check, and say what to do.

        Args:
            d: The decision session. One older than the book's is published but not acted on.
            cause: Why it runs; recorded with what is published.
            redeliver: Give the actions of the book's newest session again, e.g. after a crash
                between this call and the broker. Each action carries the same ``order_key`` as
                the first time, by which the broker's side tells doubles.

        Returns:
            ``date, signals, targets, risk_checks, actions, regime`` as in the predecessor, and
            ``failures`` (strategy → error), ``published`` (strategy → revision, is_new, cause),
            ``problems`` (strategies that could not be loaded). Signals are the ledger's.

        Raises:
            StrategyError: The book is damaged, or another process held it for ten minutes.
        """
        make_directory(self.state_file.resolve().parent)
        lock = self.state_file.with_name(f".{self.state_file.name}.lock")
        with locked(lock, 600.0, f"the book {self.state_file}", StrategyError):
            return self._run_day(d, cause, redeliver)

    # -- inside ----------------------------------------------------------------------------

    def _run_day(self, d: date, cause: str, redeliver: bool) -> dict[str, Any]:
        book = Book.read(self.state_file)
        before = self._positions_before(book, d, redeliver)
        if book is None:
            # before anything is published: a crash in between must not look as if it was acted on
            Book(d, before, before).write(self.state_file)
        regime = self.regime_detector(self.store, d) if self.regime_detector else "unknown"
        published: dict[str, Publication] = {}
        failures: dict[str, str] = {}
        for strategy in self.registry.all():
            name = strategy.strategy_id
            try:
                published[name] = self._publish(strategy, d, cause)
            except Exception as error:  # noqa: BLE001 - foreign code: reported, others go on
                failures[name] = f"{type(error).__name__}: {error}"
                logger.error("strategy %s failed on %s: %s", name, d, error)
        signals = [signal for made in published.values() for signal in made.signals]
        targets = self.allocator.allocate(signals, regime)
        checks = self._check(targets, before)
        actions, after = _actions(checks, before, published, d)
        is_past = book is not None and book.session > d
        result = {
            "date": d,
            "signals": signals,
            "targets": targets,
            "risk_checks": checks,
            "actions": [] if is_past else actions,
            "regime": regime,
            "failures": failures,
            "published": {
                name: {"revision": made.revision, "is_new": made.is_new, "cause": made.cause}
                for name, made in published.items()
            },
            "problems": [asdict(problem) for problem in self.registry.problems],
        }
        if not is_past:
            start = book.before if book is not None and book.session == d else before
            Book(d, start, after).write(self.state_file)
        self._log(result)
        return result

    def _positions_before(self, book: Book | None, d: date, redeliver: bool) -> Positions:
        if book is None:
            # asked before this run publishes: an earlier run's publication counts as acted on
            names = self.registry.list_ids()
            return from_signals(
                signal
                for name in names
                for signal in self.ledger.open_signals(name, d, inclusive=not redeliver)
            )
        return dict(book.before if redeliver and book.session == d else book.after)

    def _publish(self, strategy: StrategyProtocol, d: date, cause: str) -> Publication:
        name = strategy.strategy_id
        signals = strategy.scan(d, self.store)
        if not isinstance(signals, list) or not all(isinstance(s, Signal) for s in signals):
            raise StrategyError(f"scan of {name} must give a list of Signal, found {signals!r:.80}")
        if strategy.strategy_id != name:
            raise StrategyError(
                f"strategy_id must be stable, found {name!r} turned into {strategy.strategy_id!r}"
            )
        report = getattr(strategy, "holdings", None)
        holdings: Holdings | None = report(d) if report is not None else None
        if holdings is None:
            holdings = self._holdings_from(signals, name, d)
        return self.ledger.publish(
            name, d, signals, holdings.positions, cause,
            checkpoint_hash=holdings.checkpoint_hash, status=holdings.status,
        )  # fmt: skip

    def _holdings_from(self, signals: Sequence[Signal], name: str, d: date) -> Holdings:
        """Positions that signals alone imply: ± conviction; what is not named is held on."""
        held = dict(self.ledger.previous_positions(name, d) or {})
        spoken: dict[str, float] = {}
        for signal in signals:
            size = signal.sign * float(signal.conviction)
            spoken[signal.symbol] = spoken.get(signal.symbol, 0.0) + size
        return Holdings(positions={**held, **spoken})

    def _check(self, targets: list[TargetPosition], before: Positions) -> list[Any]:
        if self.risk_manager is not None:
            return list(self.risk_manager.check(targets, before))
        return [
            RiskCheck(
                target=target,
                approved=True,
                blocked=False,
                gate="none",
                adjusted_weight=target.weight,
                reason="no risk manager is configured",
            )
            for target in targets
        ]

    def _log(self, result: Mapping[str, Any]) -> None:
        if self.event_log is None:
            return
        line = {key: result[key] for key in ("actions", "published", "failures", "problems")} | {
            "date": result["date"].isoformat(),
            "regime": str(result["regime"]),
        }
        if callable(self.event_log):
            self.event_log(line)
            return
        path = Path(self.event_log)
        make_directory(path.resolve().parent)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, sort_keys=True) + "\n")


def _actions(
    checks: Sequence[Any], before: Positions, published: Mapping[str, Publication], d: date
) -> tuple[list[dict[str, Any]], Positions]:
    """What to do for the book to become what was approved, and the book after. A close passes
    whatever the risk manager says, and so does the closing half of a flip."""
    actions: list[dict[str, Any]] = []
    after = dict(before)
    for check in checks:
        target = check.target
        key = (target.strategy_id, target.leg)
        is_refused = check.blocked or not check.approved
        direction = target.direction
        weight = 0.0 if is_refused or direction == "flat" else _weight(check)
        kind = change(before.get(key), direction, weight)
        if is_refused and kind == "flip":
            # the strategy no longer wants what is held; only the new side was refused
            kind, direction = "close", "flat"
        if kind is None or (kind != "close" and is_refused):
            continue
        if kind == "close":
            del after[key]
        else:
            after[key] = Held(direction, weight)
        made = published.get(target.strategy_id)
        if made is None:
            raise StrategyError(
                f"a target must be of a strategy that published {d}, found {target.strategy_id!r} "
                f"for {target.symbol}; correct the allocator"
            )
        instrument = "/".join(str(part) for part in target.leg if part not in ("", 0.0))
        session = made.session.isoformat()
        actions.append(
            {
                "action": kind,
                "strategy_id": target.strategy_id,
                "symbol": target.symbol,
                "direction": direction,
                "weight": 0.0 if kind == "close" else weight,
                "instrument_type": target.instrument_type,
                "strike": target.strike,
                "expiry": target.expiry,
                "order_key": f"{target.strategy_id}:{session}:{instrument}:r{made.revision}",
            }
        )
    return actions, after


def _weight(check: Any) -> float:
    """The approved size.

    Raises:
        StrategyError: It is no size: negative would turn a long into a short, NaN into anything.
    """
    weight = float(check.adjusted_weight)
    if not 0.0 <= weight < math.inf:
        raise StrategyError(
            f"adjusted_weight must be a size of 0 or more, found {weight:g} for "
            f"{check.target.symbol}; correct the risk manager or the allocator"
        )
    return weight
