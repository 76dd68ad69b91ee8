"""Why a run failed, from its events: in words, with a code, for builders and for alerts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent

from tft_core.checks import Finding
from tft_core.errors import TftError
from tft_core.training_pipeline.graph import SPECS

ERROR, CODE, FINDINGS = "error", "code", "findings"
"""Metadata of a ``dg.Failure``: the core's error type, a refusal's code, findings that failed."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What the events of a failed run say; empty where they say nothing."""

    message: str = ""
    code: str = ""
    """Of the check or the refusal."""
    error: str = ""
    """Type of the core's error."""
    asset: str = ""
    findings: tuple[tuple[str, str], ...] = ()
    """Code and message of each finding, where findings failed the run."""


def refusal(error: TftError) -> dg.Failure:
    """A deliberate error of the core as Dagster shows it: its message, and no retry."""
    return dg.Failure(
        description=str(error),
        metadata={ERROR: type(error).__name__, CODE: getattr(error, "code", "")},
        allow_retries=False,
    )


def failed_findings(findings: Sequence[Finding]) -> dg.Failure:
    """A run that fails since findings are errors."""
    return dg.Failure(
        description="; ".join(f"{f.code}: {f.message}" for f in findings),
        metadata={FINDINGS: dg.MetadataValue.json([[f.code, f.message] for f in findings])},
        allow_retries=False,
    )


def failure_of(events: Iterable[DagsterEvent | None]) -> Failed:
    """A failed run's own words: of its failed checks, else of its first failed step."""
    told = [event for event in events if event is not None]
    refused = [
        e.asset_check_evaluation_data
        for e in told
        if e.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    refused = [c for c in refused if not c.passed and c.severity == dg.AssetCheckSeverity.ERROR]
    if refused:
        return Failed(
            message="; ".join(f"check {c.check_name}: {c.description}" for c in refused),
            code=refused[0].check_name,
            asset=refused[0].asset_key.to_user_string(),
        )
    step = next((event for event in told if event.is_step_failure), None)
    if step is None:
        return Failed()
    asset = step.step_key if step.step_key in SPECS else ""
    data = step.step_failure_data
    user = data.user_failure_data
    if user is not None and user.description:
        shown: dict[str, Any] = {name: value.value for name, value in user.metadata.items()}
        findings = tuple((code, message) for code, message in shown.get(FINDINGS, ()))
        return Failed(
            user.description, shown.get(CODE, ""), shown.get(ERROR, ""), asset or "", findings
        )
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return Failed(message="" if error is None else error.message.strip(), asset=asset or "")
