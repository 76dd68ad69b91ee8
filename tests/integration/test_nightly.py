"""From promotion on: nights in order, catching up, kills, backfills of the past, tracking."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.tiny import ANCHOR, SYMBOLS, tiny_bars
from tft_core.cli import main
from tft_core.data.store import MarketDataStore
from tft_core.errors import DataError, InferenceError
from tft_core.inference import Refusal
from tft_core.schema import MODEL_TYPE
from tft_core.strategy.ledger import Ledger
from tft_core.strategy_adapter import STRATEGY_ID
from tft_core.training_pipeline import Workspace
from tft_core.training_pipeline.nightly import run_nightly
from tft_core.training_pipeline.phases.serving import model_of_session, previous_held
from tft_core.training_pipeline.tracking import recorded_days, track_published

LAST = tiny_bars()["date"].max()


@pytest.fixture
def workspace(lifecycle, tmp_path) -> Workspace:
    """A copy of the finished lifecycle that a test may carry on."""
    settings = lifecycle[0].workspace.settings
    shutil.copytree(settings.home, tmp_path / "home")
    (tmp_path / "home" / "signals.sqlite").unlink(missing_ok=True)
    return Workspace.open(replace(settings, home=tmp_path / "home"))


def after(session: pd.Timestamp) -> datetime:
    """Midnight UTC after a session: it has closed."""
    return datetime.combine(session.date() + timedelta(days=1), datetime.min.time(), UTC)


def ingest_more(
    workspace: Workspace, days: pd.DatetimeIndex, symbols: tuple[str, ...] = SYMBOLS
) -> None:
    """Bars of further sessions: a quiet random walk from the last ones."""
    rng = np.random.default_rng(1)
    bars = tiny_bars()
    newest = bars[bars["date"] == LAST].set_index("symbol")
    frames = []
    for day in days:
        close = newest["close"] * np.exp(0.008 * rng.standard_normal(len(newest)))
        newest = newest.assign(date=day, open=newest["close"], close=close)
        newest = newest.assign(
            high=newest[["open", "close"]].max(axis=1), low=newest[["open", "close"]].min(axis=1)
        )
        frames.append(newest.reset_index())
    with MarketDataStore(workspace.settings.store_path) as store:
        more = pd.concat(frames)
        store.ingest(more[more["symbol"].isin(symbols)])


def published(workspace: Workspace) -> list[date]:
    with Ledger(workspace.settings.ledger_path) as ledger:
        assert ledger.verify() == []
        return ledger.sessions(STRATEGY_ID)


def test_nights_are_caught_up_in_order_and_done_once(workspace, monkeypatch, capsys):
    first = run_nightly(workspace, after(LAST))
    assert published(workspace) == [LAST.date()]
    assert "revision 1" in first.text()
    again = run_nightly(workspace, after(LAST))
    assert again.done == ()
    assert again.text() == f"nothing to do: every session up to {LAST.date()} is published"

    days = pd.bdate_range(LAST + pd.offsets.BDay(1), periods=5)
    ingest_more(workspace, days.delete(2))  # a holiday in the middle
    with pytest.raises(DataError, match=f"must be published in order.*{days[0].date()} is not"):
        workspace.build("inference", days[1].date().isoformat())
    report = run_nightly(workspace, after(days[-1]))
    assert [d["session"] for d in report.done] == [d.date().isoformat() for d in days.delete(2)]
    assert f"passed over, without any bar: {days[2].date()}" in report.text()
    assert published(workspace) == [LAST.date(), *(d.date() for d in days.delete(2))]
    previous = [
        workspace.artifacts.read("inference", d.date().isoformat()).summary["previous"]
        for d in days.delete(2)
    ]
    assert previous == ["given"] * 4

    newest = days[-1].date().isoformat()
    night = workspace.artifacts.read("inference", newest).json("result.json")["positions"]
    capsys.readouterr()
    monkeypatch.setattr("tft_core.cli.model_commands.load_settings", lambda: workspace.settings)
    assert main(["predict", newest, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["positions"] == night

    late = run_nightly(workspace, after(days[-1] + pd.offsets.BDay(1)))
    assert late.is_waiting
    assert "no bars of" in late.text()

    tracked = track_published(workspace)
    assert {t.name: t.verdict for t in tracked.tracked} == {
        "net": "unknown",
        "information_coefficient": "unknown",
        "lag_slippage": "unknown",
    }
    assert np.isfinite(tracked.daily["net"]).all()
    assert 0 < len(tracked.daily) < 5  # the newest decisions have no label yet

    # the bars are years old: nobody can have traded these at the close that they count from
    assert tracked.late[0] == LAST.date()
    monkeypatch.setattr("tft_core.cli.signal_commands.load_settings", lambda: workspace.settings)
    capsys.readouterr()
    assert main(["track"]) == 0
    assert f"late: {len(tracked.late)} sessions ({LAST.date()}, " in capsys.readouterr().out

    fills = pd.DataFrame({"session": [str(LAST.date())], "symbol": ["S00"], "price": [1.0]})
    with MarketDataStore(workspace.settings.store_path, read_only=True) as store:
        entry = store.bars(["S00"], days[0].date(), days[0].date())["close"].iloc[0]
    fills["price"] = entry * 1.001
    with Ledger(workspace.settings.ledger_path) as ledger:
        position = ledger.read(STRATEGY_ID, LAST.date(), "first").positions["S00"]
    slipped = track_published(workspace, fills=fills).fill_slippage_bps
    assert slipped == pytest.approx(10.0 * np.sign(position), rel=1e-6)
    with pytest.raises(DataError, match="must be of a published session"):
        track_published(workspace, fills=fills.assign(symbol="NONE"))


def test_a_night_on_which_half_of_the_bars_are_missing_says_so(workspace):
    run_nightly(workspace, after(LAST))
    day = LAST + pd.offsets.BDay(1)
    ingest_more(workspace, pd.DatetimeIndex([day]), symbols=("S00", "S01"))
    report = run_nightly(workspace, after(day))
    assert report.text().startswith(f"{day.date()}: ")
    assert "no new position: 2 no_session (S02, S03)" in report.text()


def test_a_holiday_is_passed_over_so_that_a_backfill_goes_on_behind_it(workspace):
    days = pd.bdate_range(LAST + pd.offsets.BDay(1), periods=3)
    holiday = days[1].date().isoformat()
    ingest_more(workspace, days[:1])
    with pytest.raises(InferenceError, match="must be a session with at least one bar"):
        workspace.build("inference", holiday)  # its bars may be late
    ingest_more(workspace, days.delete(1))
    run_nightly(workspace, after(LAST))
    for day in days:
        for asset in ("inference", "strategy_signals"):
            made = workspace.build(asset, day.date().isoformat())
        assert made.summary["published"] == (day.date().isoformat() != holiday)
    assert "passed over" in workspace.artifacts.read("strategy_signals", holiday).summary["note"]
    assert published(workspace) == [LAST.date(), days[0].date(), days[2].date()]


def test_a_session_redone_after_a_day_that_was_passed_over_goes_on_from_the_ledger(workspace):
    """Bars of the day between came too late; what is held is what was published before it."""
    run_nightly(workspace, after(LAST))
    days = pd.bdate_range(LAST + pd.offsets.BDay(1), periods=2)
    ingest_more(workspace, days[1:])
    run_nightly(workspace, after(days[1]))
    newest = ("inference", days[1].date().isoformat())
    before = workspace.artifacts.read(*newest).json("result.json")["metadata"]
    ingest_more(workspace, days[:1])
    again = workspace.build(*newest).json("result.json")["metadata"]
    assert (before["previous"], again["previous"]) == ("given", "given")


def test_a_killed_night_goes_on_to_the_ledger_of_one_that_nobody_killed(workspace, tmp_path):
    """The CI size of ``make test-faults``' nightly kills, in a process of its own (it forks)."""
    home, root = workspace.settings.home, Path(__file__).parents[2]
    run = [sys.executable, "-m", "tests.faults.nightly_kills"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    subprocess.run([*run, "miss", str(home)], check=True, cwd=root, env=environment)
    kill = [
        *run,
        "kill",
        str(home),
        "--folder",
        str(tmp_path / "kills"),
        "--random",
        "5",
        "--calls",
        "4",
    ]
    done = subprocess.run(kill, capture_output=True, text=True, cwd=root, env=environment)
    assert done.stdout, done.stderr[-2000:]
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["problems"] == []
    assert row["n"] >= 5


def test_a_night_goes_on_from_what_was_published_not_from_a_partition_made_again(workspace):
    run_nightly(workspace, after(LAST))
    day = LAST + pd.offsets.BDay(1)
    with Ledger(workspace.settings.ledger_path) as ledger:
        sent = dict(ledger.read(STRATEGY_ID, LAST.date()).positions)
    assert previous_held(workspace, LAST.date(), "any fold", is_promoted=True) == sent
    shutil.rmtree(workspace.artifacts.read("inference", LAST.date().isoformat()).path.parent)
    assert previous_held(workspace, LAST.date(), "any fold", is_promoted=True) == sent
    assert previous_held(workspace, LAST.date(), "any fold", is_promoted=False) is None
    # a session that was not published moved nothing: what was held before it still is
    assert previous_held(workspace, day.date(), "any fold", is_promoted=True) == sent
    assert previous_held(workspace, None, "any fold", is_promoted=True) is None


def test_the_record_that_live_is_held_against_is_the_reported_one(lifecycle):
    workspace = lifecycle[0].workspace
    reported = workspace.artifacts.read("production_checkpoint", "all").frame("daily.parquet")
    reported = reported.set_index("date")["shipped"].dropna()
    again = recorded_days(workspace)["net"]
    shared = reported.index.intersection(again.index)
    assert len(shared) > 0.9 * len(reported)
    # a window's last two labels reach into the next one, which the store knows and it did not
    np.testing.assert_allclose(
        again.loc[shared].to_numpy(), reported.loc[shared].to_numpy(), atol=1e-9
    )


def test_backfilling_a_reported_window_reproduces_its_record(workspace):
    key = ANCHOR.isoformat()
    record = workspace.artifacts.read("out_of_sample", key).frame("positions.parquet")
    wide = record[record["path"] == "default"].pivot(
        index="date", columns="symbol", values="position"
    )
    for day in wide.index[:4]:
        session = day.date().isoformat()
        made = workspace.build("inference", session).json("result.json")
        workspace.build("strategy_signals", session)
        assert made["metadata"]["fold"] == key
        for symbol, position in made["positions"].items():
            assert position == pytest.approx(wide.at[day, symbol], abs=1e-6)
    with Ledger(workspace.settings.ledger_path) as ledger:
        causes = set(ledger.publications()["cause"])
    assert causes == {"walk-forward backfill"}
    # a backfill is not what was published live, so it is not tracked
    assert track_published(workspace).first is None
    assert len(published(workspace)) == 4


def test_a_kill_switch_set_after_the_positions_were_made_stops_their_publication(workspace):
    session = LAST.date().isoformat()
    workspace.build("inference", session)
    switch = workspace.settings.home / "KILL_SWITCH"
    switch.touch()
    with pytest.raises(Refusal, match=r"^kill_switch: .*found it on"):
        workspace.build("strategy_signals", session)
    assert not workspace.settings.ledger_path.exists()
    switch.unlink()
    assert workspace.build("strategy_signals", session).summary["published"]


def test_a_stray_bar_on_a_weekend_does_not_stop_the_nights(workspace):
    run_nightly(workspace, after(LAST))
    days = pd.bdate_range(LAST + pd.offsets.BDay(1), periods=6)
    ingest_more(workspace, days)
    stray = days[days.day_of_week == 4][0] + pd.Timedelta(days=1)
    with MarketDataStore(workspace.settings.store_path) as store:
        bar = store.bars(["S00"], (stray - pd.Timedelta(days=1)).date())[:1]
        store.ingest(bar[["symbol", "open", "high", "low", "close", "volume"]].assign(date=stray))
        assert stray in store.session_dates()
    report = run_nightly(workspace, after(days[-1]))
    assert [d["session"] for d in report.done] == [d.date().isoformat() for d in days]
    made = [workspace.artifacts.read("inference", d.date().isoformat()) for d in days]
    assert [a.summary["previous"] for a in made] == ["given"] * 6


def test_a_preview_that_nobody_held_is_not_what_the_first_night_goes_on_from(workspace):
    promoted = workspace.registry.production_history(MODEL_TYPE)[0].effective_date
    bars = tiny_bars()
    days = sorted(d.date() for d in bars["date"].unique() if d.date() <= promoted)
    preview, first = days[-2:]
    assert first == promoted
    assert not workspace.build("inference", preview.isoformat()).summary["is_promoted"]
    night = workspace.build("inference", first.isoformat())
    assert night.summary["is_promoted"]
    assert night.summary["previous"] == "unknown: started flat"


def test_a_backfill_that_begins_within_a_window_is_the_record_too(workspace):
    key = ANCHOR.isoformat()
    record = workspace.artifacts.read("out_of_sample", key).frame("positions.parquet")
    wide = record[record["path"] == "default"].pivot(
        index="date", columns="symbol", values="position"
    )
    for day in wide.index[[20, 21]]:
        made = workspace.build("inference", day.date().isoformat())
        assert made.summary["previous"] == "given"
        positions = made.json("result.json")["positions"]
        assert positions
        for symbol, position in positions.items():
            assert position == pytest.approx(wide.at[day, symbol], abs=1e-6)
    opening = workspace.build("inference", wide.index[0].date().isoformat())
    assert opening.summary["previous"] == "unknown: started flat"


def test_a_session_is_served_by_the_model_that_was_in_production_then(workspace):
    days = pd.bdate_range(LAST + pd.offsets.BDay(1), periods=6)
    ingest_more(workspace, days)
    registry = workspace.registry
    first = registry.production_path(MODEL_TYPE)
    state, metadata = registry.load(first)
    seen = days[2].date().isoformat()
    newer = registry.save(state, metadata.replace(version=0, trained_through=seen))
    registry.promote(newer, "refitted on three more sessions", effective=seen)
    then = {day: model_of_session(workspace, day.date()) for day in days}
    assert [then[day] for day in days[:2]] == [(first, True)] * 2
    assert [then[day] for day in days[2:]] == [(newer, True)] * 4
    directory, was_promoted = model_of_session(workspace, ANCHOR + timedelta(days=40))
    assert not was_promoted
    assert registry.load(directory)[1].fold == ANCHOR.isoformat()


def test_the_night_from_the_command_line_publishes_exports_and_verifies(
    workspace, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr("tft_core.cli.signal_commands.load_settings", lambda: workspace.settings)
    monkeypatch.setattr("tft_core.training_pipeline.nightly.datetime", At(after(LAST)))
    assert main(["nightly"]) == 0
    assert f"{LAST.date()}: " in capsys.readouterr().out
    assert main(["nightly"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    monkeypatch.setattr(
        "tft_core.training_pipeline.nightly.datetime", At(after(LAST + pd.offsets.BDay(1)))
    )
    assert main(["nightly"]) == 1
    assert "no bars of" in capsys.readouterr().out
    with Ledger(workspace.settings.ledger_path) as ledger:
        expected = ledger.signals(revision="all")
    for name, read in (("all.csv", pd.read_csv), ("all.parquet", pd.read_parquet)):
        assert main(["signals", "export", str(tmp_path / name), "--revision", "all"]) == 0
        back = read(tmp_path / name)
        assert list(back.columns) == list(expected.columns)
        assert back["symbol"].tolist() == expected["symbol"].tolist()
    assert main(["signals", "verify"]) == 0


class At:
    """``datetime`` at a fixed moment."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self, zone) -> datetime:
        return self.moment.astimezone(zone)


def test_tracking_from_the_command_line_says_that_nothing_is_published(
    workspace, monkeypatch, capsys
):
    monkeypatch.setattr("tft_core.cli.signal_commands.load_settings", lambda: workspace.settings)
    assert main(["track"]) == 0
    assert "nothing published live yet" in capsys.readouterr().out
    assert main(["signals", "list"]) == 1
    assert "found none at" in capsys.readouterr().err
