"""Alerts are kept, told once a cause, and sent until every sink has them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tft_core.errors import AlertError
from tft_core.upkeep.alerts import AT_ONCE, Alert, AlertBook

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)


@dataclass
class Pager:
    """A sink that can be out of order."""

    name: str = "pager"
    is_broken: bool = False
    got: list[str] = field(default_factory=list)

    def send(self, alert: Alert) -> None:
        if self.is_broken:
            raise AlertError(f"{self.name} must answer, found silence")
        self.got.append(alert.cause)


def alert(cause: str, code: str = "run_failed", **more: str) -> Alert:
    return Alert(cause=cause, code=code, message="the loss is not a number", **more)


@pytest.fixture
def book(tmp_path: Path) -> AlertBook:
    return AlertBook(tmp_path / "home" / "alerts.sqlite")


def test_a_cause_is_told_once_however_often_it_is_noticed(book: AlertBook) -> None:
    pager = Pager()
    for tick in range(3):
        is_new = book.raise_alert(alert("run/1"), NOW + timedelta(minutes=tick))
        assert is_new == (tick == 0)
        book.deliver([pager], NOW)
    assert pager.got == ["run/1"]


def test_a_broken_sink_fails_loudly_loses_nothing_and_does_not_hold_up_the_others(
    book: AlertBook,
) -> None:
    broken, healthy = Pager("broken", is_broken=True), Pager("healthy")
    book.raise_alert(alert("run/1"), NOW)
    book.raise_alert(alert("run/2"), NOW + timedelta(minutes=1))
    for _ in range(2):  # as in two ticks
        with pytest.raises(AlertError, match="broken must answer, found silence"):
            book.deliver([broken, healthy], NOW)
    assert healthy.got == ["run/1", "run/2"]
    broken.is_broken = False
    assert book.deliver([broken, healthy], NOW) == 2
    assert broken.got == healthy.got == ["run/1", "run/2"]


def test_a_sink_that_breaks_its_contract_is_named_and_does_not_hold_up_the_others(
    book: AlertBook,
) -> None:
    class Rude(Pager):
        def send(self, alert: Alert) -> None:
            raise ZeroDivisionError("division by zero")

    book.raise_alert(alert("run/1"), NOW)
    polite = Pager("polite")
    with pytest.raises(
        AlertError, match=r"sink rude must raise nothing but AlertError, found Zero"
    ):
        book.deliver([Rude("rude"), polite], NOW)
    assert polite.got == ["run/1"]


def test_one_call_sends_so_much_and_the_next_goes_on(book: AlertBook) -> None:
    for number in range(AT_ONCE + 3):
        book.raise_alert(alert(f"run/{number:03d}"), NOW)
    sink = Pager("one")
    assert [book.deliver([sink], NOW) for _ in range(3)] == [AT_ONCE, 3, 0]
    assert len(set(sink.got)) == AT_ONCE + 3


def test_a_new_sink_is_not_told_of_what_is_long_past(book: AlertBook) -> None:
    book.raise_alert(alert("old"), NOW - timedelta(days=8))
    book.raise_alert(alert("recent"), NOW - timedelta(days=6))
    assert [a.cause for a in book.pending("new", NOW)] == ["recent"]


def test_what_a_sink_gets_is_what_was_raised(book: AlertBook) -> None:
    raised = alert("run/1", run_id="1f2e", asset="production_fold", key="2024-01-01")
    book.raise_alert(raised, NOW)
    assert book.pending("any", NOW) == [raised]
    assert book.is_known("2024-01-01")
    assert not book.is_known("2025-01-01")


def test_the_text_says_what_where_why_and_where_to_look() -> None:
    text = alert("run/1", run_id="1f2e", asset="production_fold", key="2024-01-01").text()
    first, reason, run, look = text.splitlines()
    assert first == "run_failed: production_fold/2024-01-01"
    assert reason == "the loss is not a number"
    assert run == "run 1f2e"
    assert look.startswith("see ") and look.endswith("docs/runbook.md#run_failed")


@pytest.mark.parametrize(
    ("code", "section"),
    [
        ("stale_model", "the-whole-session"),
        ("bars_are_sane.spike", "bars_are_sane"),
        ("gate_refused", "gate_refused"),
    ],
)
def test_a_code_leads_to_its_section_of_the_runbook(code: str, section: str) -> None:
    assert alert("x", code).look.endswith(f"#{section}")


def test_a_file_that_is_no_data_base_is_an_error_that_names_it(book: AlertBook) -> None:
    book.path.parent.mkdir()
    book.path.write_text("no data base at all, " * 100)
    with pytest.raises(AlertError, match=r"alerts\.sqlite, found: file is not a database"):
        book.raise_alert(alert("run/1"))
