"""The UI as a person uses it, in a real browser. One story: the tests follow each other."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
from playwright.sync_api import BrowserContext, Page, expect
from served_site import Site, shoot

from tft_core.training_pipeline.artifacts import ArtifactStore
from tft_core.training_pipeline.graph import SPECS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

FOLDS = ("2018-01-01", "2018-04-01", "2018-07-01")
PAST_SESSION = "2018-05-15"
BUILD_TIMEOUT_MS, RUN_TIMEOUT_MS = 600_000, 240_000


@contextmanager
def instance(site: Site) -> Iterator[dg.DagsterInstance]:
    """The server's own instance, to see what a click did."""
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = site.environ["DAGSTER_HOME"]
    try:
        with dg.DagsterInstance.get() as made:
            yield made
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before


def confirm(page: Page, button: str) -> None:
    """Press a button of the dialog in front."""
    page.get_by_role("dialog").first.get_by_role("button", name=button, exact=True).click()


def pick_partitions(page: Page, keys: tuple[str, ...]) -> None:
    """Choose static partitions in the launch dialog."""
    dialog = page.get_by_role("dialog").first
    dialog.get_by_text("Select a partition").click()
    for key in keys:
        page.get_by_role("menuitem", name=key).first.click()
    dialog.get_by_text(re.compile("^Launch runs to materialize")).click()  # closes the list


def test_the_graph_opens_and_explains_itself(site: Site, page: Page) -> None:
    size = page.viewport_size
    page.set_viewport_size({"width": 2600, "height": 1200})  # or names are too small to be drawn
    page.goto(f"{site.ui}/asset-groups")
    expect(page.get_by_text("exploration").first).to_be_visible()
    for _ in range(10):  # keys are listened to once the graph is drawn, and nothing says when
        page.wait_for_timeout(2000)
        page.keyboard.press("Alt+e")  # expand all groups, or fold them
        page.wait_for_timeout(2000)
        if page.get_by_text("market_data").first.is_visible():
            break
    for name in ("market_data", "exploration_fold", "inference"):
        expect(page.get_by_text(name).first).to_be_visible()
    assert size is not None
    page.set_viewport_size(size)
    page.goto(f"{site.ui}/assets")
    for name in SPECS:
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    shoot(page, "catalog")


def test_the_graph_is_materialized_from_the_catalogue_and_its_run_watched(
    site: Site, page: Page
) -> None:
    page.goto(f"{site.ui}/assets")
    box = page.get_by_test_id("checkbox-production_checkpoint")
    box.wait_for(state="attached")
    box.dispatch_event("click")  # the input itself lies under its picture
    page.get_by_role("button", name="Materialize selected").click()
    confirm(page, "Confirm")  # that nothing upstream is there yet is what it builds
    expect(page.get_by_text(re.compile("Launched run"))).to_be_visible()
    with instance(site) as dagster:
        (launched,) = [r for r in dagster.get_runs() if "tft/parent_run" not in r.tags]
    page.goto(f"{site.ui}/runs/{launched.run_id}")
    expect(page.get_by_text(re.compile("Build 5 of at most 30"))).to_be_visible(
        timeout=BUILD_TIMEOUT_MS
    )
    shoot(page, "run")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=BUILD_TIMEOUT_MS)
    artifacts = ArtifactStore(site.home / "artifacts")
    assert artifacts.current("production_checkpoint", "all") is not None
    with instance(site) as dagster:
        runs = dagster.get_runs()
        assert len(runs) == 31
        assert {r.status for r in runs} == {dg.DagsterRunStatus.SUCCESS}
        assert {r.tags["tft/profile"] for r in runs} == {"tiny"}


def test_the_graph_is_green(site: Site, page: Page) -> None:
    page.set_viewport_size({"width": 1600, "height": 520})
    page.goto(f"{site.ui}/asset-groups")
    page.get_by_role("button", name="Hide navigation").click()
    expect(page.get_by_text("exploration").first).to_be_visible()
    page.wait_for_timeout(2000)
    page.keyboard.press("Alt+e")
    expect(page.get_by_text("production_fold").first).to_be_visible()
    shoot(page, "graph")


def test_the_report_opens_from_the_assets_page(
    site: Site, page: Page, context: BrowserContext
) -> None:
    page.goto(f"{site.ui}/assets/production_checkpoint")
    link = page.get_by_role("link", name=re.compile(r"tear_sheet\.html$")).first
    expect(link).to_be_visible()
    shoot(page, "asset")
    with context.expect_page() as opened:
        link.click()
    report = opened.value
    report.wait_for_load_state()
    assert report.url.startswith(f"{site.pages}/artifacts/production_checkpoint/all/")
    expect(report.get_by_role("heading").first).to_be_visible()
    expect(report.get_by_role("img").first).to_be_visible()
    shoot(report, "report")


def test_three_folds_are_backfilled(site: Site, page: Page) -> None:
    page.goto(f"{site.ui}/assets/exploration_fold")
    page.get_by_role("button", name="Materialize…").click()
    pick_partitions(page, FOLDS)
    expect(page.get_by_role("dialog").first.get_by_text("3 partitions")).to_be_visible()
    shoot(page, "backfill_dialog")
    confirm(page, "Launch backfill")
    with instance(site) as dagster:
        for _ in range(RUN_TIMEOUT_MS // 1000):
            backfills = dagster.get_backfills()
            if backfills and backfills[0].status.value == "COMPLETED_SUCCESS":
                break
            page.wait_for_timeout(1000)
        (backfill,) = backfills
        assert backfill.status.value == "COMPLETED_SUCCESS"
        runs = dagster.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill.backfill_id}))
        assert sorted(r.tags["dagster/partition"] for r in runs) == sorted(FOLDS)
        assert {r.status for r in runs} == {dg.DagsterRunStatus.SUCCESS}
    page.goto(f"{site.ui}/assets/exploration_fold?view=partitions&partition={FOLDS[0]}")
    expect(page.get_by_text("training_curves").first).to_be_visible()
    shoot(page, "partitions")
    row = page.locator("tr").filter(has=page.get_by_text("weights", exact=True))
    row.get_by_text("Show Markdown").click()
    expect(page.get_by_role("dialog").first.get_by_role("img", name="weights")).to_be_visible()
    shoot(page, "picture")


def test_numbers_are_plotted_over_the_folds(site: Site, page: Page) -> None:
    page.goto(f"{site.ui}/assets/exploration_fold")
    page.get_by_role("button", name="Plots").first.click()
    expect(page.locator("canvas").first).to_be_visible()
    shoot(page, "plots")


def test_the_nightly_job_is_launched_for_a_past_session(site: Site, page: Page) -> None:
    page.goto(f"{site.ui}/locations/tft/jobs/nightly_inference")
    page.get_by_role("button", name="Materialize all…").click()
    dialog = page.get_by_role("dialog").first
    dialog.get_by_role("button", name="Show all partitions").click()  # not the last 90 days alone
    selection = dialog.locator("input[type=text]").first
    selection.fill(PAST_SESSION)
    selection.press("Enter")
    expect(dialog.get_by_text("1 partition")).to_be_visible()
    shoot(page, "nightly_dialog")
    dialog.get_by_role("button", name="Launch 1 run").click()
    with instance(site) as dagster:
        wanted = dg.RunsFilter(job_name="nightly_inference")
        for _ in range(RUN_TIMEOUT_MS // 1000):
            runs = dagster.get_runs(wanted)
            if runs and runs[0].is_finished:
                break
            page.wait_for_timeout(1000)
        (run,) = runs
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert run.tags["dagster/partition"] == PAST_SESSION
    signals = ArtifactStore(site.home / "artifacts").read("strategy_signals", PAST_SESSION)
    assert signals.summary["published"]


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Raises ``TimeoutError`` if it does not come to hold."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"what was clicked must take effect within {seconds:g} s")
        time.sleep(0.5)


def test_a_schedule_is_turned_on_and_off(site: Site, page: Page) -> None:
    def status() -> str:
        with instance(site) as dagster:
            states = {s.instigator_name: s.status.value for s in dagster.all_instigator_state()}
        return states.get("nightly_inference_after_close", "never started")

    page.goto(f"{site.ui}/automation")
    name = page.get_by_text("nightly_inference_after_close", exact=True).first
    switch_of = "xpath=ancestor::*[.//label[contains(@class, 'Switch')]][1]"
    switch = name.locator(switch_of).locator("label[class*=Switch]").first
    assert status() != "RUNNING"  # it ships stopped
    switch.click()
    wait_until(lambda: status() == "RUNNING")
    shoot(page, "automation")
    switch.click()
    wait_until(lambda: status() in ("STOPPED", "DECLARED_IN_CODE"))
