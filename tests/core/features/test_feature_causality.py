"""No feature sees the future; every planted leak is caught and nobody else is accused."""

import sys
import types

import numpy as np
import pandas as pd
import pytest
import scipy.signal

from tft_core.data.panel import MarketPanel
from tft_core.errors import FeatureError
from tft_core.features.audit import causality_audit
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.registry import FeatureConfig, FeatureGroup, definer

# Each leak takes the closes of one asset's sessions (a frame of one column) and their days;
# those of the market one column per asset.


def _wrong_merge(c: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    week = days.to_period("W")
    return c.groupby(week).last().loc[week].set_axis(c.index)  # Monday gets Friday's close


def _week_end_label(c: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    weekly = c.set_axis(days).resample("W-FRI", label="left").mean()  # dated a week too early
    return weekly.reindex(days, method="ffill").set_axis(c.index)


def _month_end(c: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    month = pd.Series(days.to_period("M"))
    is_last = ~month.duplicated(keep="last")  # the last day of the month in the data
    return c * 0.0 + is_last.to_numpy()[:, None]


def _first_component(c: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    lagged = pd.concat([c.pct_change(lag) for lag in (1, 5, 21)], axis=1).fillna(0.0)
    _, _, axes = np.linalg.svd(lagged - lagged.mean(), full_matrices=False)
    return c * 0.0 + (lagged.to_numpy() @ axes[0])[:, None]


def _residual(c: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    t = np.arange(len(c))
    fit = np.polyfit(t, c.to_numpy(), 1)  # one line through all of history
    return c - (t[:, None] * fit[0] + fit[1])


def _zero_phase(c: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    numerator, denominator = scipy.signal.butter(2, 0.1)
    return c * 0.0 + scipy.signal.filtfilt(numerator, denominator, c.to_numpy(), axis=0)


def _low_pass(c: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    spectrum = np.fft.rfft(c.to_numpy(), axis=0)
    spectrum[20:] = 0.0
    return c * 0.0 + np.fft.irfft(spectrum, len(c), axis=0)


def _season(c: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    return c.pct_change().groupby(days.day_of_week).transform("mean")


def _peak(c: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    return (c == c.rolling(5, center=True, min_periods=1).max()).astype(float)


def _outliers_removed(c: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    returns = c.pct_change()
    return returns.where(returns.abs() < 2.0 * returns.std())


OWN_LEAKS = {
    "centred_window": lambda c, d: c.rolling(5, center=True).mean() / c,
    "bfill": lambda c, d: c.where(c.pct_change() > 0).bfill() / c,
    "full_sample_scaling": lambda c, d: (c - c.mean()) / c.std(),
    "future_max": lambda c, d: c[::-1].cummax()[::-1] / c,
    "off_by_one": lambda c, d: c.shift(-1) / c,
    "label": lambda c, d: c.shift(-2) / c.shift(-1) - 1.0,
    "wrong_merge": lambda c, d: _wrong_merge(c, d) / c,
    "week_end_label": lambda c, d: _week_end_label(c, d) / c,
    "month_end_of_the_data": _month_end,
    "interpolation": lambda c, d: c.where(c.pct_change() > 0).interpolate() / c,
    "reversed_ewm": lambda c, d: c[::-1].ewm(span=5).mean()[::-1] / c,
    "two_sided_filter": lambda c, d: c.ewm(span=5).mean()[::-1].ewm(span=5).mean()[::-1] / c,
    "zero_phase_filter": _zero_phase,
    "low_pass_of_the_sample": _low_pass,
    "full_sample_rank": lambda c, d: c.rank(pct=True),
    "full_sample_quantile": lambda c, d: c.gt(c.quantile(0.7)).astype(float),
    "winsorised": lambda c, d: c.clip(upper=c.quantile(0.9), axis=1),
    "outliers_of_the_sample": _outliers_removed,
    "last_price": lambda c, d: c / c.iloc[-1],
    "full_sample_trend": _residual,
    "principal_component": _first_component,
    "negative_momentum": lambda c, d: c.pct_change(-3),
    "season_of_the_sample": _season,
    "peak": _peak,
    "sessions_left": lambda c, d: c * 0.0 + np.arange(len(c))[::-1, None],
    "target_encoding": lambda c, d: c * 0.0 + c.pct_change().shift(-1).mean(),
}
MARKET_LEAKS = {
    "rank_of_tomorrow": lambda c, d: c.pct_change().shift(-1).rank(axis=1),
    "static_beta": lambda c, d: c * 0.0 + c.pct_change().corrwith(c.pct_change().mean(axis=1)),
}
HONEST = {
    "none": lambda c, d: c.pct_change(),
    "none_expanding": lambda c, d: c / c.expanding().mean(),
    "none_ffill": lambda c, d: c.where(c.pct_change() > 0).ffill() / c,
}
LEAKS = {f"leak_{name}" for name in OWN_LEAKS} | {f"mleak_{name}" for name in MARKET_LEAKS}


def _own(formulas):
    def compute(bars):
        out = {f"leak_{name}": np.full(bars.shape, np.nan) for name in formulas}
        for asset, day in enumerate(bars.day):
            known = ~np.isnan(day)
            close = pd.DataFrame(bars.close[asset, known])
            days = pd.DatetimeIndex(day[known].astype("datetime64[D]"))
            for name, formula in formulas.items():
                out[f"leak_{name}"][asset, known] = formula(close, days).to_numpy(float)[:, 0]
        return out

    return compute


def _market(grid):
    close = pd.DataFrame(grid.align(grid.own.close)).ffill().bfill()
    return {
        f"mleak_{name}": formula(close, None).to_numpy(dtype=np.float64)
        for name, formula in MARKET_LEAKS.items()
    }


def plant(monkeypatch, module: str, name: str, axis, features, compute, load=None) -> str:
    define = definer(name)
    group = FeatureGroup(
        name=name,
        title="Planted",
        axis=axis,
        features=tuple(define(feature, "close", 1, "", "planted") for feature in features),
        compute=compute,
        load=load,
    )
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    sys.modules[module].GROUP = group  # type: ignore[attr-defined]
    return module


@pytest.fixture
def leaky_plug_ins(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    own = {**OWN_LEAKS, **HONEST}
    return (
        plant(monkeypatch, "planted_leaks", "leak", "own_sessions", own, _own(own)),
        plant(monkeypatch, "planted_market", "mleak", "market", MARKET_LEAKS, _market),
    )


def test_replacing_the_future_moves_no_feature_by_a_bit(builder, market, series):
    audit = causality_audit(builder, market, [595, 630], series=series)
    assert audit.loc[~audit["is_causal"], "feature"].tolist() == []
    unused_slots = {f for f in builder.feature_names if f[:5] in ("exo_2", "exo_3", "exo_4")}
    assert set(audit.loc[audit["cells"] == 0, "feature"]) == unused_slots


def test_every_planted_leak_is_caught_and_none_of_the_292_accused(leaky_plug_ins, market, series):
    builder = MegaFeatureBuilder(FeatureConfig(plugins=leaky_plug_ins, series=("rates",)))
    # a Wednesday amid a month: a cut between two weeks would not see what leaks within one
    audit = causality_audit(builder, market, [562], series=series)
    assert len(audit) == 292 + len(LEAKS) + len(HONEST) and len(LEAKS) >= 12
    accused = audit[~audit["is_causal"]]
    assert set(accused["feature"]) == LEAKS
    assert accused["first_date"].notna().all()


def test_a_table_row_used_before_it_was_available_is_caught(monkeypatch, market):
    dates = market.dates[100:600]
    table = pd.DataFrame(
        {
            "date": np.repeat(dates, 2),
            "symbol": ["A0", "A1"] * len(dates),
            "put_call": np.random.default_rng(0).random(2 * len(dates)),
            # published two sessions after its date
            "available_at": np.repeat(market.dates[102:602], 2),
        }
    )

    def compute(bars):
        frame = bars.tables.get("opt")
        hasty = np.full(bars.shape, np.nan)
        for i, symbol in enumerate(bars.symbols):
            own = frame[frame["symbol"] == symbol].set_index("date")["put_call"]
            known = ~np.isnan(bars.day[i])
            days = pd.DatetimeIndex(bars.day[i, known].astype("datetime64[D]"))
            hasty[i, known] = own.reindex(days).to_numpy()
        return {"opt_hasty": hasty, "opt_patient": bars.table_column("opt", "put_call")}

    module = plant(monkeypatch, "hasty_table", "opt", "own_sessions", ("hasty", "patient"), compute)
    builder = MegaFeatureBuilder(FeatureConfig(plugins=(module,), groups=("opt",)))
    audit = causality_audit(builder, market, [400], tables={"opt": table})
    assert audit.loc[~audit["is_causal"], "feature"].tolist() == ["opt_hasty"]


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
