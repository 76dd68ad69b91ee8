"""Jobs, schedules, executors, dead runs, and what people set for one run."""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd
import pytest
import yaml
from dagster._core.execution.retries import RetryMode
from fake_workspace import Home

from tft_assets.build import build_defs
from tft_assets.checks import check_results
from tft_assets.config import CheckpointOverrides, TrainingOverrides, TuningOverrides
from tft_assets.executors import make_executor
from tft_assets.metadata import figure, plot, table
from tft_assets.progress import Durations, spoken, throttled
from tft_assets.runs import (
    PROCESS_TAG,
    START_GRACE_S,
    OwnedExecutor,
    is_gone,
    owned_executor,
    process_name,
    sweep_dead_runs,
)
from tft_core.errors import ArtifactError, ConfigError
from tft_core.strategy.ledger import Ledger
from tft_core.strategy_adapter import STRATEGY_ID

ROOT = Path(__file__).parents[2]


# -- jobs and schedules ------------------------------------------------------------------------


def test_the_nightly_job_makes_one_session_from_positions_to_signals(
    home: Home, instance: dg.DagsterInstance
) -> None:
    job = build_defs(home.resources()).resolve_job_def("nightly_inference")
    result = job.execute_in_process(partition_key="2026-11-13", instance=instance)
    assert result.success
    assert home.workspace().artifacts.current("strategy_signals", "2026-11-13") is not None


def test_the_live_fold_job_makes_all_of_a_fold_in_one_run(
    home: Home, instance: dg.DagsterInstance
) -> None:
    job = build_defs(home.resources()).resolve_job_def("live_fold")
    for key in home.workspace().plan.keys:
        assert job.execute_in_process(partition_key=key, instance=instance).success
    assert home.workspace().is_fresh("production_fold", "live")


def test_every_job_has_a_longest_run_time(home: Home) -> None:
    defs = build_defs(home.resources())
    for name in ("nightly_inference", "refit", "live_fold", "weekly_health"):
        assert int(defs.resolve_job_def(name).tags["dagster/max_runtime"]) >= 3600


def evaluate(home: Home, name: str, when: datetime) -> list[dg.RunRequest]:
    defs = build_defs(home.resources())
    schedule = defs.resolve_schedule_def(name)
    with dg.build_schedule_context(
        scheduled_execution_time=when, repository_def=defs.get_repository_def()
    ) as context:
        return list(schedule.evaluate_tick(context).run_requests or [])


def test_the_nightly_schedule_asks_for_the_session_of_the_markets_own_day(home: Home) -> None:
    # 18:00 in Kolkata on Friday the 13th is 12:30 in UTC
    when = datetime(2026, 11, 13, 12, 30, tzinfo=ZoneInfo("UTC"))
    requests = evaluate(home, "nightly_inference_after_close", when)
    assert [(r.run_key, r.partition_key) for r in requests] == [("2026-11-13", "2026-11-13")]


def test_the_nightly_schedule_skips_a_day_without_a_session(home: Home) -> None:
    home.sections["operations"]["exchange"] = "XNYS"
    thanksgiving = datetime(2026, 11, 26, 12, 30, tzinfo=ZoneInfo("UTC"))
    assert evaluate(home, "nightly_inference_after_close", thanksgiving) == []


def test_a_night_before_the_close_is_refused_also_where_only_winter_time_makes_it_one(
    home: Home,
) -> None:
    """20:00 UTC is the close of New York in summer and an hour before it in winter."""
    home.sections["operations"] = {"timezone": "UTC", "exchange": "XNYS", "nightly_hour": 20}
    summer = datetime(2026, 7, 15, 20, 0, tzinfo=ZoneInfo("UTC"))
    (request,) = evaluate(home, "nightly_inference_after_close", summer)
    assert request.partition_key == "2026-07-15"
    winter = datetime(2026, 12, 15, 20, 0, tzinfo=ZoneInfo("UTC"))
    with pytest.raises(Exception, match="nightly_inference_after_close") as caught:
        evaluate(home, "nightly_inference_after_close", winter)
    assert "must lie after the close of XNYS, found 20:00" in str(caught.value.__cause__)


def test_a_session_on_a_weekend_has_its_partition_and_its_night(home: Home) -> None:
    """India's budget of 2026 was presented on a Sunday, with trading."""
    home.sections["operations"] = {
        "timezone": "Asia/Kolkata",
        "exchange": "NSE",
        "nightly_hour": 18,
    }
    published(home, "2026-01-30")
    monday = datetime(2026, 2, 2, 12, 30, tzinfo=ZoneInfo("UTC"))
    requests = evaluate(home, "nightly_inference_after_close", monday)
    assert [r.partition_key for r in requests] == ["2026-02-01", "2026-02-02"]
    defs = build_defs(home.resources())
    sessions = defs.resolve_asset_graph().get(dg.AssetKey("inference")).partitions_def
    assert {"2026-02-01", "2026-02-02"} <= set(sessions.get_partition_keys())
    assert defs.resolve_schedule_def("nightly_inference_after_close").cron_schedule == "0 18 * * *"
    sunday = datetime(2026, 2, 1, 12, 30, tzinfo=ZoneInfo("UTC"))
    (request,) = evaluate(home, "nightly_inference_after_close", sunday)
    assert request.partition_key == "2026-02-01"
    ordinary = datetime(2026, 2, 8, 12, 30, tzinfo=ZoneInfo("UTC"))
    assert evaluate(home, "nightly_inference_after_close", ordinary) == []


def published(home: Home, day: str) -> None:
    settings = home.workspace().settings
    settings.home.mkdir(parents=True, exist_ok=True)
    with Ledger(settings.ledger_path) as ledger:
        ledger.publish(STRATEGY_ID, date.fromisoformat(day), [], {}, "nightly")


def test_the_nightly_schedule_catches_up_on_missed_sessions_oldest_first(home: Home) -> None:
    published(home, "2026-11-10")
    when = datetime(2026, 11, 13, 12, 30, tzinfo=ZoneInfo("UTC"))
    requests = evaluate(home, "nightly_inference_after_close", when)
    assert [r.partition_key for r in requests] == ["2026-11-11", "2026-11-12", "2026-11-13"]
    priorities = [int(r.tags["dagster/priority"]) for r in requests]
    assert priorities == sorted(priorities, reverse=True)
    limits = yaml.safe_load((ROOT / "dagster_home" / "dagster.yaml").read_text())
    (limit,) = limits["concurrency"]["runs"]["tag_concurrency_limits"]
    assert limit["limit"] == 1
    assert all(limit["key"] in r.tags for r in requests)


def test_the_nightly_schedule_has_nothing_to_do_once_the_session_is_published(home: Home) -> None:
    published(home, "2026-11-13")
    when = datetime(2026, 11, 13, 12, 30, tzinfo=ZoneInfo("UTC"))
    assert evaluate(home, "nightly_inference_after_close", when) == []


def test_schedules_and_sensors_ship_stopped_in_the_markets_time_zone(home: Home) -> None:
    defs = build_defs(home.resources())
    schedules = [
        defs.resolve_schedule_def(n)
        for n in ("nightly_inference_after_close", "weekly_health_check", "monthly_refit")
    ]
    assert {s.default_status for s in schedules} == {dg.DefaultScheduleStatus.STOPPED}
    assert {s.execution_timezone for s in schedules} == {"Asia/Kolkata"}
    assert [s.cron_schedule for s in schedules] == ["0 18 * * 1-5", "0 9 * * 6", "0 3 1 * *"]
    sensors = {s.name: s.default_status for s in defs.get_repository_def().sensor_defs}
    assert sensors.pop("dead_runs") == dg.DefaultSensorStatus.RUNNING  # it starts nothing
    assert set(sensors.values()) == {dg.DefaultSensorStatus.STOPPED}


def test_the_monthly_refit_starts_the_checkpoint_once_a_month(home: Home) -> None:
    when = datetime(2026, 12, 1, 3, 0, tzinfo=ZoneInfo("Asia/Kolkata"))
    (request,) = evaluate(home, "monthly_refit", when)
    assert (request.run_key, request.partition_key) == ("2026-12", None)
    assert build_defs(home.resources()).resolve_schedule_def("monthly_refit").job_name == "refit"


def test_the_weekly_check_passes_on_warnings_and_fails_on_errors(
    home: Home, instance: dg.DagsterInstance
) -> None:
    def run() -> dg.ExecuteInProcessResult:
        job = build_defs(home.resources()).resolve_job_def("weekly_health")
        return job.execute_in_process(instance=instance, raise_on_error=False)

    home.set_faults({"health": [["warn", "inputs_have_not_drifted", "PSI 3.1"]]})
    assert run().success
    home.set_faults({"health": [["error", "data_is_fresh", "newest bar is 9 sessions old"]]})
    failed = run()
    event = next(e for e in failed.all_events if e.is_step_failure)
    assert event.step_failure_data.user_failure_data.description == (
        "data_is_fresh: newest bar is 9 sessions old"
    )


# -- executors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "name"),
    [({}, "multiprocess"), ({"TFT_EXECUTOR": "in_process"}, "in_process")],
)
def test_the_executor_is_chosen_by_environment(environ: dict[str, str], name: str) -> None:
    assert make_executor(environ).name == name


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"TFT_EXECUTOR": "celery"}, r"one of multiprocess, in_process, ray, k8s, found 'celery'"),
        ({"TFT_MAX_PROCESSES": "0"}, r"TFT_MAX_PROCESSES must be .* found '0'"),
    ],
)
def test_an_executor_that_cannot_be_is_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_executor(environ)


@pytest.mark.parametrize("name", ["ray", "k8s"])
def test_an_executor_without_its_extra_names_the_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, f"dagster_{name}", None)  # as if not installed
    with pytest.raises(
        ConfigError, match=rf"extra \[{name}\].*pip install 'tft-lifecycle\[{name}\]'"
    ):
        make_executor({"TFT_EXECUTOR": name, "TFT_RAY_ADDRESS": "http://127.0.0.1:8265"})


def test_a_ray_step_gets_the_runs_settings_and_none_of_its_passwords(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Executor:
        @staticmethod
        def configured(config: dict) -> dict:
            return config

    monkeypatch.setitem(sys.modules, "dagster_ray", SimpleNamespace(ray_executor=Executor))
    environ = {
        "TFT_EXECUTOR": "ray",
        "TFT_RAY_ADDRESS": "http://10.0.0.5:8265",
        "TFT_HOME": "/var/lib/tft/state",
        "TFT_PROFILE": "",  # set to nothing: not set
        "TFT_STUDIES_URL": "postgresql+psycopg2://tft:secret@db/studies",
        "DAGSTER_POSTGRES_URL": "postgresql+psycopg2://tft:secret@db/dagster",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    assert make_executor(environ) == {
        "ray": {
            "address": "http://10.0.0.5:8265",
            "env_vars": ["TFT_EXECUTOR", "TFT_RAY_ADDRESS", "TFT_HOME"],
        }
    }


# -- dead runs ---------------------------------------------------------------------------------


def dead_process() -> str:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        name = process_name(child.pid)
    return name


def test_a_process_is_known_by_its_start_too() -> None:
    mine = process_name()
    assert not is_gone(mine)
    assert is_gone(dead_process())
    host, pid, start = mine.rsplit(":", 2)
    if start:
        assert is_gone(f"{host}:{pid}:{int(start) - 1}")  # the number was given away again
    assert not is_gone(f"another-{host}:1:1")  # not ours to tell


def test_a_process_that_ended_and_that_nobody_waited_for_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        name = process_name(child.pid)
        assert not is_gone(name)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in the table
        assert is_gone(name) == Path("/proc/self/stat").exists()


@dataclasses.dataclass
class OtherExecutor(dg.Executor):
    """Looks at the run when it is asked to execute it, and takes its slot."""

    instance: dg.DagsterInstance
    retries: RetryMode = RetryMode.ENABLED

    def execute(self, plan_context: SimpleNamespace, execution_plan: None) -> Iterator[str]:
        run = self.instance.get_run_by_id(plan_context.run_id)
        claim = self.instance.event_log_storage.claim_concurrency_slot("gpu", run.run_id, "step")
        yield f"{run.tags[PROCESS_TAG]} {claim.is_claimed}"


def test_a_run_says_who_works_on_it_and_ends_the_dead_before_it_takes_a_slot() -> None:
    limits = {"concurrency": {"pools": {"default_limit": 1, "granularity": "op"}}}
    with dg.instance_for_test(overrides=limits) as instance:
        storage = instance.event_log_storage
        dead = instance.create_run_for_job(
            dummy_job(), status=dg.DagsterRunStatus.STARTED, tags={PROCESS_TAG: dead_process()}
        )
        storage.initialize_concurrency_limit_to_default("gpu")
        assert storage.claim_concurrency_slot("gpu", dead.run_id, "step").is_claimed
        new = instance.create_run_for_job(dummy_job(), status=dg.DagsterRunStatus.STARTED)
        lines: list[str] = []
        plan = SimpleNamespace(
            instance=instance, run_id=new.run_id, log=SimpleNamespace(warning=lines.append)
        )
        executor = OwnedExecutor(OtherExecutor(instance))
        assert executor.retries == RetryMode.ENABLED
        assert list(executor.execute(plan, None)) == [f"{process_name()} True"]
        assert instance.get_run_by_id(dead.run_id).status == dg.DagsterRunStatus.FAILURE
        assert lines == [
            f"ended run {dead.run_id}: its process is gone",
            f"freed the slot of ended run {dead.run_id}",
        ]


@pytest.mark.parametrize("name", ["multiprocess", "in_process"])
def test_an_owned_executor_is_configured_like_the_one_inside(name: str) -> None:
    inner = make_executor({"TFT_EXECUTOR": name})
    owned = owned_executor(inner)
    assert (owned.name, owned.config_schema) == (inner.name, inner.config_schema)
    assert owned.get_requirements({}) == inner.get_requirements({})


def test_a_run_whose_step_still_works_is_left_alone() -> None:
    with dg.instance_for_test() as instance:
        orphan = instance.create_run_for_job(
            dummy_job(),
            status=dg.DagsterRunStatus.STARTED,
            tags={PROCESS_TAG: dead_process(), f"{PROCESS_TAG}/optuna_study": process_name()},
        )
        assert sweep_dead_runs(instance) == []
        idle = {f"{PROCESS_TAG}/optuna_study": "idle"}
        instance.add_run_tags(orphan.run_id, idle)
        assert len(sweep_dead_runs(instance)) == 1


def test_a_run_that_is_just_beginning_may_have_the_tags_of_the_run_it_repeats() -> None:
    with dg.instance_for_test() as instance:
        inherited = {f"{PROCESS_TAG}/optuna_study": dead_process()}
        again = instance.create_run_for_job(dummy_job(), tags=inherited)
        started = dg.DagsterEvent(
            event_type_value="PIPELINE_START", job_name=again.job_name, message=""
        )
        instance.report_dagster_event(started, again.run_id)
        assert instance.get_run_by_id(again.run_id).status == dg.DagsterRunStatus.STARTED
        assert sweep_dead_runs(instance) == []
        time.sleep(START_GRACE_S + 0.1)
        assert len(sweep_dead_runs(instance)) == 1  # nobody took it over


def test_the_sensor_of_dead_runs_runs_from_the_start_and_sweeps(home: Home) -> None:
    with dg.instance_for_test() as instance:
        dead = instance.create_run_for_job(
            dummy_job(), status=dg.DagsterRunStatus.STARTED, tags={PROCESS_TAG: dead_process()}
        )
        sensor = build_defs(home.resources()).resolve_sensor_def("dead_runs")
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
        with dg.build_sensor_context(instance=instance) as context:
            tick = sensor.evaluate_tick(context)
        assert dead.run_id in tick.skip_message
        assert instance.get_run_by_id(dead.run_id).status == dg.DagsterRunStatus.FAILURE


def test_a_killed_run_is_ended_and_its_slot_given_back() -> None:
    limits = {"concurrency": {"pools": {"default_limit": 1, "granularity": "op"}}}
    with dg.instance_for_test(overrides=limits) as instance:
        storage = instance.event_log_storage
        killed = instance.create_run_for_job(
            dummy_job(),
            status=dg.DagsterRunStatus.STARTED,
            tags={f"{PROCESS_TAG}/exploration_fold": dead_process()},
        )
        alive = instance.create_run_for_job(
            dummy_job(), status=dg.DagsterRunStatus.STARTED, tags={PROCESS_TAG: process_name()}
        )
        untold = instance.create_run_for_job(dummy_job(), status=dg.DagsterRunStatus.STARTED)
        again = instance.create_run_for_job(  # a re-execution has the tags of the killed run
            dummy_job(), status=dg.DagsterRunStatus.STARTING, tags=dict(killed.tags)
        )
        storage.initialize_concurrency_limit_to_default("gpu")
        assert storage.claim_concurrency_slot("gpu", killed.run_id, "step").is_claimed
        assert not storage.claim_concurrency_slot("gpu", alive.run_id, "step").is_claimed

        lines = sweep_dead_runs(instance)

        assert len(lines) == 2
        assert instance.get_run_by_id(killed.run_id).status == dg.DagsterRunStatus.FAILURE
        for run in (alive, untold):
            assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED
        assert instance.get_run_by_id(again.run_id).status == dg.DagsterRunStatus.STARTING
        assert storage.claim_concurrency_slot("gpu", alive.run_id, "step").is_claimed


def dummy_job() -> dg.JobDefinition:
    @dg.job
    def dummy() -> None: ...

    return dummy


# -- what people set and see -------------------------------------------------------------------


def test_launchpad_fields_are_fields_of_the_core_and_default_to_the_file() -> None:
    from tft_core.hp_tuner.config import TunerConfig
    from tft_core.training.config import TrainingConfig
    from tft_core.training_pipeline.phases import PHASES

    def names(cls: type) -> set[str]:
        return {field.name for field in dataclasses.fields(cls)}

    training, tuning = set(TrainingOverrides.model_fields), set(TuningOverrides.model_fields)
    assert training <= names(TrainingConfig)
    assert tuning <= names(TunerConfig)
    assert training == set(PHASES["exploration_fold"].overrides)
    assert training == set(PHASES["production_fold"].overrides)
    assert tuning == set(PHASES["optuna_study"].overrides)
    assert CheckpointOverrides(force_reason="x").to_core().keys() == set(
        PHASES["production_checkpoint"].overrides
    )
    for config in (TrainingOverrides, TuningOverrides, CheckpointOverrides):
        assert config().to_core() == {}


def test_an_error_that_belongs_to_no_check_is_not_lost(home: Home) -> None:
    home.set_faults({"prefiltered_features/2022-01-01": {"finds": ["error nobody.looks"]}})
    workspace = home.workspace()
    for asset in ("market_data", "mega_features"):
        workspace.build(asset, "2022-01-01")
    with pytest.raises(ArtifactError, match=r"found nobody\.looks"):
        check_results(workspace.build("prefiltered_features", "2022-01-01"))


def test_a_finding_with_a_detail_belongs_to_its_check(home: Home) -> None:
    home.set_faults({"market_data/2022-01-01": {"finds": ["warn bars_are_sane.spike"]}})
    (result,) = check_results(home.workspace().build("market_data", "2022-01-01"))
    assert (result.check_name, result.passed) == ("bars_are_sane", False)
    assert result.severity == dg.AssetCheckSeverity.WARN


def test_figures_keep_their_kind_and_undefined_ones_are_null() -> None:
    assert figure(0.5) == dg.MetadataValue.float(0.5)
    assert figure(3) == dg.MetadataValue.int(3)
    assert figure(True) == dg.MetadataValue.bool(True)
    assert figure(float("nan")) == dg.MetadataValue.null()
    assert figure("refused") == dg.MetadataValue.text("refused")


def test_tables_show_undefined_cells_as_empty_and_days_as_days() -> None:
    frame = pd.DataFrame(
        {
            "day": pd.to_datetime(["2026-11-13", "2026-11-16"]),
            "n": [1, 2],
            "x": [0.25, float("nan")],
        }
    )
    shown = table(frame)
    assert [record.data for record in shown.records] == [
        {"day": "2026-11-13", "n": 1, "x": 0.25},
        {"day": "2026-11-16", "n": 2, "x": ""},
    ]


def test_a_plot_is_shown_inline_and_a_large_one_is_linked(tmp_path: Path) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    small.write_bytes(b"png")
    large.write_bytes(b"0" * 600_000)
    inline = dg.MetadataValue.md("![curve](data:image/png;base64,cG5n)")
    assert plot(small, "curve", shown_at="s3://b/curve.png") == inline
    linked = dg.MetadataValue.path("s3://b/curve.png")
    assert plot(large, "curve", shown_at="s3://b/curve.png") == linked


def test_progress_lines_are_throttled_and_time_left_is_what_the_timed_builds_say() -> None:
    lines: list[str] = []
    write = throttled(lines.append, every_s=0.05)
    for number in range(3):
        write(f"epoch {number}")
    time.sleep(0.06)
    write("epoch 9")
    assert lines == ["epoch 0", "epoch 9"]
    durations = Durations()
    assert durations.left(["a"]) == "time left not known yet"
    durations.add("a", 60.0)
    durations.add("a", 120.0)
    assert durations.left(["a", "a"]) == "about 3 min left"
    assert durations.left(["a", "b"]) == "at least 2 min left"
    assert [spoken(s) for s in (45.0, 600.0, 12_000.0)] == ["45 s", "10 min", "3 h 20 min"]


# -- files at the root ---------------------------------------------------------------------------


def test_the_instance_file_is_one_that_dagster_accepts(tmp_path: Path) -> None:
    text = (ROOT / "dagster_home" / "dagster.yaml").read_text()
    (tmp_path / "dagster.yaml").write_text(text)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.telemetry_enabled is False
        assert instance.nux_enabled is False
        assert instance.managed_python_loggers == ["tft_core"]
        assert instance.run_monitoring_enabled
        pools = instance.get_concurrency_config().pool_config
        assert pools.default_pool_limit == 1
        assert pools.pool_granularity is not None and pools.pool_granularity.value == "op"


def test_the_workspace_file_names_the_one_code_location() -> None:
    (entry,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert entry["python_module"]["module_name"] == "tft_assets.definitions"


def test_the_core_never_imports_dagster() -> None:
    code = (
        "import sys, tft_core.training_pipeline.phases; "
        "print([n for n in sys.modules if n.split('.')[0] in ('dagster', 'tft_assets')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
