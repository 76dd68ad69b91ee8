"""Coded findings, the checks that make them, and the promotion gate."""

from tft_core.checks.findings import Finding, Severity, errors_among
from tft_core.checks.gate import (
    GateConfig,
    GateRule,
    GateVerdict,
    gate_verdict,
)
from tft_core.checks.rules import (
    bars_are_sane,
    costs_are_named,
    features_are_covered,
    selection_is_above_chance,
    training_converged,
)

__all__ = [
    "Finding",
    "GateConfig",
    "GateRule",
    "GateVerdict",
    "Severity",
    "bars_are_sane",
    "costs_are_named",
    "errors_among",
    "features_are_covered",
    "gate_verdict",
    "selection_is_above_chance",
    "training_converged",
]
