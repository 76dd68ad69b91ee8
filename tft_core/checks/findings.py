"""``Finding``: one coded fact that a check found, and what blocks.

A finding's code starts with the name of its check (``features_are_covered.low``), which is
how Dagster's side finds the check it belongs to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tft_core.schema import finite_or_none

Severity = Literal["error", "warn"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One coded fact that someone has to know."""

    code: str
    """``<check>`` or ``<check>.<detail>``; stable, made for programs."""
    severity: Severity
    message: str
    """One line for people: what was found and what to do."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The figures behind it, plain JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; undefined figures become ``None``."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "values": {
                name: finite_or_none(value) if isinstance(value, float) else value
                for name, value in self.values.items()
            },
        }


def errors_among(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings that block."""
    return tuple(finding for finding in findings if finding.severity == "error")
