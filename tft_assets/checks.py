"""Findings of an artifact as the results of its asset's checks.

The phase functions of the core look and find; here a finding only gets the name, severity
and place that Dagster wants. A blocking check stops the run; the artifact keeps the
verdict, so that later runs refuse it as well.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from tft_core.checks import Finding
from tft_core.errors import ArtifactError
from tft_core.training_pipeline.artifacts import Artifact
from tft_core.training_pipeline.graph import CHECKS, CheckSpec


def check_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """The checks that every materialization of an asset reports."""
    return [
        dg.AssetCheckSpec(
            check.name, asset=asset, blocking=check.blocking, description=check.description
        )
        for check in CHECKS.get(asset, ())
    ]


def check_results(artifact: Artifact) -> list[dg.AssetCheckResult]:
    """One result for each check of the artifact's asset.

    Raises:
        ArtifactError: A finding that is an error belongs to no check, so nobody would see it.
    """
    checks = CHECKS.get(artifact.asset, ())
    unseen = [
        finding
        for finding in artifact.findings
        if finding.severity == "error" and not any(_is_about(finding, c) for c in checks)
    ]
    if unseen:
        raise ArtifactError(
            f"findings of {artifact.name} must belong to one of its checks "
            f"({', '.join(c.name for c in checks) or 'it has none'}), found {unseen[0].code}: "
            f"{unseen[0].message}"
        )
    return [
        _result(check, [f for f in artifact.findings if _is_about(f, check)]) for check in checks
    ]


def _is_about(finding: Finding, check: CheckSpec) -> bool:
    """A code is the check's name, alone or with a detail after a dot."""
    return finding.code == check.name or finding.code.startswith(f"{check.name}.")


def _result(check: CheckSpec, findings: Sequence[Finding]) -> dg.AssetCheckResult:
    is_error = any(finding.severity == "error" for finding in findings)
    metadata: dict[str, Any] = {"findings": len(findings)}
    for number, finding in enumerate(findings[:20], start=1):
        metadata[f"{number:02d} {finding.code}"] = finding.message
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=not findings,
        severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
        description="; ".join(f.message for f in findings[:3]) or "holds",
        metadata=metadata,
    )
