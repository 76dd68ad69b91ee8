"""The plan's TestTFTStrategy, extended."""

import math
import random
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest
from strategy_support import D1, D2, D3, D4, FakePipeline, result

from tft_core.config import Settings
from tft_core.errors import CheckpointError, StrategyError
from tft_core.strategy import BaseStrategy, Ledger, Orchestrator, StrategyProtocol, StrategyRegistry
from tft_core.strategy.book import Book
from tft_core.strategy_adapter import (
    EXIT_REASONS,
    STRATEGY_ID,
    TFTStrategy,
    create_strategy,
    positions_after,
    signals_from,
)

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "signals.sqlite")


def strategy(ledger, answers, **more):
    pipeline = FakePipeline(answers)
    made = TFTStrategy(ledger=ledger, loader=lambda d: pipeline, conviction_threshold=0.3, **more)
    return made, pipeline


def said(signals):
    return {signal.symbol: signal.direction for signal in signals}


class TestTFTStrategy:
    def test_it_fulfils_the_protocol(self, ledger):
        made, _ = strategy(ledger, {})
        assert isinstance(made, StrategyProtocol)
        assert isinstance(made, BaseStrategy)
        assert made.warmup_days() == 294

    def test_scan_gives_valid_signals(self, ledger):
        made, _ = strategy(ledger, {D1: result({"EUR": 0.2, "JPY": -0.1})})
        signals = made.scan(D1, None)
        assert [(s.symbol, s.direction, s.conviction) for s in signals] == [
            ("EUR", "long", 0.8),
            ("JPY", "short", 0.4),
        ]
        assert signals[0].metadata == {
            "raw_position": 0.2,
            "raw_output": 0.4,
            "confidence": 0.6,
            "model_type": "x_trend",
            "checkpoint_version": 7,
            "checkpoint_hash": "f" * 64,
            "previous_position": None,
            "reason": "entry",
        }

    def test_the_model_is_loaded_by_the_first_scan_and_the_id_stays(self, ledger):
        loads = []

        def loader(d):
            loads.append(d)
            return FakePipeline({D1: result({"EUR": 0.2})})

        made = TFTStrategy(ledger=ledger, loader=loader, conviction_threshold=0.3)
        assert (made.strategy_id, made.is_loaded, loads) == ("s_tft_x_trend_v1", False, [])
        made.scan(D1, None)
        assert (made.strategy_id, made.is_loaded, loads) == ("s_tft_x_trend_v1", True, [D1])

    def test_making_the_strategy_imports_neither_torch_nor_optuna(self):
        code = (
            "import sys; from tft_core.strategy_adapter import create_strategy; create_strategy(); "
            "print([m for m in ('torch', 'optuna', 'tft_core.training') if m in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=60
        )
        assert done.stdout.strip() == "[]", done.stderr

    def test_the_threshold_is_on_conviction_so_default_caps_do_trade(self):
        # at the plan's |position| > 0.3 and cap 0.25 nothing would ever trade
        positions = {"A": 0.25, "B": 0.0751, "C": 0.075, "D": -0.0749}
        assert said(signals_from(result(positions), None)) == {"A": "long", "B": "long"}

    def test_create_strategy_is_what_the_registry_finds(self):
        registry = StrategyRegistry()
        registry.discover()
        assert registry.get(STRATEGY_ID) is not None
        assert registry.problems == []
        assert isinstance(create_strategy(), TFTStrategy)

    def test_an_error_is_an_error_and_not_an_empty_list(self, ledger):
        made, _ = strategy(ledger, {})
        with pytest.raises(KeyError, match="2021"):
            made.scan(D1, None)
        wrong, _ = strategy(ledger, {D2: result({"EUR": 0.2}, D1)})
        with pytest.raises(
            StrategyError, match="prediction must be of 2021-03-02, found 2021-03-01"
        ):
            wrong.scan(D2, None)


class TestSignalsFrom:
    def test_a_position_that_falls_below_is_closed_once(self):
        on, off = {"EUR": 0.2}, {"EUR": 0.05}
        assert said(signals_from(result(off), on)) == {"EUR": "flat"}
        assert said(signals_from(result(off), off)) == {}

    def test_a_change_of_sign_is_the_new_direction(self):
        (signal,) = signals_from(result({"EUR": -0.2}), {"EUR": 0.2})
        assert (signal.direction, signal.metadata["reason"]) == ("short", "flip")
        assert signal.metadata["previous_position"] == 0.2

    def test_a_sign_change_below_the_threshold_is_an_exit(self):
        (signal,) = signals_from(result({"EUR": -0.05}), {"EUR": 0.2})
        assert (signal.direction, signal.metadata["reason"]) == ("flat", "below_threshold")

    def test_what_stays_on_is_said_every_session(self):
        (signal,) = signals_from(result({"EUR": 0.2}), {"EUR": 0.1})
        assert (signal.direction, signal.metadata["reason"]) == ("long", "hold")

    def test_an_asset_without_an_answer_is_held_and_gives_no_signal(self):
        status = {"EUR": "no_session: last bar 2021-02-26", "JPY": "stale_data: old"}
        answer = result({"CHF": 0.2}, status=status)
        previous = {"EUR": 0.2, "JPY": 0.01}
        assert said(signals_from(answer, previous)) == {"CHF": "long"}
        assert positions_after(answer, previous) == {"EUR": 0.2, "JPY": 0.01, "CHF": 0.2}

    def test_an_asset_that_left_for_good_is_closed(self):
        answer = result({"CHF": 0.2}, status={"EUR": "not_in_universe: membership ended"})
        signals = signals_from(answer, {"EUR": 0.2, "GONE": -0.2, "SMALL": 0.01})
        assert said(signals) == {"CHF": "long", "EUR": "flat", "GONE": "flat"}
        assert {s.symbol: s.metadata["reason"] for s in signals}["GONE"] == "not_in_universe"

    def test_what_is_on_by_the_ledger_is_closed_although_the_rule_has_changed(self):
        # 0.06 was on under a cap of 0.15 (conviction 0.4); under 0.25 the rule says 0.24: off
        answer = result({"EUR": 0.05})
        assert said(signals_from(answer, {"EUR": 0.06})) == {}
        on = signals_from(answer, {"EUR": 0.06}, open_directions={"EUR": "long"})
        assert said(on) == {"EUR": "flat"}

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (result({"EUR": math.nan}), "position of EUR must be finite, found nan"),
            (result({"EUR": math.inf}), "position of EUR must be finite, found inf"),
            (result({"EUR": 0.26}), r"position of EUR must lie within ±0.25, found 0.26"),
            (result({"EUR": 0.1}, status={"EUR": "stale_data: x"}), "EUR has a position, so its"),
            (result({}, status={"EUR": "ok"}), "EUR has status ok, so it must have a position"),
            (
                result({"EUR": 0.1}, confidences={}),
                r"confidence of EUR must lie in \[0, 1\] or be NaN, found None",
            ),
            (result({"EUR": 0.1}, confidences={"EUR": 1.2}), "confidence of EUR .* found 1.2"),
            (result({"EUR": 0.1}, metadata={"max_position": None}), "max_position must be above 0"),
            (
                result({"EUR": 0.1}, metadata={"max_position": math.nan}),
                "max_position must be above",
            ),
        ],
    )
    def test_a_bad_result_gives_no_signal_at_all(self, answer, message):
        with pytest.raises(StrategyError, match=message):
            signals_from(answer, None)

    def test_all_bad_symbols_are_named(self):
        with pytest.raises(
            StrategyError, match=r"of EUR .*; position of JPY .*; no signal was made"
        ):
            signals_from(result({"EUR": math.nan, "JPY": math.nan, "CHF": 0.2}), None)

    def test_a_threshold_that_could_never_be_passed_is_refused(self):
        with pytest.raises(
            StrategyError, match=r"conviction_threshold must lie in \[0, 1\), found 1"
        ):
            signals_from(result({}), None, conviction_threshold=1.0)


ANSWERS = {
    D1: result({"EUR": 0.2, "JPY": -0.2}, D1),
    D2: result({"EUR": 0.05}, D2, status={"JPY": "no_data: holiday"}),
    D3: result({"EUR": 0.0, "JPY": 0.2}, D3),
    D4: result({"EUR": 0.0, "JPY": 0.2}, D4),
}


class TestWithTheLedger:
    def test_previous_positions_come_from_the_ledger_across_restarts(self, ledger):
        seen, previous = [], []
        for d in ANSWERS:
            made, pipeline = strategy(ledger, ANSWERS, publish=True)
            seen.append(said(made.scan(d, None)))
            previous.append(pipeline.previous[d])
        assert seen == [
            {"EUR": "long", "JPY": "short"}, {"EUR": "flat"}, {"JPY": "long"}, {"JPY": "long"},
        ]  # fmt: skip
        assert previous == [
            None,
            {"EUR": 0.2, "JPY": -0.2},
            {"EUR": 0.05, "JPY": -0.2},
            {"EUR": 0.0, "JPY": 0.2},
        ]
        statuses = ledger.positions(STRATEGY_ID, D2).set_index("symbol")
        assert statuses.loc["JPY", "status"] == "no_data: holiday"
        assert statuses.loc["JPY", "position"] == -0.2

    def test_scanning_again_says_the_same_whatever_came_later(self, ledger):
        made, _ = strategy(ledger, ANSWERS, publish=True)
        first = {d: made.scan(d, None) for d in ANSWERS}
        assert {d: made.scan(d, None) for d in ANSWERS} == first
        assert ledger.publications()["revision"].tolist() == [1, 1, 1, 1]

    def test_a_scan_alone_leaves_the_ledger_as_it_is(self, ledger):
        made, _ = strategy(ledger, ANSWERS)
        made.scan(D1, None)
        assert ledger.sessions(STRATEGY_ID) == []

    def test_the_orchestrator_publishes_positions_and_the_checkpoint(self, ledger):
        made, _ = strategy(None, ANSWERS, publish=True)
        registry = StrategyRegistry()
        registry.register(made)
        orchestrator = Orchestrator(object(), registry, ledger=ledger)
        days = [orchestrator.run_day(d) for d in ANSWERS]
        assert [day["failures"] for day in days] == [{}] * 4
        assert [[(a["symbol"], a["action"]) for a in day["actions"]] for day in days] == [
            [("EUR", "open"), ("JPY", "open")], [("EUR", "close")], [("JPY", "flip")], [],
        ]  # fmt: skip
        published = ledger.read(STRATEGY_ID, D2)
        assert published.positions == {"EUR": 0.05, "JPY": -0.2}
        assert published.checkpoint_hash == "f" * 64
        assert published.cause == "scheduled"


def random_answer(rng, d, held):
    """A prediction of four symbols, some without an answer, some gone; and what is held then."""
    universe = [s for s in "ABCD" if rng.random() < 0.95]
    sizes = (0.25, -0.25, 0.2, 0.1, -0.1, -0.08, 0.05, 0.0)
    positions = {s: rng.choice(sizes) for s in universe if rng.random() < 0.7}
    reasons = ("no_session", "input_outlier", *EXIT_REASONS)
    status = {s: rng.choice(reasons) for s in universe if s not in positions}
    kept = {s: 0.0 if r in EXIT_REASONS else held.get(s, 0.0) for s, r in status.items()}
    return result(positions, d, status=status, metadata={"held": {**positions, **kept}})


def on_after(answer, on_before):
    """What should be on by the rule alone: direction and size by symbol."""
    on = {}
    for symbol in set(answer.status) | set(on_before):
        position = answer.positions.get(symbol)
        if position is not None and abs(position) / 0.25 > 0.3:
            on[symbol] = ("long" if position > 0 else "short", abs(position))
        elif position is None and answer.status.get(symbol, "gone") not in ("gone", *EXIT_REASONS):
            on |= {symbol: on_before[symbol]} if symbol in on_before else {}
    return on


@pytest.mark.parametrize("seed", range(6))
def test_who_follows_signals_through_revisions_holds_what_the_last_answers_say(ledger, seed):
    rng = random.Random(seed)
    held, on = {}, {}
    for k in range(12):
        d = D1 + timedelta(days=k)
        answers = [random_answer(rng, d, held) for _ in range(rng.choice([1, 1, 2, 3]))]
        for i, answer in enumerate(answers):
            made, _ = strategy(None, {d: answer})
            registry = StrategyRegistry()
            registry.register(made)
            orchestrator = Orchestrator(object(), registry, ledger=ledger)
            assert orchestrator.run_day(d, cause=f"bars of revision {i}")["failures"] == {}
            expected = on_after(answer, on)
            told = {
                s.symbol: (s.direction, abs(s.metadata["raw_position"]))
                for s in ledger.open_signals(STRATEGY_ID, d, inclusive=True)
            }
            book = Book.read(orchestrator.state_file).after
            assert told == expected
            assert {leg[0]: (h.direction, h.weight) for (_, leg), h in book.items()} == expected
        held, on = answers[-1].metadata["held"], expected
    assert ledger.verify() == []


class TestProductionVersion:
    @pytest.fixture
    def served(self, tmp_path, monkeypatch):
        """A registry with two versions; the pipeline stub remembers the directories loaded."""
        from tests.support.checkpoints import metadata, weights
        from tft_core import inference
        from tft_core.checkpoint_manager import CheckpointManager

        settings = Settings(path=None, profile="test", home=tmp_path)
        manager = CheckpointManager(settings.checkpoints_dir)
        one, two = (manager.save(weights(i), metadata()) for i in range(2))
        manager.promote(one, "first", date(2021, 3, 2))
        manager.promote(two, "better", date(2021, 3, 4))
        loaded = []

        class Stub(FakePipeline):
            @classmethod
            def from_checkpoint(cls, directory, *, serving, home):
                loaded.append(directory)
                return cls({d: result({"EUR": 0.2}, d) for d in (D1, D2, D3, D4)})

        monkeypatch.setattr(inference, "TFTInferencePipeline", Stub)
        return TFTStrategy(settings=settings), loaded, [one, two]

    def test_each_session_is_scanned_with_the_version_of_its_time(self, served):
        made, loaded, (one, two) = served
        for d in (D2, D3, D4, D4):
            made.scan(d, None)
        assert loaded == [one, two]

    def test_a_session_before_any_promotion_is_an_error(self, served):
        with pytest.raises(
            CheckpointError, match="by 2021-03-01, found the first one from 2021-03-02"
        ):
            served[0].scan(D1, None)
