"""Hand-written stand-ins: predictions, pipelines, a strategy of the predecessor's kind."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any

from tft_core.strategy import BaseStrategy, Signal

D1, D2, D3, D4 = (date(2021, 3, day) for day in (1, 2, 3, 4))


@dataclass(frozen=True)
class FakeResult:
    """Has what ``signals_from`` reads of an ``InferenceResult``."""

    date: date
    positions: dict[str, float]
    status: dict[str, str]
    confidences: dict[str, float]
    raw_output: dict[str, float]
    metadata: dict[str, Any] = field(default_factory=dict)


def result(positions: dict[str, float], d: date = D1, **changes: Any) -> FakeResult:
    """A prediction with these positions; ``status=`` adds or overrides reasons."""
    status = dict.fromkeys(positions, "ok") | changes.pop("status", {})
    metadata = {
        "model_type": "x_trend",
        "checkpoint_version": 7,
        "checkpoint_hash": "f" * 64,
        "max_position": 0.25,
    } | changes.pop("metadata", {})
    values = {
        "date": d,
        "positions": positions,
        "status": status,
        "confidences": dict.fromkeys(positions, 0.6),
        "raw_output": {symbol: 2 * p for symbol, p in positions.items()},
        "metadata": metadata,
    }
    return FakeResult(**{**values, **changes})


class FakePipeline:
    """Answers from a table of sessions and remembers what it was given."""

    def __init__(self, answers: dict[date, FakeResult]) -> None:
        self.answers = answers
        self.previous: dict[date, Any] = {}

    def predict(self, date, store, lookback_days=None, previous=None):
        self.previous[date] = previous
        return self.answers[date]

    def required_lookback(self) -> int:
        return 294


class Scripted(BaseStrategy):
    """A strategy that says what a table tells it: symbol → (direction, conviction)."""

    def __init__(self, name: str, script: dict[date, Any], state_dir=None) -> None:
        self.name = name
        self.script = script
        super().__init__(state_dir)

    @property
    def strategy_id(self) -> str:
        return self.name

    def warmup_days(self) -> int:
        return 10

    def _scan_impl(self, d, store):
        answer = self.script[d]
        if isinstance(answer, Exception):
            raise answer
        return [Signal(self.name, symbol, *said) for symbol, said in answer.items()]
