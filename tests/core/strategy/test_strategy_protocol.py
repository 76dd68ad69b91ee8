import json
import math
from datetime import date

import numpy as np
import pandas as pd
import pytest
from strategy_support import D1, Scripted

from tft_core.errors import StrategyError
from tft_core.strategy import BaseStrategy, Signal, StrategyProtocol


def test_a_signal_has_the_predecessors_fields_order_and_defaults():
    signal = Signal("s1", "NIFTY", "long", 0.5)
    assert (signal.instrument_type, signal.strike, signal.expiry) == ("FUT", 0.0, "")
    assert (signal.ttl_bars, signal.metadata) == (5, {})
    full = Signal("s1", "NIFTY", "flat", 1.0, "CE", 18000.0, "2021-03-25", 3, {"a": 1})
    assert full.leg == ("NIFTY", "CE", 18000.0, "2021-03-25")
    with pytest.raises(AttributeError, match="direction"):
        signal.direction = "short"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": "up"}, "direction must be one of long, short, flat, found 'up'"),
        ({"conviction": 1.01}, r"conviction must lie in \[0, 1\], found 1.01"),
        ({"conviction": -0.1}, "found -0.1"),
        ({"conviction": math.nan}, "found nan"),
        ({"instrument_type": "STOCK"}, "instrument_type must be one of .* found 'STOCK'"),
        ({"symbol": ""}, "symbol must be a text"),
        ({"strike": math.inf}, "strike must be finite, found inf"),
    ],
)
@pytest.mark.parametrize("kind", [ValueError, StrategyError])
def test_a_bad_signal_is_a_value_error_and_ours(changes, message, kind):
    values = {"strategy_id": "s", "symbol": "X", "direction": "long", "conviction": 0.5}
    with pytest.raises(kind, match=message):
        Signal(**{**values, **changes})


def test_state_outlives_the_object_and_is_whole(tmp_path):
    Scripted("s1", {}, tmp_path).set_state("n", 3)
    Scripted("s1", {}, tmp_path).update_state({"a": [1, None]}, b="x")
    again = Scripted("s1", {}, tmp_path)
    assert (again.get_state("n"), again.get_state("a"), again.get_state("b")) == (3, [1, None], "x")
    assert again.get_state("never", "default") == "default"
    assert json.loads((tmp_path / "s1.json").read_text()) == {"n": 3, "a": [1, None], "b": "x"}
    with pytest.raises(StrategyError, match="must be plain finite JSON"):
        again.set_state("bad", math.nan)
    assert again.get_state("n") == 3
    (tmp_path / "s1.json").write_text('{"n": 3')
    with pytest.raises(StrategyError, match=r"s1.json must be the state of s1, found it damaged"):
        again.get_state("n")


def test_an_id_that_is_no_file_name_is_refused(tmp_path):
    with pytest.raises(StrategyError, match=r"strategy_id must be letters.*'../evil'"):
        Scripted("../evil", {}, tmp_path)


def test_an_error_in_a_scan_stays_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="no data"):
        Scripted("s1", {D1: RuntimeError("no data")}, tmp_path).scan(D1, None)


def test_a_plain_class_with_the_three_names_is_a_strategy():
    class Plain:
        strategy_id = "plain"

        def scan(self, d: date, store: object) -> list[Signal]:
            return []

        def warmup_days(self) -> int:
            return 5

    assert isinstance(Plain(), StrategyProtocol)
    assert not isinstance(object(), StrategyProtocol)


def test_cusum_finds_a_jump_at_its_own_time():
    rng = np.random.default_rng(0)
    returns = rng.normal(0, 0.001, 200)
    returns[150] = 0.05
    close = pd.Series(
        100 * np.exp(np.cumsum(returns)), index=pd.bdate_range("2020-01-01", periods=200)
    )
    events = BaseStrategy.cusum_events(close, 20.0)
    assert list(events) == [close.index[150]]
    with pytest.raises(StrategyError, match="threshold_mult must be above 0, found 0"):
        BaseStrategy.cusum_events(close, 0.0)


def test_cusum_events_do_not_know_the_future():
    rng = np.random.default_rng(1)
    close = pd.Series(100 * np.exp(np.cumsum(rng.normal(0, 0.01, 300))))
    cut = 200
    past = [i for i in BaseStrategy.cusum_events(close, 1.0) if i < cut]
    poisoned = close.copy()
    poisoned.iloc[cut:] = poisoned.iloc[cut:] * 7.0 + 1e4
    assert len(past) > 10
    for other in (poisoned, close.iloc[:cut]):
        assert [i for i in BaseStrategy.cusum_events(other, 1.0) if i < cut] == past
