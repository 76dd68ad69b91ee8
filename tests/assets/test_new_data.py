"""The sensor ``new_data``: what it says, when it asks for a refit, and what goes stale by it."""

from typing import Any

import dagster as dg
import pytest
from fake_workspace import FakeWorkspace, Home

from tft_assets.build import build_defs
from tft_assets.missing import needs

DAYS = ("2024-06-03", "2024-06-04", "2025-02-03")
NEXT, AFTER, THIRD = "2025-02-04", "2025-02-05", "2025-02-06"


class Watcher:
    """Evaluates the sensor tick by tick; what it observes is recorded as the daemon does it."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        self.home, self.instance, self.cursor = home, instance, None
        home.set_market(*DAYS)

    def tick(self, *, keeps_cursor: bool = True) -> tuple[list[str], str]:
        """Run keys of the refits that are asked for, and the reason why there is none."""
        sensor = build_defs(self.home.resources()).resolve_sensor_def("new_data")
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            result = sensor.evaluate_tick(context)
        if keeps_cursor:
            self.cursor = result.cursor
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        return [str(r.run_key) for r in result.run_requests or ()], result.skip_message or ""

    def limit(self, **limits: int) -> None:
        self.home.sections["operations"].update(limits)

    def make_live(self) -> None:
        """The live fold's data and model from the store as it is, without Dagster."""
        workspace = self.home.workspace()
        for asset, key in live_chain(workspace):
            workspace.build(asset, key)


def live_chain(workspace: FakeWorkspace) -> list[tuple[str, str]]:
    from tft_core.training_pipeline.graph import LIFECYCLE, SPECS

    return [
        (asset, key)
        for asset in LIFECYCLE
        if SPECS[asset].partitions == "fold"
        for key in workspace.plan.keys
    ]


@pytest.fixture
def watcher(home: Home, instance: dg.DagsterInstance) -> Watcher:
    made = Watcher(home, instance)
    made.make_live()
    return made


def test_without_a_store_it_says_what_to_do(watcher: Watcher) -> None:
    watcher.home.path.joinpath("market.json").unlink()
    assert watcher.tick() == ([], "There is no market store yet; run `tft ingest`.")


def test_an_unchanged_store_is_not_opened(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = watcher.tick()
    assert first == ([], "The live fold was made from the newest bars (2025-02-03).")

    def opened(self: FakeWorkspace) -> Any:
        raise AssertionError("the store was opened")

    monkeypatch.setattr(FakeWorkspace, "arrivals", opened)
    assert watcher.tick() == ([], f"Nothing has changed. {first[1]}")


def test_new_bars_are_said_with_their_numbers_and_nothing_starts_unasked(watcher: Watcher) -> None:
    watcher.home.set_market(*DAYS, NEXT, AFTER, restated=3)
    assert watcher.tick() == (
        [],
        "The live fold is stale: 2 new sessions up to 2025-02-05 and 3 restated bars since it "
        "was made from bars up to 2025-02-03.",
    )


def test_a_refit_is_asked_for_once_enough_sessions_have_come(watcher: Watcher) -> None:
    watcher.limit(refit_after_sessions=2)
    watcher.home.set_market(*DAYS, NEXT)
    assert watcher.tick()[0] == []
    watcher.home.set_market(*DAYS, NEXT, AFTER, ingestion=2)
    (key,) = watcher.tick(keeps_cursor=False)[0]
    assert watcher.tick()[0] == [key]  # a tick that was lost asks for the very same run
    assert watcher.tick()[0] == []


def test_a_late_revision_asks_for_one_refit_however_often_it_is_loaded(watcher: Watcher) -> None:
    watcher.limit(refit_after_restated=1)
    keys = []
    revised = (DAYS[0], DAYS[2])  # the fake's revision: a day that is gone
    for ingestion in range(2, 7):  # the provider sends the same file every hour
        watcher.home.set_market(*revised, restated=1, ingestion=ingestion)
        keys += watcher.tick()[0]
    assert len(keys) == 1


def test_bars_that_come_back_to_what_they_were_can_be_asked_for_again(watcher: Watcher) -> None:
    watcher.limit(refit_after_sessions=1)
    keys = []
    for ingestion, days in enumerate(((NEXT,), (NEXT, AFTER), (NEXT,)), start=2):
        watcher.home.set_market(*DAYS, *days, ingestion=ingestion)
        keys += watcher.tick()[0]
    assert len(set(keys)) == 3


def test_a_refit_that_is_at_work_is_waited_for(watcher: Watcher) -> None:
    watcher.limit(refit_after_sessions=1)
    job = build_defs(watcher.home.resources()).resolve_job_def("refit")
    run = watcher.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    watcher.home.set_market(*DAYS, NEXT)
    before = watcher.cursor
    assert watcher.tick() == ([], "A refit is at work; the store is looked into afterwards.")
    assert watcher.cursor == before
    watcher.instance.report_run_failed(run)
    assert len(watcher.tick()[0]) == 1


def test_a_checkpoint_that_somebody_materializes_is_waited_for_too(watcher: Watcher) -> None:
    watcher.limit(refit_after_sessions=1)
    chosen = [dg.AssetKey("production_checkpoint")]
    job = build_defs(watcher.home.resources()).get_implicit_global_asset_job_def()
    run = watcher.instance.create_run_for_job(
        job.get_subset(asset_selection=set(chosen)),
        asset_selection=frozenset(chosen),
        status=dg.DagsterRunStatus.STARTED,
    )
    watcher.home.set_market(*DAYS, NEXT)
    assert watcher.tick() == ([], "A refit is at work; the store is looked into afterwards.")
    watcher.instance.report_run_failed(run)
    assert len(watcher.tick()[0]) == 1


def test_a_store_that_is_being_written_is_looked_into_by_the_next_tick(watcher: Watcher) -> None:
    watcher.limit(refit_after_sessions=1)
    watcher.home.set_market(*DAYS, NEXT, locked=True)
    assert watcher.tick() == ([], "The store is being written: held by PID 12")
    watcher.home.set_market(*DAYS, NEXT)
    assert len(watcher.tick()[0]) == 1


def test_without_a_live_model_nothing_is_asked_for(
    home: Home, instance: dg.DagsterInstance
) -> None:
    watcher = Watcher(home, instance)
    watcher.limit(refit_after_sessions=1, refit_after_restated=1)
    assert watcher.tick() == ([], "There is no live model yet; materialize production_checkpoint.")


def test_where_steps_run_elsewhere_the_live_fold_itself_is_asked_for(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_k8s")
    monkeypatch.setenv("TFT_EXECUTOR", "k8s")
    watcher.limit(refit_after_sessions=1)
    watcher.home.set_market(*DAYS, NEXT)
    defs = build_defs(watcher.home.resources())
    sensor = defs.resolve_sensor_def("new_data")
    with dg.build_sensor_context(
        instance=watcher.instance, repository_def=defs.get_repository_def()
    ) as context:
        (request,) = sensor.evaluate_tick(context).run_requests
    assert (sensor.job_name, request.partition_key) == ("live_fold", "live")


# -- what Dagster shows ------------------------------------------------------------------------


def materialize_market_data(home: Home, instance: dg.DagsterInstance) -> None:
    job = build_defs(home.resources()).resolve_implicit_global_asset_job_def()
    for key in home.workspace().plan.keys:
        assert job.execute_in_process(
            asset_selection=[dg.AssetKey("market_data")], partition_key=key, instance=instance
        ).success


def stale(home: Home, instance: dg.DagsterInstance) -> dict[str, str]:
    """Dagster's reasons, by fold: the core's own view of the files is asked after them."""
    found = needs(instance, build_defs(home.resources()), home.workspace(), "market_data")
    return {need.key: need.reason for need in found}


def test_only_the_folds_whose_bars_changed_are_shown_as_stale(
    home: Home, instance: dg.DagsterInstance
) -> None:
    watcher = Watcher(home, instance)
    materialize_market_data(home, instance)
    watcher.tick()
    assert stale(home, instance) == {}
    home.set_market(*DAYS, NEXT)
    watcher.tick()
    assert stale(home, instance) == {"live": "market_store[live] has a new data version"}
    home.set_market(*DAYS)  # taken back
    watcher.tick()
    assert stale(home, instance) == {}
    home.set_market(*DAYS, NEXT)
    watcher.tick()
    materialize_market_data(home, instance)
    assert stale(home, instance) == {}
