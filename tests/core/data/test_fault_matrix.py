"""The faults of real files by name: each has its code and its outcome, and harms nobody else.

One table for the rows of a file and what only the history shows. ``OTHER`` is clean and must
come back as it went in, whatever was done to ``X``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tft_core.data.history import HISTORY_REASONS, WITHHELD_RULES
from tft_core.data.rules import DUPLICATE_REASONS, RULES, reason_of
from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market

N_SESSIONS, AT = 160, 80
PRICES = ["open", "high", "low", "close"]
CLEAN = synthetic_market(2, N_SESSIONS, seed=21, start="2023-05-01", holidays=False)
CLEAN["symbol"] = CLEAN["symbol"].map({"S00": "X", "S01": "OTHER"})


NEW_YORK_RESTS = ["2023-05-29", "2023-06-19", "2023-07-04", "2023-09-04", "2023-11-23"]


def planted(change: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """The clean market with the rows of ``X`` changed."""
    own = CLEAN[CLEAN["symbol"] == "X"].reset_index(drop=True).astype({"volume": object})
    return pd.concat([change(own), CLEAN[CLEAN["symbol"] == "OTHER"]], ignore_index=True)


def cell(column: str, value: object, row: int = AT) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(own: pd.DataFrame) -> pd.DataFrame:
        own[column] = own[column].astype(object)
        own.loc[row, column] = value
        return own

    return change


def times(rows: slice, factor: float, columns: list[str] = PRICES):
    def change(own: pd.DataFrame) -> pd.DataFrame:
        own.loc[rows, columns] = own.loc[rows, columns] * factor
        return own

    return change


def again(**columns: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The row once more, with some values changed."""

    def change(own: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([own, own.loc[[AT]].assign(**columns)], ignore_index=True)

    return change


def frozen(rows: slice):
    def change(own: pd.DataFrame) -> pd.DataFrame:
        own.loc[rows, PRICES] = own.loc[rows.start, PRICES].to_numpy(dtype=float)
        return own

    return change


def swapped(own: pd.DataFrame) -> pd.DataFrame:
    own.loc[AT, ["high", "low"]] = own.loc[AT, ["low", "high"]].to_numpy(dtype=float)
    return own


def intraday(own: pd.DataFrame) -> pd.DataFrame:
    later = own.loc[[AT]].assign(date=own.loc[AT, "date"] + pd.Timedelta(hours=10))
    return pd.concat([own, later], ignore_index=True)


def with_exchange(day: str):
    """A bar on a day on which New York does not trade."""

    def change(own: pd.DataFrame) -> pd.DataFrame:
        extra = own.loc[[AT]].assign(date=pd.Timestamp(day))
        own = own[~own["date"].isin(pd.to_datetime(NEW_YORK_RESTS))]
        return pd.concat([own, extra], ignore_index=True).assign(exchange="XNYS")

    return change


@dataclass(frozen=True)
class Case:
    fault: str
    change: Callable[[pd.DataFrame], pd.DataFrame]
    rule: str | None
    """Code of the finding; ``None``: it is no fault and has none."""
    quarantined: int = 0
    duplicates: int = 0
    outcome: str = ""


Q, F, W = "quarantined", "flagged", "withheld"
CASES = [
    Case("nothing", lambda own: own, None),
    Case("unsorted rows", lambda own: own.sample(frac=1.0, random_state=1), None),
    Case("mixed dtypes", cell("close", str(CLEAN["close"].iloc[AT])), None),
    Case("volume as text", cell("volume", "1.2M"), None),
    Case("volume with thousands separators", cell("volume", "1,234,567"), None),
    Case("exact duplicate", again(), None, duplicates=1),
    Case("conflicting duplicate", again(volume=1.0), "conflicting_duplicate", 2, outcome=Q),
    Case("intraday rows", intraday, "intraday_row", 2, outcome=Q),
    Case("no symbol", cell("symbol", None), "missing_symbol", 1, outcome=Q),
    Case("NaN close", cell("close", np.nan), "missing_close", 1, outcome=Q),
    Case("infinite close", cell("close", np.inf), "infinite_value", 1, outcome=Q),
    Case("text in a price", cell("close", "halted"), "not_a_number", 1, outcome=Q),
    Case("zero price", cell("close", 0.0), "nonpositive_price", 1, outcome=Q),
    Case("negative price", cell("low", -37.6), "nonpositive_price", 1, outcome=Q),
    Case("negative volume", cell("volume", -5.0), "negative_volume", 1, outcome=Q),
    Case("high below low", swapped, "high_below_low", 1, outcome=Q),
    Case("decimal slip in the high", times(slice(AT, AT), 10.0, ["high"]), "price_out_of_scale", 1,
         outcome=Q),
    Case("close outside the range", times(slice(AT, AT), 1.2, ["close"]), "close_outside_range",
         outcome=F),
    Case("open outside the range", times(slice(AT, AT), 1.2, ["open"]), "open_outside_range",
         outcome=F),
    Case("30 February", cell("date", "2023-02-30"), "bad_date", 1, outcome=Q),
    Case("no date", cell("date", None), "bad_date", 1, outcome=Q),
    Case("year 2199", cell("date", pd.Timestamp("2199-01-05")), "impossible_date", 1, outcome=Q),
    Case("year 1066", cell("date", pd.Timestamp("1066-10-14")), "impossible_date", 1, outcome=Q),
    Case("Saturday in New York", with_exchange("2023-09-02"), "weekend_row", 1, outcome=Q),
    Case("Labor Day in New York", with_exchange("2023-09-04"), "holiday_row", outcome=F),
    Case("Saturday, exchange unknown", cell("date", pd.Timestamp("2023-09-02")),
         "weekend_row_unknown_exchange", outcome=F),
    Case("decimal spike in the newest bar", times(slice(N_SESSIONS - 1, N_SESSIONS), 10.0),
         "impossible_jump", outcome=F),
    Case("decimal spike", times(slice(AT, AT), 10.0), "decimal_spike", outcome=W),
    Case("decimal spike of three days", times(slice(AT, AT + 2), 0.01), "decimal_spike", outcome=W),
    Case("spike", times(slice(AT, AT), 1.7), "spike", outcome=F),
    Case("unadjusted 2:1 split", times(slice(AT, N_SESSIONS), 0.5), "unadjusted_split", outcome=F),
    Case("unit switch to pence", times(slice(AT, N_SESSIONS), 100.0), "unit_switch", outcome=F),
    Case("stale run", frozen(slice(AT, AT + 14)), "stale_run", outcome=F),
    Case("a symbol that does not trade", frozen(slice(0, N_SESSIONS)), "does_not_trade", outcome=F),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[c.fault for c in CASES])
@pytest.mark.parametrize("as_csv", [False, True], ids=["frame", "csv"])
def test_each_fault_has_its_code_and_its_outcome_and_harms_nobody_else(
    tmp_path, case: Case, as_csv: bool
) -> None:
    frame = planted(case.change)
    source: object = frame
    if as_csv:
        source = tmp_path / "bars.csv"
        frame.to_csv(source, index=False)
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        report = store.ingest(source)
        assert report.rows_in == len(frame)
        assert report.rows_in == report.accepted + report.quarantined + report.exact_duplicates
        assert (report.quarantined, report.exact_duplicates) == (case.quarantined, case.duplicates)
        found = report.findings[report.findings["rule"] == case.rule]
        if case.rule is None:
            assert report.findings.empty
            assert report.flagged == 0
        else:
            assert set(found["outcome"]) == {case.outcome}
            assert set(found["symbol"].dropna()) <= {"X"}
            assert (report.flagged > 0) == (case.outcome != Q)
        if case.outcome == Q:
            kept = store.quarantine()
            assert set(kept["rule"]) == {case.rule}
            assert kept["reason"].tolist() == [reason_of(case.rule or "")] * case.quarantined
        assert store.summary()["withheld"] == (len(found) if case.outcome == W else 0) * (
            3 if "three days" in case.fault else 1
        )
        other = store.bars(["OTHER"]).drop(columns="symbol")
        clean = CLEAN[CLEAN["symbol"] == "OTHER"].reset_index(drop=True)
        pd.testing.assert_frame_equal(other, clean[other.columns], check_dtype=False, rtol=1e-15)


def test_the_matrix_plants_every_rule_there_is() -> None:
    codes = {rule.code for rule in RULES} | set(DUPLICATE_REASONS) | set(HISTORY_REASONS)
    elsewhere = {"bad_available_at"}  # test_vintages: needs a file with vintages
    assert {case.rule for case in CASES if case.rule} | elsewhere == codes
    assert set(WITHHELD_RULES) <= set(HISTORY_REASONS)


def test_the_page_on_ingestion_tells_every_rule_with_its_outcome_and_meaning() -> None:
    page = (Path(__file__).parents[3] / "docs" / "ingestion.md").read_text("utf-8")
    told = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+?) \|$", page, re.M)
    rules = [(rule.code, rule.outcome, rule.reason) for rule in RULES]
    rules += [(code, Q, reason) for code, reason in DUPLICATE_REASONS.items()]
    rules += [
        (code, W if code in WITHHELD_RULES else F, reason)
        for code, reason in HISTORY_REASONS.items()
    ]
    assert told == rules
