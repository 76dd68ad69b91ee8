"""Sensors: what a schedule can't do, since it follows a run, a fault or new data."""

from datetime import UTC, datetime

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from tft_assets.alerts import CHECKPOINT, PARTITION_TAG, Seen, new_alerts, night_missed
from tft_assets.arrivals import Watch, observed, wants_refit
from tft_assets.jobs import AssetJob
from tft_assets.resources import LifecycleWorkspace
from tft_assets.runs import sweep_dead_runs
from tft_core.config import Settings
from tft_core.errors import StoreLockedError
from tft_core.schema import LIVE_FOLD
from tft_core.training_pipeline.config import OperationsConfig
from tft_core.upkeep.alerts import AlertBook
from tft_core.upkeep.sinks import sinks_of


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
        if context.dagster_run.tags.get(PARTITION_TAG) != LIVE_FOLD:
            return dg.SkipReason("The run was not one of the live fold.")
        return dg.RunRequest(run_key=context.dagster_run.run_id)

    return refitted


def dead_runs_sensor() -> dg.SensorDefinition:
    """End runs whose process was killed, and free their slots.

    The one sensor that ships running: it starts nothing, and without it a server that was
    killed and started again would wait for its dead runs.
    """

    @dg.sensor(
        name="dead_runs",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Ends runs whose process was killed and frees their slots of the pools.",
    )
    def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        lines = sweep_dead_runs(context.instance)
        for line in lines:
            context.log.warning(line)
        return dg.SkipReason("; ".join(lines) or "No run is dead.")

    return dead_runs


def alerts_sensor(settings: Settings, operations: OperationsConfig) -> dg.SensorDefinition:
    """Tell people of failed runs, refused candidates, bad health and missed nights.

    What is found is kept first and sent then: a sink that cannot be reached fails the tick,
    loudly, and is tried again by the next; it never touches a run.
    """

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Failed runs, refused candidates, findings of the health check and sessions "
        "not published in time, each told once to the sinks of $TFT_ALERTS (docs/runbook.md).",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if not context.cursor:  # kept at once: what follows may fail, and nothing is to be missed
            seen = Seen.all_so_far(context.instance)
            return dg.SensorResult(
                skip_reason=dg.SkipReason("What happens from now on is told."),
                cursor=seen.to_text(),
            )
        found, seen = new_alerts(context.instance, Seen.from_text(context.cursor))
        book = AlertBook(settings.alerts_path)
        new = sum(book.raise_alert(alert) for alert in found)
        missed = night_missed(settings, operations, book, datetime.now(UTC))
        new += sum(book.raise_alert(alert) for alert in missed)
        sent = book.deliver(sinks_of(write=context.log.error))
        return dg.SensorResult(
            skip_reason=dg.SkipReason(f"{new} new alerts, {sent} sent."), cursor=seen.to_text()
        )

    return alerts


def new_data_sensor(
    job: AssetJob, workspace: LifecycleWorkspace, operations: OperationsConfig
) -> dg.SensorDefinition:
    """Notice new and restated bars, show what they make stale, and refit if that is wished for.

    A tick compares the times of a few files; the store is opened only after they have changed.

    Args:
        job: ``refit``, or ``live_fold`` where steps run on other machines.
    """
    partition = LIVE_FOLD if job.name == "live_fold" else None

    @dg.sensor(
        name="new_data",
        job=job,
        minimum_interval_seconds=120,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Observes the market store when it has changed, so that assets made from older "
        "bars are shown as stale; starts a refit where operations.refit_after_sessions or "
        "refit_after_restated is set and reached, at most once for the same bars.",
    )
    def new_data(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        watch, stamp = Watch.from_text(context.cursor), workspace.arrivals_stamp()
        if not stamp:
            return dg.SkipReason("There is no market store yet; run `tft ingest`.")
        if stamp == watch.stamp:
            return dg.SkipReason(f"Nothing has changed. {watch.said}")
        unfinished = context.instance.get_runs(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)))
        if any(
            run.job_name == job.name or CHECKPOINT in (run.asset_selection or ())
            for run in unfinished
        ):
            return dg.SkipReason("A refit is at work; the store is looked into afterwards.")
        try:
            found = workspace.arrivals()
        except StoreLockedError as error:
            return dg.SkipReason(f"The store is being written: {error}")
        asks = wants_refit(found, operations, watch.requested)
        request = dg.RunRequest(
            # the number too: bars that come back to what they were are news again
            run_key=f"{found.version}-{found.ingestion}",
            partition_key=partition,
            tags={"tft/new_data": found.sentence},
        )
        return dg.SensorResult(
            run_requests=[request] if asks else [],
            skip_reason=None if asks else dg.SkipReason(found.sentence),
            asset_events=[
                observed(key, version)
                for key, version in found.versions.items()
                if watch.versions.get(key) != version
            ],
            cursor=watch.after(stamp, found, asked=asks).to_text(),
        )

    return new_data
