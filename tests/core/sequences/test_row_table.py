from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from row_tables import planted_rows

from tft_core.errors import DataError
from tft_core.sequences import UNKNOWN_DATE, RowTable


@dataclass(frozen=True)
class Panel:
    values: np.ndarray
    dates: pd.DatetimeIndex
    symbols: tuple[str, ...]
    feature_names: tuple[str, ...]


class HalfScaler:
    """Divides by two; coverage from NaN."""

    def transform(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        coverage = np.isfinite(values).mean(axis=1).astype(np.float32)
        return np.nan_to_num(values / 2).astype(np.float32), coverage


@pytest.fixture
def close() -> np.ndarray:
    # asset 1 has no session on day 2
    return np.array([[10.0, 100], [11, 110], [12, np.nan], [15, 99], [12, 198], [18, 99.0]])


@pytest.fixture
def table(close: np.ndarray) -> RowTable:
    values = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
    values[0, 0, 1] = np.nan
    panel = Panel(values, pd.bdate_range("2020-01-01", periods=6), ("X", "Y"), ("a", "b"))
    sigma = np.full((6, 2), 0.02)
    return RowTable.build(panel, close, sigma, np.full((6, 2), 1e-4), HalfScaler())


def test_rows_are_asset_major_and_only_own_sessions(table: RowTable) -> None:
    assert table.asset_id.tolist() == [0] * 6 + [1] * 5
    assert table.date_index.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 3, 4, 5]
    assert table.asset_start.tolist() == [0, 6, 11]


def test_the_label_is_the_return_from_the_next_own_session_to_the_one_after(
    table: RowTable,
) -> None:
    expected_x = [12 / 11 - 1, 15 / 12 - 1, 12 / 15 - 1, 18 / 12 - 1, np.nan, np.nan]
    expected_y = [99 / 110 - 1, 198 / 99 - 1, 99 / 198 - 1, np.nan, np.nan]
    np.testing.assert_allclose(table.label, expected_x + expected_y, rtol=1e-12)
    np.testing.assert_allclose(table.scaled_label, np.array(expected_x + expected_y) / 0.02)


def test_the_label_is_realised_on_the_second_own_session_after(table: RowTable) -> None:
    u = UNKNOWN_DATE
    assert table.label_end.tolist() == [2, 3, 4, 5, u, u, 3, 4, 5, u, u]


def test_features_are_scaled_and_coverage_kept(table: RowTable) -> None:
    assert table.features[1].tolist() == [2.0, 2.5]  # day 1 of X holds 4 and 5
    assert table.coverage[:2].tolist() == [0.5, 1.0]
    assert table.features[0].tolist() == [0.0, 0.0]


def test_spreading_rows_over_dates_and_assets_leaves_other_places_nan(
    table: RowTable, close: np.ndarray
) -> None:
    wide = table.to_panel(np.arange(11.0))
    assert np.isnan(wide[2, 1])
    assert (np.isfinite(wide) == np.isfinite(close)).all()
    assert wide[3, 1] == 8.0


def test_choosing_features_keeps_their_order_and_refuses_an_unknown_one(table: RowTable) -> None:
    assert table.select_features(("b", "a")).features[1].tolist() == [2.5, 2.0]
    with pytest.raises(DataError, match="one of the table's 2, found 'c'"):
        table.select_features(("c",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": np.zeros(11)}, "sigma must be positive or NaN, found 0"),
        ({"features": np.full((11, 2), np.nan, np.float32)}, "must be finite"),
        ({"label": np.zeros(3)}, "label must hold 11 rows, found 3"),
        ({"date_index": np.zeros(11, np.int64)}, "sorted by asset, then time"),
        ({"feature_names": ("a",)}, "must hold 1 columns"),
    ],
)
def test_a_malformed_table_is_refused(table: RowTable, change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(table, **change)


def test_a_row_without_label_volatility_or_cost_bears_no_loss() -> None:
    rows = planted_rows(n_assets=1, n_days=20, n_features=4)
    sigma, cost = rows.sigma.copy(), rows.cost_rate.copy()
    sigma[3], cost[4] = np.nan, np.nan
    changed = replace(rows, sigma=sigma, cost_rate=cost)
    assert np.flatnonzero(~changed.can_bear_loss).tolist() == [3, 4, 18, 19]
