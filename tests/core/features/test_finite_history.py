"""History length must not matter: short history gives NaN, enough gives the same numbers."""

import sys
import types
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import talib
from feature_market import deviations

from tft_core.errors import FeatureError
from tft_core.features.audit import PARITY_TOLERANCE, finite_history_audit
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.registry import FeatureConfig, FeatureGroup, definer


def test_declared_lookback_is_enough_for_every_feature(builder, market, series):
    audit = finite_history_audit(builder, market, [615, 639], series=series)
    assert audit.loc[~audit["is_finite_memory"], "feature"].tolist() == []
    assert audit["max_difference"].max() <= PARITY_TOLERANCE


def test_last_day_alone_equals_the_full_build(builder, market, series, built):
    last = builder.build_panel(market, series=series, first_row=639)
    gap = np.abs(last.values[0] - built.values[639]) / deviations(built)
    assert not (gap > PARITY_TOLERANCE).any()
    np.testing.assert_array_equal(np.isnan(last.values[0]), np.isnan(built.values[639]))
    assert last.dates.tolist() == [market.dates[639]]


def test_a_shorter_history_gives_nan(builder, market, built):
    catalogue = builder.catalogue().query("counted_on == 'own_sessions'")
    place = {name: i for i, name in enumerate(builder.feature_names)}
    asset = market.symbols.index("A0")
    for name, lookback in zip(catalogue["name"], catalogue["lookback"], strict=True):
        assert np.isnan(built.values[: lookback - 1, asset, place[name]]).all(), name


def test_features_begin_as_soon_as_their_lookback_is_there(builder, market, built):
    # A0 has every field, and every feature that needs no cross-section starts on time
    asset = market.symbols.index("A0")
    late = []
    for i, feature in enumerate(builder.registry.features):
        if feature.group in ("xs", "rmt", "exo"):
            continue
        if np.isnan(built.values[feature.lookback - 1, asset, i]):
            late.append(feature.name)
    assert late == []


def _by_pandas(formula):
    return lambda close: formula(pd.Series(close)).to_numpy(dtype=np.float64)


RECURSIONS = {
    "rec_cumulated": np.nancumsum,
    "rec_expanding_mean": _by_pandas(lambda c: c / c.expanding().mean()),
    "rec_expanding_rank": _by_pandas(lambda c: c.expanding().rank(pct=True)),
    "rec_expanding_zscore": _by_pandas(lambda c: (c - c.expanding().mean()) / c.expanding().std()),
    "rec_ewma": _by_pandas(lambda c: c.ewm(span=60).mean() / c),
    "rec_ewma_recursive": _by_pandas(lambda c: c.ewm(alpha=1 / 60, adjust=False).mean() / c),
    "rec_volume_balance": _by_pandas(lambda c: np.sign(c.diff()).cumsum()),
    "rec_drawdown_from_the_peak": _by_pandas(lambda c: c / c.cummax()),
    "rec_growth_since_the_start": _by_pandas(lambda c: c / c.bfill().iloc[0]),
    "rec_age": _by_pandas(lambda c: c.notna().cumsum()),
    "rec_talib_rsi": lambda close: talib.RSI(close, 60),
}
FINITE = {
    "rec_none_mean": _by_pandas(lambda c: c.rolling(61).mean() / c),
    "rec_none_ewma": _by_pandas(
        lambda c: c.rolling(61).apply(lambda w: pd.Series(w).ewm(span=20).mean().iloc[-1]) / c
    ),
}


def test_planted_recursions_are_caught_and_finite_windows_are_not_accused(monkeypatch, market):
    define = definer("rec")
    formulas = {**RECURSIONS, **FINITE}
    group = FeatureGroup(
        name="rec",
        title="Planted recursions",
        axis="own_sessions",
        features=tuple(define(n.removeprefix("rec_"), "close", 61, "", "x") for n in formulas),
        compute=lambda bars: {
            name: np.stack([formula(row) for row in bars.close])
            for name, formula in formulas.items()
        },
    )
    module = types.ModuleType("planted_recursions")
    module.GROUP = group  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "planted_recursions", module)
    config = FeatureConfig(plugins=("planted_recursions",), groups=("rec", "ret"))
    audit = finite_history_audit(MegaFeatureBuilder(config), market, [600])
    assert set(audit.loc[~audit["is_finite_memory"], "feature"]) == set(RECURSIONS)


@pytest.mark.parametrize(
    ("symbols", "start"),
    [
        (("A0",), "2018-06-15"),  # the newest session
        (("A5", "A1"), "2018-05-31"),
        (("A4",), "2018-03-01"),  # closes only
        (("A3", "A2", "A0"), "2017-12-29"),  # less history than every feature wants
        (("A1",), "2016-06-01"),
    ],
)
def test_any_subset_from_any_start_equals_its_part_of_the_full_build(
    builder, market, series, built, symbols, start
):
    first_row = int(market.dates.get_indexer([pd.Timestamp(start)])[0])
    assert first_row > 0
    part = builder.build_panel(market, series=series, first_row=first_row, symbols=symbols)
    assets = [market.symbols.index(symbol) for symbol in symbols]
    whole = built.values[first_row:][:, assets]
    np.testing.assert_array_equal(np.isnan(part.values), np.isnan(whole))
    gap = np.abs(part.values - whole) / deviations(built)
    assert np.nanmax(gap) <= PARITY_TOLERANCE


def test_a_monstrous_bar_leaves_nothing_behind_after_its_window(builder, market):
    poisoned = market.close.copy()
    poisoned[20, 0] *= 1e9
    other = replace(market, close=poisoned)
    names = [f.name for f in builder.registry.features if f.group not in ("xs", "rmt", "exo")]
    left = builder.build_panel(market).select(names).values[620:, 0]
    right = builder.build_panel(other).select(names).values[620:, 0]
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_audited_rows_must_exist(builder, market):
    with pytest.raises(FeatureError, match=r"lie in \[0, 639\], found \[640\]"):
        finite_history_audit(builder, market, [640])
