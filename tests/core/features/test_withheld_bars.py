"""A misplaced decimal in the store: features feel it on its own day and on no later one."""

import numpy as np
import pandas as pd
import pytest

from tft_core.data.store import MarketDataStore
from tft_core.data.synthetic import synthetic_market
from tft_core.features.as_known import session_risk
from tft_core.features.builder import MegaFeatureBuilder

AT, N_SESSIONS = 100, 130
PRICES = ["open", "high", "low", "close"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The market with the error, and the same without that bar."""
    market = synthetic_market(2, N_SESSIONS, seed=8, holidays=False)
    bad = market.index[market["symbol"] == "S00"][AT]
    faulty = market.copy()
    faulty.loc[bad, PRICES] *= 100.0
    folder = tmp_path_factory.mktemp("stores")
    with (
        MarketDataStore(folder / "faulty.duckdb") as one,
        MarketDataStore(folder / "without.duckdb") as other,
    ):
        one.ingest(faulty)
        other.ingest(market.drop(bad))
        yield one, other


def test_rows_after_the_error_are_those_of_a_market_without_that_bar(stores) -> None:
    faulty, without = stores
    days = faulty.session_dates(["S01"])
    builder = MegaFeatureBuilder()
    built, expected = (
        builder.build(store, start=days[AT + 1].date(), end=days[-1].date())
        for store in (faulty, without)
    )
    np.testing.assert_array_equal(built.values, expected.values)
    assert np.isfinite(built.values).mean() > 0.2


def test_the_row_of_its_own_day_is_built_from_what_was_believed_then(stores) -> None:
    faulty, _ = stores
    day = faulty.session_dates(["S01"])[AT].date()
    row = MegaFeatureBuilder().build(faulty, ["S00"], start=day, end=day).to_frame()
    assert row["date"].tolist() == [pd.Timestamp(day)]
    believed = faulty.bars(["S00"], end=day, as_of=day)["close"].to_numpy()
    assert believed[-1] > 50.0 * believed[-2]
    assert faulty.findings(["S00"], as_of=day)["rule"].tolist() == ["impossible_jump"]


def test_returns_as_earned_pass_over_the_error(stores) -> None:
    faulty, without = stores
    days = faulty.session_dates(["S01"])
    span = days[AT - 3].date(), days[AT + 10].date()
    risk, expected = (session_risk(store, ("S00", "S01"), *span) for store in stores)
    assert np.isnan(risk.returns[3, 0])  # no session in hindsight
    np.testing.assert_array_equal(risk.returns, expected.returns)
    assert np.nanmax(np.abs(risk.returns)) < 0.1
    assert len(without.findings()) == 0
