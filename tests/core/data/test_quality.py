"""Quality of bars: planted faults are found where they were planted, sound bars pass."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from tft_core.data.history import HistoryLimits
from tft_core.data.panel import MarketPanel
from tft_core.data.quality import QualityConfig, bar_findings, quality_summary
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


def test_a_spike_is_found_on_its_day_and_known_a_day_later() -> None:
    frame = change(market(), "S00", slice(200, 201), lambda close: close * 1.6)
    found = only(frame, "spike")
    assert (found.day, found.known_at) == (day(frame, 200), day(frame, 201))
    assert found.value == pytest.approx(1.6, abs=0.1)
    assert {f.rule for f in bar_findings(panel(frame))} == {"spike"}  # told once, not twice


def test_a_lasting_jump_by_a_factor_looks_like_another_unit() -> None:
    frame = change(market(), "S00", slice(200, None), lambda close: close * 100)
    found = only(frame, "unit_switch")
    assert (found.symbol, found.day, found.known_at) == ("S00", day(frame, 200), day(frame, 205))


def test_a_crash_is_a_large_move_and_no_fault() -> None:
    frame = change(market(), "S00", slice(200, None), lambda close: close * 0.72)
    found = only(frame, "large_move")
    assert (found.day, found.known_at) == (day(frame, 200), None)
    assert found.value == pytest.approx(-0.28, abs=0.03)


def test_a_stale_run_is_known_once_it_is_too_long() -> None:
    frame = change(market(), "S00", slice(100, 116), lambda close: close.iloc[0])
    found = only(frame, "stale_run")
    assert found.value == 11  # as known when seen; it went on for 15
    assert found.day == day(frame, 101)
    assert found.known_at == day(frame, 111)  # the eleventh unchanged close


def test_the_findings_of_a_store_stand_in_for_the_panels_own_history() -> None:
    frame = change(market(), "S00", slice(100, 116), lambda close: close.iloc[0])
    told = pd.DataFrame(
        {
            "rule": ["decimal_spike", "holiday_row"],
            "outcome": ["withheld", "flagged"],
            "symbol": ["S01", "S01"],
            "date": pd.Timestamp("2016-01-04"),
            "value": [10.0, 1.0],
            "known_at": pd.Timestamp("2016-01-05 23:59:59"),
        }
    )
    found = bar_findings(panel(frame), history=told)
    assert [(f.rule, f.symbol, f.known_at) for f in found] == [
        ("decimal_spike", "S01", date(2016, 1, 5))
    ]


def test_a_gap_is_measured_in_calendar_days() -> None:
    frame = market()
    hole = frame.index[frame["symbol"] == "S00"][50:70]
    found = only(frame.drop(hole), "gap")
    assert found.value == (day(frame, 70) - day(frame, 49)).days
    assert found.day == day(frame, 70)


def test_a_symbol_that_does_not_trade_and_a_price_that_cannot_be_are_errors() -> None:
    frame = change(market(), "S00", slice(0, None), lambda close: close.iloc[0])
    assert only(frame, "does_not_trade").severity == "error"
    broken = only(change(market(), "S00", slice(5, 6), lambda close: -close), "invalid_price")
    assert (broken.severity, broken.day) == ("error", day(market(), 5))


def test_no_bars_are_no_finding_of_a_symbol() -> None:
    assert bar_findings(MarketPanel.from_bars(market().head(0), SYMBOLS)) == []


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

    def before_cut(bars: pd.DataFrame):
        found = bar_findings(panel(bars))
        return [f for f in found if f.day is not None and (f.known_at or f.day) <= cut]

    assert before_cut(past) == before_cut(poisoned) != []


def test_limits_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_gap_days must be positive, found 0"):
        QualityConfig(max_gap_days=0)
    with pytest.raises(ConfigError, match=r"max_zero_share must lie in \[0, 1\], found 2"):
        HistoryLimits(max_zero_share=2.0)
    with pytest.raises(ConfigError, match="impossible_factor must exceed 1, found 1"):
        HistoryLimits(impossible_factor=1.0)
    with pytest.raises(ConfigError, match="at most 600 sessions, found 860"):
        HistoryLimits(window_sessions=400)
    with pytest.raises(ConfigError, match=r"stale_chance must lie in \(0, 1\), found 0"):
        HistoryLimits(stale_chance=0.0)
