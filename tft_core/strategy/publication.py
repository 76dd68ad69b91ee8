"""One publication of the ledger as a value: equality of answers, corrections, stored form."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from tft_core.errors import LedgerError
from tft_core.strategy.protocol import Leg, Signal

SAME_WITHIN = 1e-6
"""Numbers closer than this are the same answer: what batch and single predictions may differ by."""


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
    is_other_model = None not in (checkpoint_hash, stored.checkpoint_hash) and (
        checkpoint_hash != stored.checkpoint_hash
    )
    if is_other_model:
        return False
    own = [signal for signal in stored.signals if signal.leg not in stored.corrected]
    return _close(_plain(own), _plain(signals)) and _close(stored.positions, dict(positions))


def corrections(
    before: Mapping[Leg, Signal],
    superseded: Iterable[Signal],
    signals: Iterable[Signal],
    revision: int,
) -> list[Signal]:
    """Signals that undo what an earlier revision of the session did and this one leaves unsaid.

    Args:
        before: What was on before the session.
        superseded: Signals of the revision before, its own corrections included.
        signals: The new answer.
    """
    said = {signal.leg for signal in signals}
    made: list[Signal] = []
    for old in superseded:
        wanted = before.get(old.leg)
        direction = "flat" if wanted is None else wanted.direction
        if old.leg in said or old.direction == direction:
            continue
        made.append(
            Signal(
                strategy_id=old.strategy_id,
                symbol=old.symbol,
                direction=direction,
                conviction=0.0 if wanted is None else wanted.conviction,
                instrument_type=old.instrument_type,
                strike=old.strike,
                expiry=old.expiry,
                ttl_bars=old.ttl_bars,
                metadata={**old.metadata, "reason": f"corrected_by_revision_{revision}"},
            )
        )
    return made


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
