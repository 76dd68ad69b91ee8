"""No feature sees the future; every planted leak is caught and nobody else is accused."""

import sys
import types

import numpy as np
import pandas as pd
import pytest

from tft_core.data.panel import MarketPanel
from tft_core.errors import FeatureError
from tft_core.features.audit import causality_audit
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.registry import FeatureConfig, FeatureGroup, definer


def _frame(bars) -> pd.DataFrame:
    return pd.DataFrame(bars.close.T)


def _wrong_merge(close: pd.DataFrame) -> pd.DataFrame:
    weekly = close.groupby(np.arange(len(close)) // 5).last()  # Monday gets Friday's close
    return weekly.loc[np.arange(len(close)) // 5].reset_index(drop=True)


LEAKS = {
    "leak_centred_window": lambda c: c.rolling(5, center=True).mean() / c,
    "leak_bfill": lambda c: c.where(c.pct_change() > 0).bfill() / c,
    "leak_full_sample_scaling": lambda c: (c - c.mean()) / c.std(),
    "leak_future_max": lambda c: c[::-1].cummax()[::-1] / c,
    "leak_off_by_one": lambda c: c.shift(-1) / c,
    "leak_wrong_merge": lambda c: _wrong_merge(c) / c,
    "leak_interpolation": lambda c: c.where(c.pct_change() > 0).interpolate() / c,
    "leak_reversed_ewm": lambda c: c[::-1].ewm(span=5).mean()[::-1] / c,
    "leak_full_sample_rank": lambda c: c.rank(pct=True),
    "leak_last_price": lambda c: c / c.ffill().iloc[-1],
    "leak_full_sample_trend": lambda c: c - np.outer(np.linspace(0, 1, len(c)), c.ffill().iloc[-1]),
    "leak_two_sided_filter": lambda c: c.ewm(span=5).mean()[::-1].ewm(span=5).mean()[::-1] / c,
    "leak_winsorised": lambda c: c.clip(upper=c.quantile(0.9), axis=1),
    "leak_negative_momentum": lambda c: c.pct_change(-3),
}
HONEST = {"leak_none": lambda c: c.pct_change()}


@pytest.fixture
def leaky_plug_in(monkeypatch: pytest.MonkeyPatch) -> str:
    define = definer("leak")
    formulas = {**LEAKS, **HONEST}
    group = FeatureGroup(
        name="leak",
        title="Planted leaks",
        axis="own_sessions",
        features=tuple(
            define(name.removeprefix("leak_"), "close", 1, "", "planted") for name in formulas
        ),
        compute=lambda bars: {
            name: formula(_frame(bars)).to_numpy(dtype=np.float64).T
            for name, formula in formulas.items()
        },
    )
    module = types.ModuleType("planted_leaks")
    module.GROUP = group  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "planted_leaks", module)
    return "planted_leaks"


def test_replacing_the_future_moves_no_feature_by_a_bit(builder, market, series):
    audit = causality_audit(builder, market, [595, 630], series=series)
    assert audit.loc[~audit["is_causal"], "feature"].tolist() == []
    unused_slots = {f for f in builder.feature_names if f[:5] in ("exo_2", "exo_3", "exo_4")}
    assert set(audit.loc[audit["cells"] == 0, "feature"]) == unused_slots


def test_every_planted_leak_is_caught_and_no_other_feature_accused(leaky_plug_in, market):
    config = FeatureConfig(plugins=(leaky_plug_in,), groups=("leak", "ret", "cal"))
    audit = causality_audit(MegaFeatureBuilder(config), market, [300, 500])
    assert set(audit.loc[~audit["is_causal"], "feature"]) == set(LEAKS)
    accused = audit[~audit["is_causal"]]
    assert accused["first_date"].notna().all()


def test_a_value_stamped_known_before_its_own_date_waits_for_it(market, series):
    hasty = series.assign(available_at=series["date"] - pd.Timedelta(days=5))
    builder = MegaFeatureBuilder(FeatureConfig(series=("rates",), groups=("exo",)))
    day = market.dates[500]
    full = builder.build_panel(market, series=hasty).values[:500]
    short = builder.build_panel(market, series=hasty[hasty["date"] < day]).values[:500]
    np.testing.assert_array_equal(full, short)


def test_a_cut_without_past_or_future_is_refused(builder, market: MarketPanel):
    with pytest.raises(FeatureError, match=r"rows in \[1, 639\], found \[640\]"):
        causality_audit(builder, market, [640])
