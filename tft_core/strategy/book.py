"""What the orchestrator has asked to be held, after risk checks: the base of each day's actions.

The ledger says what strategies signalled; the book says what was acted upon. It is one JSON
file, replaced atomically, with the positions before and after its newest session.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from tft_core.checkpoint_manager.atomic import StrictJsonError, dump_json, load_json, replace_file
from tft_core.errors import StrategyError
from tft_core.strategy.protocol import Leg, Signal
from tft_core.strategy.publication import SAME_WITHIN

Key = tuple[str, Leg]
"""Strategy and instrument."""


@dataclass(frozen=True, slots=True)
class Held:
    """One position of the book."""

    direction: str
    """``long`` or ``short``."""
    weight: float
    """Size, without sign."""


Positions = dict[Key, Held]


@dataclass(frozen=True, slots=True)
class Book:
    """Positions before and after the newest session acted upon."""

    session: date
    before: Positions
    after: Positions

    def write(self, path: Path) -> None:
        """Replace the stored book atomically."""
        replace_file(
            path,
            dump_json(
                {
                    "session": self.session.isoformat(),
                    "before": _rows(self.before),
                    "after": _rows(self.after),
                }
            ),
        )

    @classmethod
    def read(cls, path: Path) -> "Book | None":
        """The stored book; ``None`` before the first day.

        Raises:
            StrategyError: The file is damaged: what is held is unknown, so nothing is traded.
        """
        try:
            table = load_json(path.read_bytes())
            return cls(
                date.fromisoformat(table["session"]),
                _positions(table["before"]),
                _positions(table["after"]),
            )
        except FileNotFoundError:
            return None
        except (StrictJsonError, KeyError, TypeError, ValueError) as error:
            raise StrategyError(
                f"{path} must be the orchestrator's book, found it damaged ({error}); restore it, "
                "or remove it to start from the ledger's signals"
            ) from error


def size_of(signal: Signal) -> float:
    """Size without sign: the raw position where the strategy gives it, else the conviction."""
    return abs(float(signal.metadata.get("raw_position", signal.conviction)))


def from_signals(signals: Iterable[Signal]) -> Positions:
    """The book that open signals imply, where no book was kept."""
    return {(s.strategy_id, s.leg): Held(s.direction, size_of(s)) for s in signals}


def change(held: Held | None, direction: str, weight: float) -> str | None:
    """open · flip · resize · close, or ``None`` where the book already is as wanted."""
    if direction == "flat":
        return "close" if held is not None else None
    if held is None:
        return "open"
    if held.direction != direction:
        return "flip"
    return "resize" if abs(weight - held.weight) > SAME_WITHIN else None


def _rows(positions: Mapping[Key, Held]) -> list[list[Any]]:
    return [
        [strategy, *leg, held.direction, held.weight]
        for (strategy, leg), held in sorted(positions.items())
    ]


def _positions(rows: Iterable[Any]) -> Positions:
    found: Positions = {}
    for strategy, symbol, kind, strike, expiry, direction, weight in rows:
        held = Held(str(direction), float(weight))
        found[(str(strategy), (str(symbol), str(kind), float(strike), str(expiry)))] = held
    return found
