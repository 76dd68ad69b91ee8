"""The sensors as the daemon evaluates them: ticks, cursors, events."""

import logging
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus
from dagster._core.test_utils import freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.sensor import execute_sensor_iteration
from fake_workspace import Home

from tft_assets.arrivals import MARKET_STORE


class Clock:
    """Evaluates one sensor, once in each of its intervals."""

    def __init__(self, daemon: WorkspaceProcessContext, sensor: str) -> None:
        self.daemon, self.now = daemon, datetime(2026, 11, 26, tzinfo=UTC)
        (location,) = daemon.create_request_context().code_locations
        self.sensor = location.get_repository("__repository__").get_sensor(sensor)
        daemon.instance.start_sensor(self.sensor)

    def tick(self) -> InstigatorTick:
        self.now += timedelta(minutes=5)
        logger = logging.getLogger("daemon")
        with freeze_time(self.now):
            list(execute_sensor_iteration(self.daemon, logger, None, None))
        origin = self.sensor.get_remote_origin_id()
        return self.daemon.instance.get_ticks(origin, self.sensor.selector_id)[0]


def fail_a_run(home: Home, daemon: WorkspaceProcessContext) -> dg.DagsterRun:
    @dg.job
    def dummy() -> None: ...

    run = daemon.instance.create_run_for_job(dummy, status=dg.DagsterRunStatus.STARTED)
    return daemon.instance.report_run_failed(run, "no bars of EURUSD")


def test_a_sink_that_cannot_be_had_fails_the_tick_and_the_next_one_tells(
    home: Home, daemon: WorkspaceProcessContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(daemon, "alerts")
    assert clock.tick().status == TickStatus.SKIPPED
    fail_a_run(home, daemon)
    monkeypatch.setenv("TFT_ALERTS", "pigeon")
    failed = clock.tick()
    assert failed.status == TickStatus.FAILURE
    assert "must name log, slack or module:function, found 'pigeon'" in failed.error.to_string()
    monkeypatch.delenv("TFT_ALERTS")
    told = clock.tick()
    assert (told.status, told.skip_reason) == (TickStatus.SKIPPED, "0 new alerts, 1 sent.")
    assert clock.tick().skip_reason == "0 new alerts, 0 sent."


def test_new_bars_become_observations_of_the_store(
    home: Home, daemon: WorkspaceProcessContext
) -> None:
    home.workspace().build("market_data", "live")
    clock = Clock(daemon, "new_data")
    clock.tick()
    home.set_market("2024-06-03", "2025-02-04")
    tick = clock.tick()
    assert tick.status == TickStatus.SKIPPED
    clock.tick()  # nothing has changed: no event
    records = daemon.instance.fetch_observations(dg.AssetKey(MARKET_STORE), limit=10).records
    seen = [r.event_log_entry.asset_observation for r in records]
    assert [o.partition for o in seen] == ["live", "live"]
    newest, before = (o.tags[DATA_VERSION_TAG] for o in seen)
    assert newest != before


def test_a_dead_run_is_ended_by_the_sensor_that_runs_from_the_start(
    home: Home, daemon: WorkspaceProcessContext
) -> None:
    clock = Clock(daemon, "dead_runs")
    assert clock.tick().skip_reason == "No run is dead."
