"""Quality of bars: planted faults are found where they were planted, sound bars pass."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from tft_core.data.panel import MarketPanel
from tft_core.data.quality import QualityConfig, bar_findings, blocking_finding, quality_summary
from tft_core.data.synthetic import synthetic_market
from tft_core.errors import ConfigError

SYMBOLS = ("S00", "S01", "S02")


def market(n_sessions: int = 400) -> pd.DataFrame:
    return synthetic_market(3, n_sessions, seed=11, holidays=False)


def panel(frame: pd.DataFrame) -> MarketPanel:
    return MarketPanel.from_bars(frame, SYMBOLS)


def change(frame: pd.DataFrame, symbol: str, rows: slice, change_close) -> pd.DataFrame:
    out = frame.copy()
    where = out.index[out["symbol"] == symbol][rows]
    out.loc[where, "close"] = change_close(out.loc[where, "close"])
    return out


def only(frame: pd.DataFrame, rule: str, config: QualityConfig | None = None):
    found = [f for f in bar_findings(panel(frame), config) if f.rule == rule]
    assert len(found) == 1, [f.rule for f in bar_findings(panel(frame), config)]
    return found[0]


def day(frame: pd.DataFrame, position: int) -> date:
    return frame[frame["symbol"] == "S00"]["date"].iloc[position].date()


def test_sound_bars_have_no_finding() -> None:
    assert bar_findings(panel(market())) == []
    assert blocking_finding(panel(market())) is None


def test_a_spike_is_found_on_its_day_and_known_a_day_later() -> None:
    frame = change(market(), "S00", slice(200, 201), lambda close: close * 10)
    config = QualityConfig(unit_switch_ratio=50.0)
    found = [f for f in bar_findings(panel(frame), config) if f.rule == "spike"]
    assert [f.day for f in found] == [day(frame, 200)]
    assert found[0].known_at == day(frame, 201)
    assert found[0].value == pytest.approx(9.0, abs=0.5)


def test_a_lasting_jump_by_a_factor_looks_like_another_unit() -> None:
    frame = change(market(), "S00", slice(200, None), lambda close: close * 100)
    found = only(frame, "unit_switch")
    assert (found.symbol, found.day, found.known_at) == ("S00", day(frame, 200), day(frame, 201))


def test_a_stale_run_is_known_once_it_is_too_long() -> None:
    frame = change(market(), "S00", slice(100, 116), lambda close: close.iloc[0])
    found = only(frame, "stale_run")
    assert found.value == 15
    assert found.day == day(frame, 101)
    assert found.known_at == day(frame, 111)  # the eleventh unchanged close


def test_a_gap_is_measured_in_calendar_days() -> None:
    frame = market()
    hole = frame.index[frame["symbol"] == "S00"][50:70]
    found = only(frame.drop(hole), "gap")
    assert found.value == (day(frame, 70) - day(frame, 49)).days
    assert found.day == day(frame, 70)


def test_a_symbol_that_does_not_trade_is_an_error_but_does_not_stop_the_others() -> None:
    frame = change(market(), "S00", slice(0, None), lambda close: close.iloc[0])
    assert only(frame, "does_not_trade", QualityConfig(max_broken_share=0.5)).severity == "error"
    assert blocking_finding(panel(frame), QualityConfig(max_broken_share=0.5)) is None


def test_too_many_broken_symbols_block() -> None:
    frame = market()
    for symbol in ("S00", "S01"):
        frame = change(frame, symbol, slice(0, None), lambda close: close.iloc[0])
    found = blocking_finding(panel(frame))
    assert found is not None
    assert found.rule == "too_many_broken_symbols"
    assert found.value == pytest.approx(2 / 3)


def test_no_bars_and_impossible_prices_block() -> None:
    empty = MarketPanel.from_bars(market().head(0), SYMBOLS)
    found = blocking_finding(empty)
    assert found is not None
    assert found.rule == "no_bars"
    frame = change(market(), "S00", slice(5, 6), lambda close: -close)
    broken = blocking_finding(panel(frame), QualityConfig(max_broken_share=0.5))
    assert broken is not None
    assert (broken.rule, broken.day) == ("invalid_price", day(market(), 5))


def test_the_summary_states_what_the_bars_are() -> None:
    frame = pd.DataFrame(
        {
            "date": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-20", "2020-01-21"]),
            "symbol": "S00",
            "open": [1.0, np.nan, 1.0, 1.0],
            "high": 4.0,
            "low": 1.0,
            "close": [1.0, 2.0, 2.0, 1.0],
            "volume": [1.0, 1.0, np.nan, np.nan],
            "open_interest": np.nan,
        }
    )
    row = quality_summary(MarketPanel.from_bars(frame, ["S00"])).loc["S00"]
    assert (row["rows"], row["gaps"], row["max_gap_days"]) == (4, 1, 18)
    assert row["zero_return_share"] == pytest.approx(1 / 3)
    assert (row["worst_return"], row["best_return"]) == (-0.5, 1.0)
    assert row["max_abs_z"] == pytest.approx(1.0 / (1.4826 * 0.75))  # median of |1|, |-.5|
    shares = ("ohlc_share", "volume_share", "open_interest_share")
    assert [row[name] for name in shares] == [0.75, 0.5, 0.0]
    assert row["findings"] == "gap,short_history"


def test_a_symbol_without_bars_has_a_row_of_unknowns() -> None:
    table = quality_summary(MarketPanel.from_bars(market(), (*SYMBOLS, "NONE")))
    assert table.loc["NONE", "rows"] == 0
    assert pd.isna(table.loc["NONE", "max_abs_z"])


def test_what_was_known_before_a_cut_is_found_without_the_future() -> None:
    frame = change(market(), "S00", slice(100, 116), lambda close: close.iloc[0])
    cut = day(frame, 250)
    past = frame[frame["date"] <= pd.Timestamp(cut)]
    poisoned = frame.copy()
    poisoned.loc[poisoned["date"] > pd.Timestamp(cut), "close"] = 1.0
    early = QualityConfig(max_abs_z=1e9)  # its scale is estimated from all bars it is given

    def before_cut(bars: pd.DataFrame):
        found = bar_findings(panel(bars), early)
        return [f for f in found if f.day is not None and (f.known_at or f.day) <= cut]

    assert before_cut(past) == before_cut(poisoned) != []


def test_limits_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_zero_share must lie in \[0, 1\], found 2"):
        QualityConfig(max_zero_share=2.0)
    with pytest.raises(ConfigError, match="unit_switch_ratio must exceed 1, found 1"):
        QualityConfig(unit_switch_ratio=1.0)
