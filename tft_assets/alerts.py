"""What happened in Dagster, as alerts: failed runs, refused candidates, nights not published."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import dagster as dg
from dagster import _check as check
from dagster._core.event_api import EventLogRecord
from dagster._core.events import DagsterEventType

from tft_assets.failures import failure_of
from tft_assets.runs import KILLED, made_by_builder
from tft_core.config import Settings
from tft_core.errors import OutOfOrderError
from tft_core.training_pipeline.config import OperationsConfig
from tft_core.training_pipeline.graph import UNPARTITIONED_KEY
from tft_core.training_pipeline.nightly import session_overdue
from tft_core.upkeep.alerts import Alert, AlertBook

PARTITION_TAG = "dagster/partition"
CHECKPOINT = dg.AssetKey("production_checkpoint")
AT_ONCE = 50
"""Events read in one tick, which has a minute; the next tick goes on."""
TELLING = {DagsterEventType.STEP_FAILURE, DagsterEventType.ASSET_CHECK_EVALUATION}
"""The events of a failed run that say why."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far the event log has been read: the sensor's cursor."""

    failure: int
    checkpoint: int

    @classmethod
    def from_text(cls, text: str) -> "Seen":
        return cls(**json.loads(text))

    @classmethod
    def all_so_far(cls, instance: dg.DagsterInstance) -> "Seen":
        """What happened before the alerts were turned on is not told."""
        failures = instance.fetch_run_status_changes(DagsterEventType.RUN_FAILURE, limit=1)
        checkpoints = instance.fetch_materializations(CHECKPOINT, limit=1)
        return cls(_last(failures.records), _last(checkpoints.records))

    def to_text(self) -> str:
        return json.dumps({"failure": self.failure, "checkpoint": self.checkpoint})


def new_alerts(instance: dg.DagsterInstance, seen: Seen) -> tuple[list[Alert], Seen]:
    """Alerts of what happened since, and how far the event log has been read with them."""
    failures = instance.fetch_run_status_changes(
        dg.RunStatusChangeRecordsFilter(
            DagsterEventType.RUN_FAILURE, after_storage_id=seen.failure
        ),
        limit=AT_ONCE,
        ascending=True,
    ).records
    checkpoints = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=CHECKPOINT, after_storage_id=seen.checkpoint),
        limit=AT_ONCE,
        ascending=True,
    ).records
    alerts = [a for record in failures for a in failed_run(instance, record)]
    alerts += [a for record in checkpoints for a in refused_candidate(record)]
    return alerts, Seen(_last(failures, seen.failure), _last(checkpoints, seen.checkpoint))


def failed_run(instance: dg.DagsterInstance, record: EventLogRecord) -> list[Alert]:
    """Alerts of one failed run: of each finding that failed it, else one.

    None where the run's cause is told elsewhere: a builder tells of the runs it made, and a
    session that waits for the one before it follows from that one.
    """
    run = instance.get_run_by_id(record.run_id)
    if run is None or made_by_builder(run):
        return []
    event = record.event_log_entry.dagster_event
    events = instance.all_logs(run.run_id, of_type=TELLING)
    failed = failure_of(entry.dagster_event for entry in events)
    if failed.error == OutOfOrderError.__name__:
        return []
    key = run.tags.get(PARTITION_TAG, "")
    about = {"run_id": run.run_id, "asset": failed.asset or run.job_name, "key": key}
    if failed.findings:
        return [
            Alert(cause=f"{code}/{run.run_id}", code=code, message=message, **about)
            for code, message in failed.findings
        ]
    message = failed.message or (event.message if event else None) or "see its page"
    code = "run_killed" if message == KILLED else failed.code
    return [Alert(cause=f"run/{run.run_id}", code=code or "run_failed", message=message, **about)]


def refused_candidate(record: EventLogRecord) -> list[Alert]:
    """The alert of a candidate that the gate refused; told once, however often it is judged."""
    made = check.not_none(record.asset_materialization)
    shown = {name: value.value for name, value in made.metadata.items()}
    if shown.get("gate") != "refused" or shown.get("promoted"):
        return []
    return [
        Alert(
            cause=f"gate/{shown['checkpoint']}",
            code="gate_refused",
            message=f"{shown['checkpoint']}: {shown['gate_reasons']}",
            run_id=record.run_id,
            asset=CHECKPOINT.to_user_string(),
            key=UNPARTITIONED_KEY,
        )
    ]


def night_missed(
    settings: Settings, operations: OperationsConfig, book: AlertBook, now: datetime
) -> list[Alert]:
    """The alert of a session that is not published in time, unless its run told why already."""
    overdue = session_overdue(settings.ledger_path, operations, now)
    if overdue is None:
        return []
    session, newest = overdue
    if book.is_known(session.isoformat()):
        return []
    return [
        Alert(
            cause=f"night/{session}",
            code="nightly_not_published",
            message=f"session {session} must be published within "
            f"{operations.publish_within_hours} hours of {operations.nightly_hour}:00 "
            f"({operations.timezone}), found {newest} as the newest that is; is the schedule on, "
            "and are its bars there?",
            asset="strategy_signals",
            key=session.isoformat(),
        )
    ]


def _last(records: Sequence[EventLogRecord], otherwise: int = -1) -> int:
    return max((record.storage_id for record in records), default=otherwise)
