"""Units and other assets' calendars must not matter."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from feature_market import assert_same, panel_of

from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.registry import FeatureConfig

ASSETS = 6


def test_prices_volumes_and_open_interest_have_no_unit(builder, market, series, built):
    unit = np.array([7.3, 1e-4, 1.0, 1e6, 0.013, 3.7])
    scaled = {n: getattr(market, n) * unit for n in ("open", "high", "low", "close")}
    other = replace(
        market,
        **scaled,
        volume=market.volume * unit[::-1] * 97.0,
        open_interest=market.open_interest * unit[::-1] / 3.0,
    )
    assert_same(built, builder.build_panel(other, series=series), 1e-5)


def test_an_exogenous_series_has_no_unit(market, series):
    builder = MegaFeatureBuilder(FeatureConfig(series=("rates",), groups=("exo",)))
    plain = builder.build_panel(market, series=series)
    other = builder.build_panel(market, series=series.assign(value=series["value"] * 1234.5))
    assert_same(plain.select(plain.feature_names[:6]), other.select(plain.feature_names[:6]), 1e-5)


def test_own_session_features_ignore_the_other_assets_calendars(bars, builder, market, built):
    # a newcomer that also trades on Saturdays and in the years before
    days = pd.date_range("2014-01-01", bars["date"].max())
    rng = np.random.default_rng(0)
    close = 10.0 * np.exp(np.cumsum(0.01 * rng.normal(size=len(days))))
    newcomer = pd.DataFrame({"date": days, "symbol": "Z", "close": close})
    wider = panel_of(pd.concat([bars, newcomer], ignore_index=True))
    own = [f.name for f in builder.registry.features if f.group not in ("xs", "rmt", "exo")]
    left = built.select(own)
    right = builder.build_panel(wider).select(own)
    rows = wider.dates.get_indexer(market.dates)
    np.testing.assert_array_equal(left.values, right.values[rows][:, :ASSETS])


@pytest.mark.parametrize("first_row", [0, 300, 639])
def test_threads_and_chunks_change_no_bit(builder, market, series, built, monkeypatch, first_row):
    gaps = np.random.default_rng(4).random(market.close.shape) < 0.03
    gaps[:, :2] = False  # some assets have gaps in their columns, others none
    patchy = replace(
        market,
        **{name: np.where(gaps, np.nan, getattr(market, name)) for name in ("open", "high")},
        volume=np.where(gaps[::-1], np.nan, market.volume),
    )
    panels = []
    for threads, cells in ((1, 10**9), (1, 1), (2, 2_000), (3, 1), (2, 64_000)):
        monkeypatch.setattr("tft_core.features.builder.N_THREADS", threads)
        monkeypatch.setattr("tft_core.features.builder._CHUNK_CELLS", cells)
        panels.append(builder.build_panel(patchy, series=series, first_row=first_row).values)
    for other in panels[1:]:
        np.testing.assert_array_equal(other, panels[0])


def test_an_asset_alone_has_the_features_it_has_in_company(builder, market, series, built):
    own = [f.name for f in builder.registry.features if f.group not in ("xs", "rmt")]
    for symbol in ("A1", "A4"):
        alone = builder.build_panel(market, series=series, symbols=[symbol]).select(own)
        asset = market.symbols.index(symbol)
        expected = built.select(own).values[:, asset]
        np.testing.assert_array_equal(alone.values[:, 0], expected)


def test_nothing_is_filled_where_an_asset_does_not_trade(market, built):
    assert np.isnan(built.values[~market.has_session]).all()
    np.testing.assert_array_equal(built.has_session, market.has_session)


def test_an_absent_column_gives_nan_never_zero(builder, market, built):
    asset = market.symbols.index("A4")  # closes only
    for i, feature in enumerate(builder.registry.features):
        if set(feature.inputs) & {"open", "high", "low", "volume", "open_interest"}:
            assert np.isnan(built.values[:, asset, i]).all(), feature.name


def test_a_price_that_never_moves_has_undefined_not_infinite_features(builder, market):
    frozen = {n: np.full_like(market.close, 3.1) for n in ("open", "high", "low", "close")}
    still = replace(
        market,
        **{n: np.where(market.has_session, v, np.nan) for n, v in frozen.items()},
        volume=np.zeros_like(market.close),
        open_interest=np.zeros_like(market.close),
    )
    built = builder.build_panel(still)
    assert not np.isinf(built.values).any()
    for name in ("paper_norm_ret_21", "vol_ratio_21_63", "ta_rsi_14", "ta_cci_20", "ta_willr_14",
                 "ta_mfi_14", "ta_bb_pctb_20", "dist_skew_63", "liq_volume_z_21", "oi_z_63",
                 "range_close_pos_63", "cpd_mean_score_63", "cyc_power_21_31"):  # fmt: skip
        assert np.isnan(built.select([name]).values).all(), name


def test_a_gap_in_one_column_passes_once_it_has_left_the_window(builder, market, series):
    asset = market.symbols.index("A0")
    high = market.high.copy()
    high[300:303, asset] = np.nan
    built = builder.build_panel(replace(market, high=high), series=series)
    cci = built.select(["ta_cci_20"]).values[:, asset, 0]
    assert np.isnan(cci[300:322]).all() and np.isfinite(cci[322:]).all()
    plain = builder.build_panel(market, series=series).select(["ta_cci_20"]).values[:, asset, 0]
    np.testing.assert_allclose(cci[322:], plain[322:], rtol=1e-5)


def test_a_universe_of_one_is_no_market(bars):
    alone = panel_of(bars[bars["symbol"] == "A0"])
    built = MegaFeatureBuilder(FeatureConfig(groups=("rmt", "xs"))).build_panel(alone)
    for name in ("rmt_mkt_corr_63", "rmt_mkt_beta_63", "rmt_resid_ret_21", "xs_rank_ret_21",
                 "xs_dispersion_21"):  # fmt: skip
        assert np.isnan(built.select([name]).values).all(), name
    assert np.isfinite(built.select(["xs_adv_share_21"]).values[-1]).all()
