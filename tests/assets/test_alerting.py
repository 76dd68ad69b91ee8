"""The sensor ``alerts``: what people are told of, once a cause, through sinks that may fail."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from fake_workspace import Home

from tft_assets.alerts import night_missed
from tft_assets.build import build_defs
from tft_assets.runs import KILLED, PARENT_TAG
from tft_core.errors import AlertError, ConfigError
from tft_core.strategy.ledger import Ledger
from tft_core.strategy_adapter import STRATEGY_ID
from tft_core.training_pipeline.config import OperationsConfig
from tft_core.training_pipeline.nightly import NIGHTLY_CAUSE
from tft_core.upkeep.alerts import Alert, AlertBook

FRIDAY = "2026-11-13"


class Pager:
    """The sink that ``$TFT_ALERTS`` names in these tests."""

    name = "pager"
    got: list[Alert]
    is_broken = False

    def send(self, alert: Alert) -> None:
        if Pager.is_broken:
            raise AlertError("pager must answer, found silence")
        Pager.got.append(alert)


@pytest.fixture(autouse=True)
def pager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Pager.got, Pager.is_broken = [], False
    monkeypatch.setenv("TFT_ALERTS", f"{__name__}:Pager")
    yield


class Tower:
    """Evaluates the sensor tick by tick, as the daemon does: the cursor moves if it succeeds."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        self.home, self.instance, self.cursor = home, instance, None
        self.tick()

    def tick(self) -> list[Alert]:
        """What was sent by this tick."""
        sensor = build_defs(self.home.resources()).resolve_sensor_def("alerts")
        before = len(Pager.got)
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            self.cursor = sensor.evaluate_tick(context).cursor
        return Pager.got[before:]

    def run(self, job: str, partition: str | None = None, **options: object) -> str:
        """The id of a run that was executed to its end, whatever that was."""
        made = build_defs(self.home.resources()).resolve_job_def(job)
        return made.execute_in_process(
            instance=self.instance, partition_key=partition, raise_on_error=False, **options
        ).run_id


@pytest.fixture
def tower(home: Home, instance: dg.DagsterInstance) -> Tower:
    return Tower(home, instance)


def market_data(tower: Tower, **options: object) -> str:
    asset = [dg.AssetKey("market_data")]
    return tower.run("__ASSET_JOB", "2022-01-01", asset_selection=asset, **options)


def refuse_market_data(home: Home) -> None:
    home.set_faults({"market_data/2022-01-01": {"refuses": "no bars of EURUSD"}})


def test_a_failed_run_is_told_once_with_its_run_asset_fold_and_reason(tower: Tower) -> None:
    refuse_market_data(tower.home)
    run_id = market_data(tower)
    (alert,) = tower.tick()
    assert (alert.code, alert.message) == ("run_failed", "no bars of EURUSD")
    assert (alert.run_id, alert.asset, alert.key) == (run_id, "market_data", "2022-01-01")
    assert alert.look.endswith("docs/runbook.md#run_failed")
    assert tower.tick() == []


def test_what_failed_before_the_sensor_was_turned_on_is_not_told(
    home: Home, instance: dg.DagsterInstance
) -> None:
    refuse_market_data(home)
    before = Tower(home, instance)
    market_data(before)
    assert Tower(home, instance).tick() == []


def test_a_cursor_that_was_reset_by_hand_tells_nothing_twice(tower: Tower) -> None:
    refuse_market_data(tower.home)
    market_data(tower)
    assert len(tower.tick()) == 1
    tower.cursor = '{"failure": -1, "checkpoint": -1}'
    assert tower.tick() == []


def test_a_broken_sink_fails_the_tick_not_the_run_and_nothing_is_lost(tower: Tower) -> None:
    Pager.is_broken = True
    market_data(tower)  # succeeds: no sink is near it
    refuse_market_data(tower.home)
    market_data(tower)
    statuses = {run.status for run in tower.instance.get_runs()}
    assert statuses == {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}
    for _ in range(2):
        with pytest.raises(AlertError, match="pager must answer, found silence"):
            tower.tick()
    Pager.is_broken = False
    assert [alert.code for alert in tower.tick()] == ["run_failed"]


def test_what_fails_before_the_sinks_are_mended_is_told_afterwards(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFT_ALERTS", "pigeon")
    tower = Tower(home, instance)  # its first tick, which sends nothing
    refuse_market_data(home)
    market_data(tower)
    with pytest.raises(ConfigError, match="found 'pigeon'"):
        tower.tick()
    monkeypatch.setenv("TFT_ALERTS", f"{__name__}:Pager")
    assert [alert.code for alert in tower.tick()] == ["run_failed"]


def test_a_sink_that_cannot_be_made_fails_the_tick_and_not_the_code_location(
    tower: Tower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFT_ALERTS", "pigeon")
    dg.Definitions.validate_loadable(build_defs(tower.home.resources()))
    with pytest.raises(ConfigError, match="found 'pigeon'"):
        tower.tick()


def test_a_builder_tells_of_the_runs_it_made(tower: Tower) -> None:
    refuse_market_data(tower.home)
    tower.run("refit")
    nested = [run for run in tower.instance.get_runs() if PARENT_TAG in run.tags]
    assert nested
    (alert,) = tower.tick()
    assert alert.asset == "production_checkpoint"
    assert "no bars of EURUSD" in alert.message


def test_what_a_person_executes_again_has_no_builder_to_tell_of_it(tower: Tower) -> None:
    refuse_market_data(tower.home)
    tower.run("refit")
    tower.tick()
    (nested,) = [run for run in tower.instance.get_runs() if PARENT_TAG in run.tags]
    again = tower.instance.create_run_for_job(
        build_defs(tower.home.resources()).get_implicit_global_asset_job_def(),
        tags=dict(nested.tags),  # as Dagster's re-execution does
        parent_run_id=nested.run_id,
        root_run_id=nested.run_id,
        status=dg.DagsterRunStatus.STARTED,
    )
    tower.instance.report_run_failed(again, "the machine went away")
    assert [alert.run_id for alert in tower.tick()] == [again.run_id]


def test_a_failed_check_is_told_by_its_name(tower: Tower) -> None:
    tower.home.set_faults({"market_data/2022-01-01": {"finds": ["error bars_are_sane.no_bars"]}})
    market_data(tower)
    (alert,) = tower.tick()
    assert (alert.code, alert.asset) == ("bars_are_sane", "market_data")
    assert alert.message == "check bars_are_sane: bars_are_sane.no_bars does not hold"


def test_each_finding_of_the_health_check_is_told_for_itself(tower: Tower) -> None:
    errors = [
        ["error", "data_is_fresh", "newest bar is 9 sessions old"],
        ["warn", "model_is_young", "330 days old"],
        ["error", "inputs_have_not_drifted", "PSI 3.1"],
    ]
    tower.home.set_faults({"health": errors})
    run_id = tower.run("weekly_health")
    told = tower.tick()
    assert {(a.code, a.message) for a in told} == {
        ("data_is_fresh", "newest bar is 9 sessions old"),
        ("inputs_have_not_drifted", "PSI 3.1"),
    }
    assert {a.run_id for a in told} == {run_id}


def test_a_killed_run_is_told_as_such(tower: Tower) -> None:
    @dg.job
    def dummy() -> None: ...

    run = tower.instance.create_run_for_job(dummy, status=dg.DagsterRunStatus.STARTED)
    tower.instance.report_run_failed(run, KILLED)
    (alert,) = tower.tick()
    assert (alert.code, alert.run_id) == ("run_killed", run.run_id)


def test_a_refused_candidate_is_told_once_however_often_it_is_judged(
    finished: dg.ExecuteInProcessResult, tower: Tower
) -> None:
    judged = {"checkpoint": "x_trend/v7", "gate": "refused", "promoted": False}
    reasons = "1 of 6 rules of the gate fail: net Sharpe ratio -0.20, at least 0.00 asked for."
    summary = {"summary": {**judged, "gate_reasons": reasons}}
    tower.home.set_faults({"production_checkpoint/all": summary})
    run_id = tower.run("refit")
    (alert,) = tower.tick()
    assert (alert.code, alert.asset, alert.run_id) == (
        "gate_refused",
        "production_checkpoint",
        run_id,
    )
    assert alert.message == f"x_trend/v7: {reasons}"
    judge(tower, **judged, gate_reasons=reasons)
    assert tower.tick() == []
    judge(tower, **judged | {"checkpoint": "x_trend/v8"}, gate_reasons=reasons)
    assert [alert.cause for alert in tower.tick()] == ["gate/x_trend/v8"]


def judge(tower: Tower, **shown: object) -> None:
    """A materialization of the checkpoint with these figures."""
    made = dg.AssetMaterialization("production_checkpoint", metadata=shown)
    tower.instance.report_runless_asset_event(made)


@pytest.mark.parametrize("gate", ["passed", "refused"])
def test_a_promoted_candidate_is_no_alarm(tower: Tower, gate: str) -> None:
    judge(tower, checkpoint="v7", gate=gate, promoted=True, gate_reasons="")
    assert tower.tick() == []


# -- nights ------------------------------------------------------------------------------------

OPERATIONS = OperationsConfig(
    timezone="Asia/Kolkata", exchange="24/5", nightly_hour=18, publish_within_hours=2
)


def publish(home: Home, day: str, cause: str = NIGHTLY_CAUSE) -> None:
    with Ledger(home.workspace().settings.ledger_path) as ledger:
        ledger.publish(STRATEGY_ID, date.fromisoformat(day), [], {}, cause)


def missed(home: Home, now: datetime) -> list[tuple[str, str]]:
    settings = home.workspace().settings
    alerts = night_missed(settings, OPERATIONS, AlertBook(settings.alerts_path), now)
    return [(alert.code, alert.key) for alert in alerts]


def test_a_session_is_overdue_two_hours_after_its_run_in_the_markets_own_zone(home: Home) -> None:
    publish(home, "2026-11-12")
    # Friday, 20:00 in Kolkata is 14:30 in UTC
    assert missed(home, datetime(2026, 11, 13, 14, 29, tzinfo=UTC)) == []
    overdue = [("nightly_not_published", FRIDAY)]
    assert missed(home, datetime(2026, 11, 13, 14, 30, tzinfo=UTC)) == overdue
    assert missed(home, datetime(2026, 11, 15, 12, 0, tzinfo=UTC)) == overdue  # on Sunday, too
    publish(home, FRIDAY)
    assert missed(home, datetime(2026, 11, 15, 12, 0, tzinfo=UTC)) == []


def test_before_the_first_live_night_nothing_is_overdue(home: Home) -> None:
    now = datetime(2026, 11, 15, 12, 0, tzinfo=UTC)
    assert missed(home, now) == []
    publish(home, "2026-11-02", cause="walk-forward backfill")
    assert missed(home, now) == []


def test_a_session_that_an_orchestrator_published_is_not_overdue(home: Home) -> None:
    saturday = datetime(2026, 11, 14, 12, 0, tzinfo=UTC)
    publish(home, FRIDAY, cause="scheduled")
    assert missed(home, saturday + timedelta(days=30)) == []  # no night has begun
    publish(home, "2026-11-12")
    assert missed(home, saturday) == []
    assert missed(home, saturday + timedelta(days=3)) == [
        ("nightly_not_published", "2026-11-16"),
    ]


def test_a_night_whose_run_said_why_is_not_told_twice(tower: Tower) -> None:
    publish(tower.home, "2020-01-01")  # long overdue whatever the day of this test is
    (night,) = tower.tick()
    assert night.code == "nightly_not_published"
    due = night.key
    tower.home.path.joinpath("alerts.sqlite").unlink()

    refused = {"code": "stale_model", "refuses": "trained 500 days ago"}
    tower.home.set_faults({f"inference/{due}": refused})
    tower.run("nightly_inference", due)
    (alert,) = tower.tick()
    assert (alert.code, alert.asset, alert.key) == ("stale_model", "inference", due)
    assert alert.look.endswith("#the-whole-session")


def test_a_session_that_waits_for_the_one_before_it_is_not_told(tower: Tower) -> None:
    waits = {"as": "OutOfOrderError", "refuses": "sessions must be published in order"}
    tower.home.set_faults({f"inference/{FRIDAY}": waits})
    tower.run("nightly_inference", FRIDAY)
    assert tower.tick() == []
