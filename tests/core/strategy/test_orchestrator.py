import json
from datetime import date

import pytest
from strategy_support import D1, D2, D3, D4, Scripted

from tft_core.errors import StrategyError
from tft_core.strategy import (
    Ledger,
    Orchestrator,
    RiskCheck,
    Signal,
    StrategyRegistry,
    TargetPosition,
)


class PredecessorStrategy:
    """Written against the predecessor's contracts alone: no base class, plain signals."""

    def __init__(self) -> None:
        self._id = "s5_stub"

    @property
    def strategy_id(self) -> str:
        return self._id

    def warmup_days(self) -> int:
        return 60

    def scan(self, d: date, store: object) -> list[Signal]:
        if d == D1:
            return [
                Signal(strategy_id=self._id, symbol="NIFTY", direction="long", conviction=0.7,
                       instrument_type="FUT", ttl_bars=5, metadata={"z": 1.2})
            ]  # fmt: skip
        if d == D3:
            return [Signal(strategy_id=self._id, symbol="NIFTY", direction="flat", conviction=0.0)]
        return []


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "signals.sqlite")


@pytest.fixture
def run(ledger, tmp_path):
    """An orchestrator over scripted strategies, made anew each day as after a restart."""

    def make(*strategies, **more):
        registry = StrategyRegistry()
        for strategy in strategies:
            registry.register(strategy)
        return Orchestrator(object(), registry, ledger=ledger, **more)

    return make


def brief(result):
    return [(a["symbol"], a["action"], a["direction"], a["weight"]) for a in result["actions"]]


def test_a_predecessor_strategy_runs_unchanged(run, ledger):
    days = [run(PredecessorStrategy()).run_day(d) for d in (D1, D2, D3, D4)]
    keys = {"date", "signals", "targets", "risk_checks", "actions", "regime"}
    assert all(keys <= set(day) for day in days)
    assert [brief(day) for day in days] == [
        [("NIFTY", "open", "long", 0.7)], [], [("NIFTY", "close", "flat", 0.0)], [],
    ]  # fmt: skip
    assert days[0]["signals"][0].metadata == {"z": 1.2}
    assert ledger.sessions("s5_stub") == [D1, D2, D3, D4]
    held = [ledger.previous_positions("s5_stub", d) for d in (D2, D3, D4)]
    assert held == [{"NIFTY": 0.7}, {"NIFTY": 0.7}, {"NIFTY": 0.0}]


def test_entries_flips_resizes_and_exits_are_asked_for_once(run):
    script = {
        D1: {"EUR": ("long", 0.5), "JPY": ("short", 0.4)},
        D2: {"EUR": ("long", 0.5), "JPY": ("short", 0.6)},
        D3: {"EUR": ("short", 0.5), "JPY": ("flat", 0.1)},
    }
    seen = {}
    for d in (D1, D1, D2, D2, D3, D3):
        result = run(Scripted("s", script)).run_day(d)
        seen.setdefault(d, []).append(brief(result))
    assert seen[D1] == [[("EUR", "open", "long", 0.5), ("JPY", "open", "short", 0.4)], []]
    assert seen[D2] == [[("JPY", "resize", "short", 0.6)], []]
    assert seen[D3] == [[("EUR", "flip", "short", 0.5), ("JPY", "close", "flat", 0.0)], []]


def test_a_rerun_publishes_nothing_twice(run, ledger):
    script = {D1: {"EUR": ("long", 0.5)}}
    first = run(Scripted("s", script)).run_day(D1)
    again = run(Scripted("s", script)).run_day(D1)
    assert first["published"]["s"] == {"revision": 1, "is_new": True, "cause": "scheduled"}
    assert again["published"]["s"] == {"revision": 1, "is_new": False, "cause": "scheduled"}
    assert again["signals"] == first["signals"]
    assert len(ledger.publications()) == 1


def test_another_answer_is_a_revision_and_acts_on_the_difference(run, ledger):
    run(Scripted("s", {D1: {"EUR": ("long", 0.5), "JPY": ("long", 0.9)}})).run_day(D1)
    later = run(Scripted("s", {D1: {"EUR": ("short", 0.5)}})).run_day(D1, cause="bar restated")
    assert later["published"]["s"] == {"revision": 2, "is_new": True, "cause": "bar restated"}
    assert brief(later) == [("EUR", "flip", "short", 0.5), ("JPY", "close", "flat", 0.0)]
    assert ledger.read("s", D1, "first").signals[0].direction == "long"


def test_actions_can_be_delivered_again_with_the_same_key(run):
    script = {D1: {"EUR": ("long", 0.5)}}
    first = run(Scripted("s", script)).run_day(D1)
    again = run(Scripted("s", script)).run_day(D1, redeliver=True)
    assert again["actions"] == first["actions"]
    assert first["actions"][0]["order_key"] == "s:2021-03-01:EUR/FUT:r1"
    assert run(Scripted("s", script)).run_day(D1)["actions"] == []


def test_a_failing_strategy_is_reported_and_the_others_go_on(run, ledger):
    bad = Scripted("bad", {D1: RuntimeError("no licence")})
    wrong = Scripted("wrong", {D1: {}})
    wrong._scan_impl = lambda d, store: [Signal("else", "EUR", "long", 0.5)]
    good = Scripted("good", {D1: {"EUR": ("long", 0.5)}})
    result = run(bad, wrong, good).run_day(D1)
    assert result["failures"]["bad"] == "RuntimeError: no licence"
    assert "must carry its id, found 'else'" in result["failures"]["wrong"]
    assert [s.strategy_id for s in result["signals"]] == ["good"]
    assert ledger.read("bad", D1) is None
    assert len(brief(result)) == 1


def test_an_id_that_changes_during_a_scan_is_a_failure(run):
    class Drifting(PredecessorStrategy):
        def scan(self, d, store):
            self._id = "s5_stub_v2"
            return []

    assert "must be stable, found 's5_stub' turned into" in str(
        run(Drifting()).run_day(D1)["failures"]
    )


def test_a_blocked_entry_is_asked_for_again_when_it_is_approved(run):
    class Risk:
        def __init__(self, is_open):
            self.is_open = is_open

        def check(self, targets, state):
            return [RiskCheck(t, self.is_open, not self.is_open, "LIMIT", 0.2, "") for t in targets]

    script = {D1: {"EUR": ("long", 0.5)}, D2: {"EUR": ("long", 0.5)}, D3: {"EUR": ("flat", 0.0)}}
    days = [
        run(Scripted("s", script), risk_manager=Risk(is_open)).run_day(d)
        for d, is_open in ((D1, False), (D2, True), (D3, False))
    ]
    assert [brief(day) for day in days] == [
        [], [("EUR", "open", "long", 0.2)], [("EUR", "close", "flat", 0.0)],
    ]  # fmt: skip


class Blocking:
    """Refuses everything from a day on, or answers with a fixed size."""

    def __init__(self, weight=None) -> None:
        self.weight = weight

    def check(self, targets, state):
        is_open = self.weight is not None
        size = self.weight if is_open else 0.5
        return [RiskCheck(t, is_open, not is_open, "LIMIT", size, "") for t in targets]


def test_a_refused_flip_still_closes_what_the_strategy_no_longer_wants(run):
    script = {D1: {"EUR": ("long", 0.5)}, D2: {"EUR": ("short", 0.5)}, D3: {"EUR": ("short", 0.5)}}
    assert brief(run(Scripted("s", script)).run_day(D1)) == [("EUR", "open", "long", 0.5)]
    refused = run(Scripted("s", script), risk_manager=Blocking()).run_day(D2)
    assert brief(refused) == [("EUR", "close", "flat", 0.0)]
    assert brief(run(Scripted("s", script)).run_day(D3)) == [("EUR", "open", "short", 0.5)]


@pytest.mark.parametrize("weight", [-0.2, float("nan"), float("inf")])
def test_a_size_that_is_none_is_refused_and_nothing_is_acted_on(run, weight):
    script = {D1: {"EUR": ("long", 0.5)}}
    with pytest.raises(StrategyError, match=f"size of 0 or more, found {weight:g} for EUR"):
        run(Scripted("s", script), risk_manager=Blocking(weight)).run_day(D1)
    assert brief(run(Scripted("s", script)).run_day(D1)) == [("EUR", "open", "long", 0.5)]


def test_a_crash_on_the_first_day_of_all_leaves_its_actions_to_the_next_run(run, ledger):
    class Crash:
        def allocate(self, signals, regime):
            raise KeyboardInterrupt

    script = {D1: {"EUR": ("long", 0.5)}}
    with pytest.raises(KeyboardInterrupt):
        run(Scripted("s", script), allocator=Crash()).run_day(D1)
    assert ledger.sessions("s") == [D1]
    again = run(Scripted("s", script)).run_day(D1)
    assert brief(again) == [("EUR", "open", "long", 0.5)]
    assert run(Scripted("s", script)).run_day(D1)["actions"] == []


def test_a_target_of_nobody_s_is_refused_by_name(run):
    class Netting:
        def allocate(self, signals, regime):
            return [TargetPosition("netted", "EUR", "long", 0.5)]

    with pytest.raises(StrategyError, match="published 2021-03-01, found 'netted' for EUR"):
        run(Scripted("s", {D1: {}}), allocator=Netting()).run_day(D1)


def test_a_size_taken_back_by_a_revision_is_resized_back(run, ledger):
    def strategy(script):
        made = Scripted("s", {})
        made._scan_impl = lambda d, store: [
            Signal("s", symbol, "long", size / 0.25, metadata={"raw_position": size})
            for symbol, size in script[d].items()
        ]
        return made

    run(strategy({D1: {"EUR": 0.25}})).run_day(D1)
    cut = run(strategy({D2: {"EUR": 0.1}})).run_day(D2)
    assert brief(cut) == [("EUR", "resize", "long", 0.1)]
    back = run(strategy({D2: {}})).run_day(D2, cause="its bar was false")
    assert brief(back) == [("EUR", "resize", "long", 0.25)]


def test_a_session_older_than_the_book_is_published_but_not_acted_on(run, ledger):
    script = {D1: {"EUR": ("short", 0.5)}, D2: {"EUR": ("long", 0.5)}}
    run(Scripted("s", script)).run_day(D2)
    late = run(Scripted("s", script)).run_day(D1)
    assert (late["published"]["s"]["is_new"], late["actions"]) == (True, [])
    assert brief(run(Scripted("s", script)).run_day(D2, redeliver=True)) == [
        ("EUR", "open", "long", 0.5)
    ]


def test_a_lost_book_is_rebuilt_from_the_ledger_and_a_damaged_one_stops(run, tmp_path):
    script = {D1: {"EUR": ("long", 0.5)}, D2: {"EUR": ("long", 0.5)}}
    run(Scripted("s", script)).run_day(D1)
    book = tmp_path / "orchestrator_book.json"
    book.unlink()
    assert run(Scripted("s", script)).run_day(D1)["actions"] == []
    assert run(Scripted("s", script)).run_day(D2)["actions"] == []
    book.write_text("{")
    with pytest.raises(StrategyError, match=r"must be the orchestrator's book, found it damaged"):
        run(Scripted("s", script)).run_day(D2)


def test_the_event_log_gets_a_line_a_day(run, tmp_path):
    script = {D1: {"EUR": ("long", 0.5)}, D2: RuntimeError("late data")}
    log, lines = tmp_path / "logs" / "events.jsonl", []
    run(Scripted("s", script), event_log=log).run_day(D1)
    run(Scripted("s", script), event_log=log).run_day(D2)
    run(Scripted("s", script), event_log=lines.append).run_day(D1)
    stored = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["date"] for line in stored] == ["2021-03-01", "2021-03-02"]
    assert stored[1]["failures"] == {"s": "RuntimeError: late data"}
    assert lines[0]["published"]["s"]["is_new"] is False


def test_regime_and_allocator_are_the_users(run):
    class Halving:
        def allocate(self, signals, regime):
            scale = 0.5 if regime == "stress" else 1.0
            return [
                TargetPosition(s.strategy_id, s.symbol, s.direction, scale * s.conviction)
                for s in signals
            ]

    result = run(
        Scripted("s", {D1: {"EUR": ("long", 0.5)}}),
        allocator=Halving(),
        regime_detector=lambda store, d: "stress",
    ).run_day(D1)
    assert result["regime"] == "stress"
    assert brief(result) == [("EUR", "open", "long", 0.25)]
