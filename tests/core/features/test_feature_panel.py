"""The feature panel's shape, slices and long form; the scaler."""

import numpy as np
import pandas as pd
import pytest

from tft_core.errors import FeatureError
from tft_core.features.normalization import Scaler
from tft_core.features.panel import FeaturePanel

NAN = np.float32(np.nan)


@pytest.fixture
def panel() -> FeaturePanel:
    values = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    values[1, 1] = NAN  # B does not trade on the second day
    values[0, 0, 1] = NAN  # a feature that is not known yet
    dates = pd.DatetimeIndex(["2024-01-02", "2024-01-03", "2024-01-04"])
    has_session = np.array([[True, True], [True, False], [True, True]])
    return FeaturePanel(values, dates, ("A", "B"), ("x_one", "x_two"), has_session)


def test_long_form_has_one_row_per_session_and_returns_whole(panel):
    frame = panel.to_frame()
    assert len(frame) == 5 and frame.columns.tolist() == ["date", "symbol", "x_one", "x_two"]
    again = FeaturePanel.from_frame(frame.sample(frac=1.0, random_state=0), ["A", "B"])
    np.testing.assert_array_equal(again.values, panel.values)
    np.testing.assert_array_equal(again.has_session, panel.has_session)
    assert again.dates.equals(panel.dates) and again.feature_names == panel.feature_names


def test_a_session_without_any_known_feature_stays_a_session(panel):
    frame = panel.to_frame()
    frame.loc[0, ["x_one", "x_two"]] = NAN
    assert FeaturePanel.from_frame(frame).has_session[0, 0]


def test_between_leaves_the_end_out(panel):
    part = panel.between(pd.Timestamp("2024-01-03"), pd.Timestamp("2024-01-04"))
    assert part.dates.strftime("%d").tolist() == ["03"]
    assert len(panel.between(pd.Timestamp("2025-01-01")).dates) == 0


def test_parts_concatenate_to_the_whole(panel):
    cut = pd.Timestamp("2024-01-03")
    whole = FeaturePanel.concat([panel.between(None, cut), panel.between(cut)])
    np.testing.assert_array_equal(whole.values, panel.values)
    assert whole.dates.equals(panel.dates)


def test_concat_takes_the_union_of_symbols(panel):
    late = FeaturePanel(
        np.ones((1, 1, 2), dtype=np.float32),
        pd.DatetimeIndex(["2024-02-01"]),
        ("C",),
        panel.feature_names,
    )
    whole = FeaturePanel.concat([panel, late])
    assert whole.symbols == ("A", "B", "C")
    assert np.isnan(whole.values[3, :2]).all() and (whole.values[3, 2] == 1).all()


def test_concat_refuses_overlapping_dates(panel):
    with pytest.raises(FeatureError, match="found 2024-01-02 after 2024-01-04"):
        FeaturePanel.concat([panel, panel])


def test_select_keeps_the_asked_order(panel):
    chosen = panel.select(["x_two", "x_one"])
    assert chosen.feature_names == ("x_two", "x_one")
    np.testing.assert_array_equal(chosen.values[..., 0], panel.values[..., 1])


def test_select_refuses_an_unknown_name(panel):
    with pytest.raises(FeatureError, match="found 'x_three'"):
        panel.select(["x_three"])


def test_a_double_row_is_refused(panel):
    frame = panel.to_frame()
    with pytest.raises(FeatureError, match="found 1 rows twice"):
        FeaturePanel.from_frame(pd.concat([frame, frame.iloc[:1]]))


def test_values_must_have_the_declared_shape(panel):
    with pytest.raises(FeatureError, match=r"shape \(3, 2, 1\).*found \(3, 2, 2\)"):
        FeaturePanel(panel.values, panel.dates, panel.symbols, ("x_one",))


def test_scaler_standardises_clips_and_then_imputes():
    rows = np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0], [NAN, 5.0]], dtype=np.float32)
    scaler = Scaler.fit(rows)
    assert scaler.mean[0] == 2.0 and scaler.std[0] == pytest.approx((8 / 3) ** 0.5)
    assert np.isnan(scaler.std[1])
    scaled, coverage = scaler.transform(np.array([[100.0, 5.0], [NAN, 9.0]], dtype=np.float32))
    assert scaled.dtype == np.float32 and scaled.tolist() == [[5.0, 0.0], [0.0, 0.0]]
    assert coverage.tolist() == [0.5, 0.0]


def test_scaler_of_a_feature_never_known_counts_as_missing():
    scaler = Scaler.fit(np.array([[NAN, 1.0], [NAN, 2.0]], dtype=np.float32))
    assert np.isnan(scaler.mean[0]) and np.isnan(scaler.std[0])
    scaled, coverage = scaler.transform(np.array([[3.0, 1.5]], dtype=np.float32))
    assert scaled.tolist() == [[0.0, 0.0]] and coverage.tolist() == [0.5]


def test_scaler_survives_json():
    import json

    scaler = Scaler.fit(np.array([[1.0, NAN], [3.0, NAN]], dtype=np.float32), clip=3.0)
    again = Scaler.from_dict(json.loads(json.dumps(scaler.to_dict(), allow_nan=False)))
    np.testing.assert_array_equal(again.mean, scaler.mean)
    np.testing.assert_array_equal(again.std, scaler.std)
    assert again.clip == 3.0


def test_scaler_of_other_features_is_refused():
    scaler = Scaler.fit(np.array([[1.0], [3.0]], dtype=np.float32))
    with pytest.raises(FeatureError, match=r"scaler's 1 features, found \(1, 2\)"):
        scaler.transform(np.zeros((1, 2), dtype=np.float32))


def test_scaler_needs_rows():
    with pytest.raises(FeatureError, match="at least one row"):
        Scaler.fit(np.zeros((0, 3), dtype=np.float32))
