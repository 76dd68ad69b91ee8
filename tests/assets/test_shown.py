"""What the UI shows of an asset and of a run: explanations, links, tags."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from fake_workspace import Home

from tft_assets import provenance
from tft_assets.build import build_defs
from tft_assets.metadata import DOCS_PAGES
from tft_assets.progress import with_time_left
from tft_assets.provenance import COMMIT_TAG, DATA_TAG, PROFILE_TAG, git_commit
from tft_core.training_pipeline.graph import CHECKS, SPECS

ROOT = Path(__file__).parents[2]
FIRST = "2022-01-01"


def run(
    home: Home, instance: dg.DagsterInstance, assets: list[str], key: str | None
) -> dg.ExecuteInProcessResult:
    job = build_defs(home.resources()).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        asset_selection=[dg.AssetKey(name) for name in assets],
        partition_key=key,
        instance=instance,
        raise_on_error=False,
    )


def test_every_asset_explains_itself(home: Home) -> None:
    graph = build_defs(home.resources()).resolve_asset_graph()
    for name in SPECS:
        node = graph.get(dg.AssetKey(name))
        assert node.description and len(node.description) > 60
        assert node.group_name != "default"
        assert node.owners and node.kinds and node.code_version
        page = ROOT / "docs" / DOCS_PAGES[name]
        assert node.metadata["docs"] == dg.MetadataValue.url(
            f"http://127.0.0.1:3001/docs/{page.name}"
        )
        assert page.is_file()
    assert {c.name for checks in CHECKS.values() for c in checks if not c.description} == set()


def test_jobs_schedules_and_sensors_explain_themselves(home: Home) -> None:
    repository = build_defs(home.resources()).get_repository_def()
    jobs = [j for j in repository.get_all_jobs() if not j.name.startswith("__")]
    assert {j.name for j in jobs if not j.description} == set()
    instigators = [*repository.schedule_defs, *repository.sensor_defs]
    assert {i.name for i in instigators if not i.description} == set()


def test_a_run_is_tagged_with_profile_commit_and_data(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFT_GIT_COMMIT", "0123abc")
    git_commit.cache_clear()
    result = run(home, instance, ["market_data", "mega_features"], FIRST)
    tags = instance.get_run_by_id(result.run_id).tags
    market = home.workspace().artifacts.read("market_data", FIRST)
    assert (tags[PROFILE_TAG], tags[COMMIT_TAG]) == ("test", "0123abc")
    assert tags[DATA_TAG] == market.content_hash[:16]
    git_commit.cache_clear()


def test_runs_of_a_builder_are_tagged_too_and_the_checkpoint_by_the_live_data(
    finished: dg.ExecuteInProcessResult, home: Home, instance: dg.DagsterInstance
) -> None:
    assert finished.success
    artifacts = home.workspace().artifacts
    runs = instance.get_runs()
    assert len(runs) > 10
    for made in runs:
        key = made.tags.get("dagster/partition", "live")
        market = artifacts.read("market_data", key).content_hash[:16]
        assert made.tags[DATA_TAG] == market
        assert made.tags[PROFILE_TAG] == "test"
        assert made.tags[COMMIT_TAG] == git_commit()


def test_a_failed_run_says_with_what_it_was_made(home: Home, instance: dg.DagsterInstance) -> None:
    home.set_faults({f"market_data/{FIRST}": {"refuses": "no bars"}})
    result = run(home, instance, ["market_data"], FIRST)
    assert not result.success
    tags = instance.get_run_by_id(result.run_id).tags
    assert tags[PROFILE_TAG] == "test"
    assert DATA_TAG not in tags


def test_a_run_of_a_session_has_no_data_partition(home: Home, instance: dg.DagsterInstance) -> None:
    assert run(home, instance, ["inference"], "2026-11-13").success
    (made,) = instance.get_runs()
    assert made.tags[PROFILE_TAG] == "test"
    assert DATA_TAG not in made.tags


def test_the_commit_is_that_of_the_checkout_and_names_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.delenv("TFT_GIT_COMMIT", raising=False)
    monkeypatch.setattr(provenance, "HERE", tmp_path / "tft_assets" / "provenance.py")
    code = tmp_path / "tft_assets" / "provenance.py"
    code.parent.mkdir()
    code.write_text("one")
    git("init", "-q")

    def asked() -> str:
        git_commit.cache_clear()
        return git_commit()

    assert asked() == "not a checkout"  # untracked: as a wheel below somebody's repository is
    git("add", "-A")
    assert asked() == "no commit yet"
    git("commit", "-qm", "one")
    assert asked() == git("rev-parse", "HEAD")[:12]
    (tmp_path / "notes.txt").write_text("beside the packages")
    assert asked() == git("rev-parse", "HEAD")[:12]
    code.write_text("two")
    assert asked() == git("rev-parse", "HEAD")[:12] + "+changes"
    git_commit.cache_clear()


def test_the_report_of_an_artifact_is_a_link_that_a_browser_follows(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFT_PAGES_URL", "https://reports.example/tft/")
    result = run(home, instance, ["market_data"], FIRST)
    (event,) = result.get_asset_materialization_events()
    artifact = home.workspace().artifacts.read("market_data", FIRST)
    assert event.materialization.metadata["report_page"] == dg.MetadataValue.url(
        "https://reports.example/tft/artifacts/market_data/2022-01-01/"
        f"{artifact.path.name}/report.html"
    )


def test_a_line_that_counts_gets_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 30.0, 60.0, 61.0])
    monkeypatch.setattr("tft_assets.progress.time.monotonic", lambda: next(clock))
    lines: list[str] = []
    write = with_time_left(lines.append)
    for text in ("trial 2 of 40", "trial 5 of 40, best 0.3", "no count", "trial 1 of 10"):
        write(text)
    assert lines == [
        "trial 2 of 40",  # begun before, so nothing is known
        "trial 5 of 40, best 0.3; about 6 min left",  # 10 s a trial, 35 left
        "no count",
        "trial 1 of 10",  # another count
    ]


def test_the_code_location_starts_without_git(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tft_assets.provenance import git_commit; print(git_commit())"],
        cwd=ROOT,
        env={"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "not a checkout"


def test_lines_of_the_core_are_events_of_their_run_and_name_asset_and_fold(home: Home) -> None:
    home.set_faults({f"market_data/{FIRST}": {"says": "reading bars"}})
    managed = {"managed_python_loggers": ["tft_core"], "python_log_level": "INFO"}
    with dg.instance_for_test(overrides={"python_logs": managed}) as instance:
        run_id = run(home, instance, ["market_data"], FIRST).run_id
        (event,) = [e for e in instance.all_logs(run_id) if "reading bars" in e.user_message]
    assert event.user_message == f"[run {run_id[:8]} market_data/{FIRST}] reading bars"
    assert (event.run_id, event.step_key) == (run_id, "market_data")
