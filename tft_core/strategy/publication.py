"""One publication of the ledger as a value: equality of answers, corrections, stored form."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from tft_core.errors import LedgerError, first_few
from tft_core.strategy.protocol import Leg, Signal

SAME_WITHIN = 1e-6
"""Numbers closer than this are the same answer: what batch and single predictions may differ by."""
_AGAIN = " again: "
"""Between a cause that repeats itself and what differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What the ledger holds for one strategy, session and revision."""

    strategy_id: str
    session: date
    revision: int
    cause: str
    checkpoint_hash: str | None
    published_at: str
    signals: tuple[Signal, ...]
    """By instrument; corrections of an earlier revision included."""
    corrected: frozenset[Leg]
    """Instruments whose signal only corrects an earlier revision of the session."""
    positions: dict[str, float]
    status: dict[str, str]
    is_new: bool
    """True where the call that gave this wrote it."""

    def payload(self) -> dict[str, Any]:
        """All that was published, for the hash that guards the stored rows."""
        return {
            "strategy_id": self.strategy_id,
            "session": self.session,
            "revision": self.revision,
            "cause": self.cause,
            "checkpoint_hash": self.checkpoint_hash,
            "published_at": self.published_at,
            "signals": [[*_row(signal), signal.leg in self.corrected] for signal in self.signals],
            "positions": self.positions,
            "status": self.status,
        }


def metadata_json(signal: Signal) -> str:
    """A signal's metadata as stored.

    Raises:
        LedgerError: It is not plain finite JSON.
    """
    try:
        return json.dumps(signal.metadata, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise LedgerError(
            f"signal metadata must be plain finite JSON, found for {signal.symbol}: {error}"
        ) from error


def stored_form(signal: Signal) -> Signal:
    """The signal with numbers as a row gives them back: NumPy's are plain, no zero is negative.

    Raises:
        LedgerError: ``ttl_bars`` is not a whole number.
    """
    try:
        ttl_bars = int(signal.ttl_bars)
        is_whole = ttl_bars == signal.ttl_bars
    except (TypeError, ValueError, OverflowError):
        ttl_bars, is_whole = 0, False
    if not is_whole:
        raise LedgerError(
            f"ttl_bars must be a whole number, found {signal.ttl_bars!r} for {signal.symbol}"
        )
    return replace(
        signal,
        conviction=float(signal.conviction) + 0.0,
        strike=float(signal.strike) + 0.0,
        ttl_bars=ttl_bars,
    )


def signal_of_row(row: Any) -> Signal:
    """A signal from its stored row."""
    return Signal(
        strategy_id=row["strategy_id"],
        symbol=row["symbol"],
        direction=row["direction"],
        conviction=row["conviction"],
        instrument_type=row["instrument_type"],
        strike=row["strike"],
        expiry=row["expiry"],
        ttl_bars=row["ttl_bars"],
        metadata=json.loads(row["metadata"]),
    )


def is_same_answer(
    stored: Publication,
    signals: Sequence[Signal],
    positions: Mapping[str, float],
    checkpoint_hash: str | None,
) -> bool:
    """True where a new answer says what the stored publication says."""
    if _is_other_model(stored, checkpoint_hash):
        return False
    own = [signal for signal in stored.signals if signal.leg not in stored.corrected]
    return _close(_plain(own), _plain(signals)) and _close(stored.positions, dict(positions))


def cause_of_revision(
    cause: str,
    stored: Publication,
    signals: Sequence[Signal],
    positions: Mapping[str, float],
    checkpoint_hash: str | None,
) -> str:
    """The cause as given; one that only repeats the first publication's says what differs, too.

    A night that is run again does not know why its answer is another one.
    """
    if stored.cause.split(_AGAIN)[0] != cause:
        return cause
    if _is_other_model(stored, checkpoint_hash):
        return f"{cause}{_AGAIN}another model"
    own = [signal for signal in stored.signals if signal.leg not in stored.corrected]
    old, new = ({tuple(row[:4]): row for row in _plain(said)} for said in (own, signals))
    differing = {
        leg[0] for leg in old.keys() | new.keys() if not _close(old.get(leg), new.get(leg))
    }
    differing |= {
        symbol
        for symbol in stored.positions.keys() | positions.keys()
        if not _close(stored.positions.get(symbol), positions.get(symbol))
    }
    return f"{cause}{_AGAIN}another answer for {first_few(sorted(differing))}"


def _is_other_model(stored: Publication, checkpoint_hash: str | None) -> bool:
    return None not in (checkpoint_hash, stored.checkpoint_hash) and (
        checkpoint_hash != stored.checkpoint_hash
    )


def corrections(
    before: Mapping[Leg, Signal],
    superseded: Iterable[Signal],
    signals: Iterable[Signal],
    revision: int,
) -> list[Signal]:
    """Signals that undo what an earlier revision of the session did and this one leaves unsaid.

    What was on before is said again as it was, its size included; what was not is closed.

    Args:
        before: What was on before the session.
        superseded: Signals of the revision before, its own corrections included.
        signals: The new answer.
    """
    said = {signal.leg for signal in signals}
    reason = {"reason": f"corrected_by_revision_{revision}"}
    made: list[Signal] = []
    for old in superseded:
        if old.leg in said:
            continue
        wanted = before.get(old.leg)
        if wanted is not None and not _close(_wish(old), _wish(wanted)):
            made.append(replace(wanted, metadata={**wanted.metadata, **reason}))
        elif wanted is None and old.direction != "flat":
            closed = {**old.metadata, **reason}
            made.append(replace(old, direction="flat", conviction=0.0, metadata=closed))
    return made


def _wish(signal: Signal) -> list[Any]:
    """Direction and size: what a reader of signals acts on."""
    size = signal.metadata.get("raw_position", signal.conviction)
    return [signal.direction, float(signal.conviction), size]


def _plain(signals: Iterable[Signal]) -> list[Any]:
    return [_row(signal) for signal in sorted(signals, key=lambda signal: signal.leg)]


def _row(signal: Signal) -> list[Any]:
    metadata = json.loads(metadata_json(signal))
    return [*signal.leg, signal.direction, float(signal.conviction), signal.ttl_bars, metadata]


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=0.0, abs_tol=SAME_WITHIN)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_close, one, other))
    return one == other
