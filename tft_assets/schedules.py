"""Schedules, all STOPPED until a person starts them in the UI.

Nightly inference after the close in the market's time zone, a weekly look at freshness and
drift, a monthly refit of the live fold.
"""

from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg

from tft_assets.jobs import AssetJob, weekly_health
from tft_assets.partitions import session_weekdays
from tft_core.data.calendar import is_session, session_close
from tft_core.errors import ConfigError
from tft_core.schema import LIVE_FOLD
from tft_core.training_pipeline.config import OperationsConfig
from tft_core.training_pipeline.nightly import sessions_due

NIGHTLY_ORDER_TAG = "tft/nightly"
"""The queue runs one such run at a time (``dagster_home/dagster.yaml``)."""
PRIORITY_TAG = "dagster/priority"
STOPPED = dg.DefaultScheduleStatus.STOPPED


def nightly_schedule(
    job: AssetJob, operations: OperationsConfig, ledger_path: Path, first: date
) -> dg.ScheduleDefinition:
    """The session's partition after its close, and those before it that were missed.

    Args:
        first: First day that has a partition.

    The queue runs them one at a time (``NIGHTLY_ORDER_TAG`` in ``dagster.yaml``), oldest first;
    the core refuses one whose predecessor is missing.
    """

    @dg.schedule(
        name="nightly_inference_after_close",
        job=job,
        cron_schedule=f"0 {operations.nightly_hour} * * {session_weekdays(operations, first)}",
        execution_timezone=operations.timezone,
        default_status=STOPPED,
        description="Inference and signals of the day, where it is a session, and of missed ones.",
    )
    def after_close(
        context: dg.ScheduleEvaluationContext,
    ) -> list[dg.RunRequest] | dg.SkipReason:
        day = _local_day(context, operations)
        if not is_session(operations.exchange, day):
            return dg.SkipReason(f"{day} is not a session of {operations.exchange}.")
        refuse_before_close(operations, day, context.scheduled_execution_time)
        due = sessions_due(ledger_path, operations.exchange, day)
        if not due:
            return dg.SkipReason(f"Nothing to do: every session up to {day} is published.")
        return [
            dg.RunRequest(
                run_key=session.isoformat(),
                partition_key=session.isoformat(),
                tags={NIGHTLY_ORDER_TAG: "1", PRIORITY_TAG: str(len(due) - place)},
            )
            for place, session in enumerate(due)
        ]

    return after_close


def refuse_before_close(operations: OperationsConfig, day: date, moment: datetime) -> None:
    """A night before the close would decide on a bar that is not complete.

    Raises:
        ConfigError: The session has not closed; so it is for half a year where ``timezone`` keeps
            another summer time than the exchange.
    """
    closes_at = session_close(operations.exchange, day)
    if closes_at is not None and moment < closes_at:
        local = closes_at.astimezone(ZoneInfo(operations.timezone))
        raise ConfigError(
            f"operations.nightly_hour must lie after the close of {operations.exchange}, found "
            f"{operations.nightly_hour}:00 while the session of {day} closes at "
            f"{local:%Y-%m-%d %H:%M} ({operations.timezone}); choose a later hour, or the "
            "exchange's own zone as operations.timezone"
        )


def weekly_schedule(operations: OperationsConfig) -> dg.ScheduleDefinition:
    """Saturday morning, when the week's bars are complete."""
    return dg.ScheduleDefinition(
        name="weekly_health_check",
        job=weekly_health,
        cron_schedule="0 9 * * 6",
        execution_timezone=operations.timezone,
        default_status=STOPPED,
        description="Fails where bars are old, the model is too old or its inputs have drifted.",
    )


def monthly_schedule(job: AssetJob, operations: OperationsConfig) -> dg.ScheduleDefinition:
    """The first day of each month, before markets open.

    Args:
        job: ``refit``, or ``live_fold`` where steps run on other machines.
    """
    is_live_fold = job.name == "live_fold"

    @dg.schedule(
        name="monthly_refit",
        job=job,
        cron_schedule="0 3 1 * *",
        execution_timezone=operations.timezone,
        default_status=STOPPED,
        description="Refit the live fold on the newest bars, then gate and promote.",
    )
    def first_of_month(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        month = _local_day(context, operations).strftime("%Y-%m")
        return dg.RunRequest(run_key=month, partition_key=LIVE_FOLD if is_live_fold else None)

    return first_of_month


def _local_day(context: dg.ScheduleEvaluationContext, operations: OperationsConfig) -> date:
    return context.scheduled_execution_time.astimezone(ZoneInfo(operations.timezone)).date()
