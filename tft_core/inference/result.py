"""What a prediction answers: a position or a reason for every symbol, and why."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from datetime import date
from math import nan
from typing import Any

from tft_core.inference.reasons import OK, REASONS
from tft_core.schema import finite_or_none


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult:
    """Answers of one session: a position or a reason for every symbol of the universe."""

    date: date
    positions: dict[str, float]
    """Position p of each asset with status ``ok``, in [−max_position, max_position]."""
    confidences: dict[str, float]
    """Probability, calibrated on validation data, that the sign of the output is right; NaN
    where validation had too few rows to tell."""
    feature_importance: dict[str, dict[str, float]]
    """Integrated gradients of this very prediction: asset → feature → part of the output, the
    largest ones; ``metadata["attribution"]`` has the rest. Empty where not asked for."""
    raw_output: dict[str, float]
    """Ensemble mean z in [−1, 1] before clipping and smoothing."""
    status: dict[str, str]
    """``ok``, or the code of why there is no position (``metadata["reasons"]`` says more)."""
    metadata: dict[str, Any] = field(default_factory=dict)

    def why_no_trade(self, symbols: Collection[str] | None = None) -> str:
        """One line per asset without a position, for a person: code, finding, what to do.

        Args:
            symbols: Only of these; all by default.
        """
        details = self.metadata.get("reasons", {})
        lines = []
        for symbol, code in sorted(self.status.items()):
            if code == OK or (symbols is not None and symbol not in symbols):
                continue
            reason = REASONS.get(code)
            parts = [str(details.get(symbol) or (reason.meaning if reason else "no detail"))]
            if reason is not None:
                parts.append(reason.act)
            lines.append(f"{symbol}: {code} ({'; '.join(parts)})")
        return "\n".join(lines) if lines else "every asset has a position"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; an unknown confidence is ``None``."""
        plain = asdict(self)
        plain["date"] = self.date.isoformat()
        plain["confidences"] = {s: finite_or_none(c) for s, c in self.confidences.items()}
        return plain

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "InferenceResult":
        """Inverse of ``to_dict``."""
        confidences = {s: nan if c is None else c for s, c in values["confidences"].items()}
        return cls(
            **{**values, "date": date.fromisoformat(values["date"]), "confidences": confidences}
        )
