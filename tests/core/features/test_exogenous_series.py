"""Exogenous series count from the day they were known, revisions included."""

import numpy as np
import pandas as pd
import pytest

from tft_core.errors import FeatureError
from tft_core.features.exogenous import ExogenousSeries


def known_on(series: pd.DataFrame, day: str) -> float:
    path = ExogenousSeries.from_frame(series, ["cpi"])
    values = path.slot(1)
    assert values is not None
    number = np.array([[(np.datetime64(day) - np.datetime64("1970-01-01")).astype(float)]])
    return float(path.at(values, number)[0, 0])


@pytest.fixture
def releases() -> pd.DataFrame:
    """January is released on Thursday 15 February, revised on 20 March after February's."""
    return pd.DataFrame(
        {
            "name": "cpi",
            "date": pd.to_datetime(["2024-01-31", "2024-02-29", "2024-01-31"]),
            "value": [100.0, 101.0, 99.0],
            "available_at": pd.to_datetime(
                ["2024-02-15 13:30", "2024-03-14 13:30", "2024-03-20 13:30"]
            ),
        }
    )


def test_a_value_counts_from_its_release_not_from_its_date(releases):
    assert np.isnan(known_on(releases, "2024-02-14"))
    assert known_on(releases, "2024-02-15") == 100.0
    assert known_on(releases, "2024-03-13") == 100.0
    assert known_on(releases, "2024-03-14") == 101.0


def test_revising_an_older_month_does_not_bring_it_back(releases):
    assert known_on(releases, "2024-03-21") == 101.0


def test_a_revision_of_the_newest_value_replaces_it(releases):
    revised = releases.assign(date=pd.to_datetime(["2024-01-31", "2024-02-29", "2024-02-29"]))
    assert known_on(revised, "2024-03-19") == 101.0
    assert known_on(revised, "2024-03-20") == 99.0


def test_a_saturday_session_sees_fridays_value_and_news_of_sunday_waits(releases):
    sunday = releases.iloc[:1].assign(available_at=pd.Timestamp("2024-02-18 10:00"))
    assert np.isnan(known_on(sunday, "2024-02-18"))
    assert known_on(sunday, "2024-02-19") == 100.0
    assert known_on(releases, "2024-02-17") == 100.0


def test_a_series_that_stopped_is_unknown_after_a_quarter(releases):
    assert known_on(releases, "2024-06-07") == 101.0
    assert np.isnan(known_on(releases, "2024-06-10"))


def test_a_series_without_available_at_is_refused(releases):
    with pytest.raises(FeatureError, match="must have a column 'available_at'"):
        ExogenousSeries.from_frame(releases.drop(columns="available_at"), ["cpi"])


def test_z_score_counts_weekdays_of_the_known_path(builder, market, series, built):
    asset = market.symbols.index("A0")
    window = series["value"].to_numpy()[-21:]
    expected = (window[-1] - window.mean()) / window.std()
    found = built.select(["exo_1_z21"]).values[-1, asset, 0]
    assert found == pytest.approx(expected, rel=1e-5)


def test_an_empty_slot_is_nan(built):
    names = [name for name in built.feature_names if name.startswith("exo_2")]
    assert np.isnan(built.select(names).values).all()
