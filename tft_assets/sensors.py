"""Sensors: the one step that a schedule can't take, since it follows another run."""

import dagster as dg

from tft_assets.jobs import AssetJob
from tft_core.schema import LIVE_FOLD


def promotion_sensor(after: AssetJob, job: AssetJob) -> dg.SensorDefinition:
    """Gate and promote once the live fold is refitted; where steps run on other machines.

    Args:
        after: ``live_fold``, whose success for the live fold is waited for.
        job: ``refit``.
    """

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[after],
        request_job=job,
        name="promotion_after_refit",
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Starts `refit` (gate and promote) when `live_fold` has refitted `live`.",
    )
    def refitted(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
        if context.dagster_run.tags.get("dagster/partition") != LIVE_FOLD:
            return dg.SkipReason("The run was not one of the live fold.")
        return dg.RunRequest(run_key=context.dagster_run.run_id)

    return refitted
