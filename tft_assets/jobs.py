"""Jobs: what a schedule or a person starts as one run. Each stays within one partitioning.

There is no job over everything: a run has one partition key, and a backfill of such a job
would make every unpartitioned asset once for each fold. Backfill the asset graph instead.
"""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition as AssetJob,  # what dg.define_asset_job returns
)

from tft_assets.assets.common import WorkspaceParam
from tft_assets.failures import failed_findings
from tft_assets.retries import explained
from tft_core.training_pipeline.graph import GRAPH

HOUR_S = 3600
MAX_RUNTIME_TAG = "dagster/max_runtime"
"""Run monitoring ends a run that takes longer (seconds)."""


def nightly_inference_job() -> AssetJob:
    """Positions and signals of one session."""
    return dg.define_asset_job(
        "nightly_inference",
        selection=dg.AssetSelection.assets("inference", "strategy_signals"),
        tags={MAX_RUNTIME_TAG: str(HOUR_S)},
        description="Positions and signals of one session (its partition), after the close.",
    )


def refit_job() -> AssetJob:
    """The production checkpoint, with whatever upstream is missing or stale."""
    return dg.define_asset_job(
        "refit",
        selection=dg.AssetSelection.assets("production_checkpoint"),
        tags={MAX_RUNTIME_TAG: str(24 * HOUR_S)},
        description="Refit the live fold on the newest bars and everything else that is "
        "missing or stale, then gate and promote.",
    )


def live_fold_job() -> AssetJob:
    """All assets of one fold in one run, each step on the executor's own worker."""
    names = [spec.name for spec in GRAPH if spec.partitions == "fold"]
    return dg.define_asset_job(
        "live_fold",
        selection=dg.AssetSelection.assets(*names),
        tags={MAX_RUNTIME_TAG: str(24 * HOUR_S)},
        description="Everything of one fold, market data to model, in one run; for `live` where "
        "steps run on Ray or Kubernetes. The folds before it must be there.",
    )


@dg.op(description="Freshness of bars, age of the production model, drift of its inputs.")
def report_health(context: dg.OpExecutionContext, workspace: WorkspaceParam) -> None:
    """Log what the core finds; fail the run where a finding is an error."""
    with explained(context):
        findings = workspace.health()
    for finding in findings:
        context.log.warning(f"{finding.severity} {finding.code}: {finding.message}")
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise failed_findings(errors)
    context.log.info(f"Healthy, with {len(findings)} warnings.")


@dg.job(
    tags={MAX_RUNTIME_TAG: str(HOUR_S)},
    description="Weekly look at the bars' freshness, the model's age and its inputs' drift.",
)
def weekly_health() -> None:
    report_health()
