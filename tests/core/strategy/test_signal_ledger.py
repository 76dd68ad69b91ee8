import json
import math
import os
import sqlite3
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from strategy_support import D1, D2, D3, D4

from tft_core.errors import LedgerError
from tft_core.strategy import Ledger, Signal

HERE = Path(__file__).parent


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "signals.sqlite")


def sig(symbol="EUR", direction="long", conviction=0.8, **more):
    return Signal("s", symbol, direction, conviction, **more)


def test_a_publication_is_read_back_as_it_was(ledger):
    signals = [sig("JPY", "short", 1 / 3), sig(metadata={"raw_position": 0.2, "tags": ["a"]})]
    made = ledger.publish("s", D1, signals, {"EUR": 0.2, "JPY": -0.1}, "nightly", "h" * 64,
                          {"EUR": "ok", "CHF": "no_data: nothing"})  # fmt: skip
    assert (made.revision, made.is_new) == (1, True)
    read = ledger.read("s", D1)
    assert read is not None
    assert read.signals == (signals[1], signals[0])
    assert read.positions == {"EUR": 0.2, "JPY": -0.1}
    assert read.status == {"EUR": "ok", "CHF": "no_data: nothing"}
    assert (read.cause, read.checkpoint_hash, read.is_new) == ("nightly", "h" * 64, False)
    assert ledger.verify() == []


def test_numbers_of_other_kinds_are_read_back_as_plain_ones(ledger):
    """A row is there for ever: one that could not be read would end its strategy."""
    odd = sig(
        conviction=np.float64(0.25), strike=-0.0, ttl_bars=np.int64(3), metadata={"t": (1, 2)}
    )
    ledger.publish("s", D1, [odd, sig("JPY", "short", -0.0)], {"EUR": np.float32(0.5), "JPY": -0.0},
                   "nightly")  # fmt: skip
    assert ledger.verify() == []
    one, other = ledger.read("s", D1).signals
    assert (one.ttl_bars, one.conviction, one.metadata) == (3, 0.25, {"t": [1, 2]})
    assert (other.symbol, other.conviction) == ("JPY", 0.0)
    for half in (0.5, np.float32(0.5 + 1e-7)):
        same = {"EUR": half, "JPY": 0.0}
        assert not ledger.publish("s", D1, [odd, sig("JPY", "short", 0.0)], same, "c").is_new


@pytest.mark.parametrize(
    ("signal", "status", "message"),
    [
        (sig(ttl_bars=2.5), {}, "ttl_bars must be a whole number, found 2.5 for EUR"),
        (sig(ttl_bars=None), {}, "ttl_bars must be a whole number, found None"),
        (sig("EUR\ud800"), {}, "plain texts and finite numbers, found: .*surrogates not allowed"),
        (sig(), {"EUR": None}, "read back as it was given, found other values for 2021-03-01"),
        (sig(), {"EUR": 5}, "read back as it was given, found other values for 2021-03-01"),
    ],
)
def test_what_could_not_be_read_back_is_not_published(ledger, signal, status, message):
    with pytest.raises(LedgerError, match=message):
        ledger.publish("s", D1, [signal], {"EUR": 0.2}, "nightly", None, status)
    assert ledger.read("s", D1) is None
    assert ledger.publish("s", D1, [sig()], {"EUR": 0.2}, "nightly").revision == 1


def test_a_session_without_signals_is_published_too(ledger):
    assert ledger.read("s", D1) is None
    ledger.publish("s", D1, [], {}, "nightly")
    assert ledger.sessions("s") == [D1]
    assert ledger.previous_positions("s", D2) == {}
    assert len(ledger.signals("s", D1)) == 0
    assert ledger.publications("s")["n_signals"].tolist() == [0]


def test_the_same_answer_again_changes_nothing(ledger):
    answer = [sig(metadata={"raw_position": 0.2})], {"EUR": 0.2}
    first = ledger.publish("s", D1, *answer, "nightly")
    almost = (
        [sig(conviction=0.8 + 9e-7, metadata={"raw_position": 0.2 - 9e-7})],
        {"EUR": 0.2 + 9e-7},
    )
    for again in (answer, almost):
        made = ledger.publish("s", D1, *again, "rerun")
        assert (made.revision, made.is_new, made.cause) == (1, False, "nightly")
        assert made.signals == first.signals
    assert len(ledger.signals(revision="all")) == 1


def test_a_different_answer_is_a_revision_and_the_first_stays(ledger):
    ledger.publish("s", D1, [sig()], {"EUR": 0.2}, "nightly")
    for k, (signals, positions) in enumerate(
        [([sig()], {"EUR": 0.2 + 2e-6}), ([sig(conviction=0.7)], {"EUR": 0.2}),
         ([sig(ttl_bars=2)], {"EUR": 0.2}), ([sig()], {"EUR": 0.2, "JPY": 0.0})]
    ):  # fmt: skip
        made = ledger.publish("s", D1, signals, positions, f"bar restated {k}")
        assert (made.revision, made.is_new) == (k + 2, True)
    assert ledger.read("s", D1, "first").positions == {"EUR": 0.2}
    causes = ledger.publications("s")["cause"].tolist()
    assert causes == ["nightly", *(f"bar restated {k}" for k in range(4))]
    assert ledger.verify() == []


def test_a_revision_whose_cause_is_only_said_again_tells_what_differs(ledger):
    ledger.publish("s", D1, [sig()], {"EUR": 0.2, "JPY": 0.1, "CHF": 0.0}, "nightly", "a" * 64)
    held = {"EUR": 0.2, "JPY": 0.1, "CHF": 0.0}
    answers = [
        ([sig()], {**held, "JPY": 0.2}, "a"),
        ([sig(conviction=0.5)], {**held, "JPY": 0.2}, "a"),
        ([sig(conviction=0.5)], {**held, "JPY": 0.2}, "b"),
        ([], {**held, "JPY": 0.2}, "b"),
    ]
    for signals, positions, model in answers:
        ledger.publish("s", D1, signals, positions, "nightly", model * 64)
    ledger.publish("s", D1, [], held, "EUR restated by the vendor", "b" * 64)
    assert ledger.publications("s")["cause"].tolist() == [
        "nightly",
        "nightly again: another answer for JPY",
        "nightly again: another answer for EUR",
        "nightly again: another model",
        "nightly again: another answer for EUR",
        "EUR restated by the vendor",
    ]


def test_another_model_with_the_same_answer_is_a_revision(ledger):
    ledger.publish("s", D1, [], {"EUR": 0.0}, "nightly", "a" * 64)
    assert ledger.publish("s", D1, [], {"EUR": 0.0}, "promoted", "b" * 64).revision == 2
    assert ledger.publish("s", D1, [], {"EUR": 0.0}, "rerun", "b" * 64).is_new is False


def test_published_rows_cannot_be_changed_or_removed(ledger):
    ledger.publish("s", D1, [sig()], {"EUR": 0.2}, "nightly")
    with sqlite3.connect(ledger.path) as raw:
        for statement in (
            "UPDATE signals SET direction = 'short'",
            "DELETE FROM positions",
            "UPDATE publications SET cause = 'x'",
            "DELETE FROM publications",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="published rows are immutable"):
                raw.execute(statement)
    assert ledger.verify() == []


def test_verify_finds_rows_changed_behind_its_back(ledger):
    ledger.publish("s", D1, [sig()], {"EUR": 0.2}, "nightly")
    with sqlite3.connect(ledger.path) as raw:
        raw.execute("DROP TRIGGER positions_no_update")
        raw.execute("UPDATE positions SET position = 0.25")
    ledger.publish("s", D2, [], {}, "nightly")
    assert (len(ledger.verify(D1)), ledger.verify(D2)) == (1, [])
    (problem,) = ledger.verify()
    assert problem == "s 2021-03-01 revision 1 must match its payload hash; it was changed"


def test_nothing_goes_on_from_rows_changed_behind_the_ledger_s_back(ledger):
    ledger.publish("s", D1, [sig()], {"EUR": 0.2}, "nightly")
    with sqlite3.connect(ledger.path) as raw:
        raw.execute("DROP TRIGGER positions_no_update")
        raw.execute("UPDATE positions SET position = 0.25")
    for ask in (
        lambda: ledger.previous_positions("s", D2),
        lambda: ledger.read("s", D1),
        lambda: ledger.publish("s", D1, [], {}, "rerun"),
    ):
        with pytest.raises(
            LedgerError, match="s 2021-03-01 revision 1 must match its payload hash"
        ):
            ask()
    assert ledger.publications()["revision"].tolist() == [1]


def test_previous_positions_are_the_newest_sessions_before(ledger):
    assert ledger.previous_positions("s", D1) is None
    ledger.publish("s", D1, [], {"EUR": 0.1}, "nightly")
    ledger.publish("s", D2, [], {"EUR": 0.2}, "nightly")
    ledger.publish("s", D2, [], {"EUR": 0.3}, "restated")
    ledger.publish("other", D3, [], {"EUR": 0.9}, "nightly")
    answers = [ledger.previous_positions("s", d) for d in (D1, D2, D3, D4)]
    assert answers == [None, {"EUR": 0.1}, {"EUR": 0.3}, {"EUR": 0.3}]


def test_later_sessions_do_not_change_what_an_earlier_one_saw(ledger):
    ledger.publish("s", D1, [sig()], {"EUR": 0.2}, "nightly")
    before = ledger.previous_positions("s", D2), ledger.open_signals("s", D2)
    ledger.publish("s", D2, [sig(direction="flat")], {"EUR": -9.0}, "nightly")
    ledger.publish("s", D4, [sig("JPY")], {"EUR": 7.0}, "nightly")
    assert (ledger.previous_positions("s", D2), ledger.open_signals("s", D2)) == before


def test_open_signals_are_the_last_word_that_was_not_flat(ledger):
    ledger.publish("s", D1, [sig("EUR"), sig("JPY", "short"), sig("CHF")], {}, "nightly")
    ledger.publish("s", D2, [sig("EUR", "short"), sig("JPY", "flat")], {}, "nightly")
    assert [(s.symbol, s.direction) for s in ledger.open_signals("s", D2)] == [
        ("CHF", "long"), ("EUR", "long"), ("JPY", "short"),
    ]  # fmt: skip
    assert [(s.symbol, s.direction) for s in ledger.open_signals("s", D3)] == [
        ("CHF", "long"), ("EUR", "short"),
    ]  # fmt: skip
    assert ledger.open_signals("s", D2, inclusive=True) == ledger.open_signals("s", D3)


def test_a_revision_takes_back_what_it_no_longer_says(ledger):
    ledger.publish("s", D1, [sig("EUR"), sig("CHF")], {}, "nightly")
    # revision 1 of the next day enters JPY, flips EUR, closes CHF; revision 2 says nothing of them
    ledger.publish("s", D2, [sig("JPY"), sig("EUR", "short"), sig("CHF", "flat")], {}, "nightly")
    made = ledger.publish("s", D2, [sig("GBP")], {}, "prices restated")
    said = {s.symbol: s.direction for s in made.signals}
    assert said == {"JPY": "flat", "EUR": "long", "CHF": "long", "GBP": "long"}
    assert {leg[0] for leg in made.corrected} == {"JPY", "EUR", "CHF"}
    assert ledger.publish("s", D2, [sig("GBP")], {}, "rerun").is_new is False
    third = ledger.publish("s", D2, [], {}, "restated again")
    assert {s.symbol: s.direction for s in third.signals} == {"GBP": "flat"}
    assert [s.symbol for s in ledger.open_signals("s", D3)] == ["CHF", "EUR"]
    assert ledger.verify() == []


def test_a_revision_that_leaves_an_instrument_unsaid_takes_its_size_back_too(ledger):
    on = sig(conviction=1.0, metadata={"raw_position": 0.25, "reason": "hold"})
    ledger.publish("s", D1, [on], {"EUR": 0.25}, "nightly")
    cut = sig(conviction=0.4, metadata={"raw_position": 0.1, "reason": "hold"})
    ledger.publish("s", D2, [cut], {"EUR": 0.1}, "nightly")
    (back,) = ledger.publish("s", D2, [], {"EUR": 0.25}, "its bar was false").signals
    assert (back.direction, back.conviction, back.metadata["raw_position"]) == ("long", 1.0, 0.25)
    assert back.metadata["reason"] == "corrected_by_revision_2"
    again = ledger.publish("s", D2, [sig("JPY")], {"EUR": 0.25}, "another bar")
    assert [s.symbol for s in again.signals] == ["JPY"]  # EUR is back already
    assert ledger.verify() == []


def test_what_a_false_exit_closed_comes_back_in_its_own_size(ledger):
    on = sig(conviction=1.0, metadata={"raw_position": 0.25})
    ledger.publish("s", D1, [on], {"EUR": 0.25}, "nightly")
    out = sig(direction="flat", conviction=0.2, metadata={"raw_position": 0.05})
    ledger.publish("s", D2, [out], {"EUR": 0.05}, "nightly")
    (back,) = ledger.publish("s", D2, [], {"EUR": 0.25}, "its bar was false").signals
    assert (back.direction, back.metadata["raw_position"]) == ("long", 0.25)


@pytest.mark.parametrize(
    ("signals", "positions", "cause", "message"),
    [
        ([], {"EUR": math.nan}, "c", "position of EUR must be finite, found nan"),
        ([], {"EUR": math.inf}, "c", "position of EUR must be finite, found inf"),
        ([], {}, " ", "must name its strategy and cause"),
        ([sig(), sig(direction="flat")], {}, "c", "must have one signal a session, found two for"),
        ([Signal("t", "EUR", "long", 0.5)], {}, "c", "must carry its id, found 't' for EUR"),
        ([sig(metadata={"x": math.nan})], {}, "c", "metadata must be plain finite JSON"),
        ([sig(metadata={"x": object()})], {}, "c", "metadata must be plain finite JSON"),
    ],
)
def test_a_bad_answer_is_refused_whole(ledger, signals, positions, cause, message):
    with pytest.raises(LedgerError, match=message):
        ledger.publish("s", D1, signals, positions, cause)
    assert ledger.read("s", D1) is None


def test_a_session_is_a_date_without_time(ledger):
    with pytest.raises(LedgerError, match="session must be a date without time"):
        ledger.publish("s", datetime(2021, 3, 1), [], {}, "c")
    with pytest.raises(LedgerError, match="session must be a date without time"):
        ledger.previous_positions("s", pd.Timestamp(2021, 3, 1))


def test_options_of_one_symbol_are_instruments_of_their_own(ledger):
    call, put = sig(instrument_type="CE", strike=1.1), sig(instrument_type="PE", strike=1.1)
    ledger.publish("s", D1, [call, put, sig()], {}, "nightly")
    assert len(ledger.signals("s", D1)) == 3


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_export_holds_every_signal(ledger, tmp_path, suffix):
    ledger.publish("s", D1, [sig(conviction=1 / 3), sig("JPY", "short")], {"EUR": 0.1}, "nightly")
    path = ledger.export(tmp_path / "out" / f"signals.{suffix}")
    frame = pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path)
    assert frame["symbol"].tolist() == ["EUR", "JPY"]
    assert frame["conviction"].tolist() == [1 / 3, 0.8]
    with pytest.raises(LedgerError, match=r"must end in .csv or .parquet, found 'signals.xls'"):
        ledger.export(tmp_path / "signals.xls")


def test_a_damaged_or_foreign_file_is_a_typed_error(tmp_path):
    bad = tmp_path / "bad.sqlite"
    bad.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LedgerError, match=r"bad.sqlite, found: file is not a database"):
        Ledger(bad).sessions("s")
    with sqlite3.connect(tmp_path / "new.sqlite") as raw:
        raw.execute("PRAGMA user_version = 9")
    with pytest.raises(LedgerError, match="must be a ledger of version 1, found 9"):
        Ledger(tmp_path / "new.sqlite").sessions("s")


def _worker(name: str, path: Path, *args: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2])}
    return subprocess.Popen(
        [sys.executable, str(HERE / name), str(path), *args],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def test_racing_processes_publish_a_session_once(ledger):
    workers = [_worker("ledger_racer.py", ledger.path, "20") for _ in range(3)]
    new = [json.loads(worker.communicate(timeout=100)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted(i for written in new for i in written) == list(range(20))
    assert len(ledger.publications()) == 20
    assert ledger.verify() == []


@pytest.mark.parametrize("kills", [15, pytest.param(60, marks=pytest.mark.slow)])
def test_a_killed_publisher_loses_nothing_it_acknowledged(ledger, kills):
    worker = _worker("ledger_killer.py", ledger.path, str(kills))
    report = json.loads(worker.communicate(timeout=250)[0])
    assert report["kills"] == kills
    assert report["lost"] == 0
    days = [date(2000, 1, 1) + timedelta(days=i) for i in range(report["acknowledged"])]
    assert ledger.sessions("s")[: len(days)] == days
    assert set(ledger.publications("s")["n_signals"]) == {50}
    assert ledger.verify() == []


def test_fifty_reruns_of_a_night_are_one_row_per_key_with_one_payload_hash(ledger):
    for _ in range(50):
        signals = [Signal("s", f"A{j}", "long", 0.5) for j in range(5)]
        ledger.publish("s", date(2021, 3, 1), signals, {f"A{j}": 0.2 for j in range(5)}, "nightly")
    heads, rows = ledger.publications("s"), ledger.signals("s", revision="all")
    assert len(heads) == heads["payload_hash"].nunique() == 1
    assert not rows.duplicated(["strategy_id", "session", "symbol", "revision"]).any()
    assert len(rows) == 5
