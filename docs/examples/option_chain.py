"""Option-chain features from NSE's daily F&O bhavcopy: a worked example of a feature group.

    python option_chain.py bhavcopy_*.parquet      # adds their days to the table

The table has one row per date and underlying; ``$OPTION_CHAIN_TABLE`` says where it lies.
"""

import os
import sys
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from tft_core.features import kernels as k
from tft_core.features.registry import FeatureGroup, definer
from tft_core.features.sessions import OwnSessions

TABLE_ENV = "OPTION_CHAIN_TABLE"
PUBLISHED = pd.Timedelta(hours=15)
"""After midnight UTC of the session: 20:30 in India, when the bhavcopy is out."""

MEASURES = ("put_call_oi", "put_call_volume", "max_pain", "strike_skew", "oi_growth", "basis",
            "basis_slope")  # fmt: skip

_define = definer("opt")
_SOURCE = "NSE F&O bhavcopy (UDiFF)"

FEATURES = (
    _define("put_call_oi", "table", 1, "log ratio",
            "ln(open interest of puts / of calls), all expiries", _SOURCE),
    _define("put_call_oi_z21", "table", 21, "standard deviations",
            "z-score of opt_put_call_oi over 21 sessions", _SOURCE),
    _define("put_call_volume", "table", 1, "log ratio",
            "ln(contracts traded in puts / in calls), all expiries", _SOURCE),
    _define("max_pain", "close table", 253, "daily volatilities",
            "ln(K / S) / σ_t: K the strike of the next expiry at which all its options together "
            "pay least, S the underlying", _SOURCE),
    _define("strike_skew", "close table", 253, "daily volatilities",
            "(mean ln(K / S) of calls + of puts, weighted by open interest, next expiry) / σ_t",
            _SOURCE),
    _define("oi_growth", "table", 1, "log change",
            "ln(open interest of all options / of the day before)", _SOURCE),
    _define("basis", "table", 1, "per year",
            "ln(nearest future / S) × 365 / days to its expiry; NaN on the day it expires",
            _SOURCE),
    _define("basis_slope", "table", 1, "per year",
            "ln(second / nearest future) × 365 / days between their expiries", _SOURCE),
)  # fmt: skip


def compute(bars: OwnSessions) -> dict[str, np.ndarray]:
    """All features of the group: a column of the table each, put in units that have no scale."""
    column = {name: bars.table_column("opt", name) for name in MEASURES}
    return {
        **{f"opt_{name}": values for name, values in column.items()},
        "opt_put_call_oi_z21": k.move_zscore(column["put_call_oi"], 21),
        "opt_max_pain": k.ratio(column["max_pain"], bars.sigma),
        "opt_strike_skew": k.ratio(column["strike_skew"], bars.sigma),
    }


def load(
    store: object, start: date, end: date, as_of: date | datetime | None = None
) -> pd.DataFrame:
    """The table's rows of [start, end]; the builder uses each from its ``available_at`` on."""
    place = os.environ.get(TABLE_ENV, "option_chain.parquet")
    table = pd.read_parquet(place)
    inside = table["date"].between(pd.Timestamp(start), pd.Timestamp(end))
    return table[inside].reset_index(drop=True)


def table_of(bhavcopy: pd.DataFrame) -> pd.DataFrame:
    """One row per date and underlying from the contracts of one or more days."""
    contracts = bhavcopy.assign(
        date=pd.to_datetime(bhavcopy["date"]), expiry=pd.to_datetime(bhavcopy["xprydt"])
    )
    rows = [
        {"date": day, "symbol": symbol, **_measures(chain)}
        for (day, symbol), chain in contracts.groupby(["date", "symbol"])
    ]
    table = pd.DataFrame(rows, columns=["date", "symbol", *MEASURES])
    return table.assign(available_at=table["date"] + PUBLISHED)


def _measures(chain: pd.DataFrame) -> dict[str, float]:
    kind = chain["optntp"]
    puts, calls = chain[kind == "PE"], chain[kind == "CE"]
    options = pd.concat([puts, calls])
    interest, change = options["opnintrst"].sum(), options["chnginopnintrst"].sum()
    return {
        "put_call_oi": _log_ratio(puts["opnintrst"].sum(), calls["opnintrst"].sum()),
        "put_call_volume": _log_ratio(puts["ttltradgvol"].sum(), calls["ttltradgvol"].sum()),
        "oi_growth": _log_ratio(interest, interest - change),
        **_next_expiry(options),
        **_futures(chain[kind.isna()].sort_values("expiry")),
    }


def _next_expiry(options: pd.DataFrame) -> dict[str, float]:
    chain = options[options["expiry"] == options["expiry"].min()]
    is_call = (chain["optntp"] == "CE").to_numpy()
    strike = chain["strkpric"].to_numpy(dtype=np.float64)
    interest = chain["opnintrst"].to_numpy(dtype=np.float64)
    if not interest[is_call].sum() or not interest[~is_call].sum():
        return {"max_pain": np.nan, "strike_skew": np.nan}
    moneyness = np.log(strike / chain["undrlygpric"].to_numpy(dtype=np.float64))
    settled = np.unique(strike)
    payoff = np.where(is_call, 1.0, -1.0) * (settled[:, None] - strike)
    pain = (np.maximum(payoff, 0.0) * interest).sum(axis=1)
    spot = float(chain["undrlygpric"].iloc[0])
    skew = sum(np.average(moneyness[side], weights=interest[side]) for side in (is_call, ~is_call))
    return {"max_pain": float(np.log(settled[pain.argmin()] / spot)), "strike_skew": float(skew)}


def _futures(futures: pd.DataFrame) -> dict[str, float]:
    price = np.log(futures["sttlmpric"].to_numpy(dtype=np.float64))
    years = (futures["expiry"] - futures["date"]).dt.days.to_numpy() / 365.0
    spot = np.log(futures["undrlygpric"].to_numpy(dtype=np.float64))
    near = (price[0] - spot[0]) / years[0] if len(price) and years[0] > 0 else np.nan
    slope = (price[1] - price[0]) / (years[1] - years[0]) if len(price) > 1 else np.nan
    return {"basis": float(near), "basis_slope": float(slope)}


def _log_ratio(numerator: float, denominator: float) -> float:
    if numerator > 0 and denominator > 0:
        return float(np.log(numerator / denominator))
    return np.nan


GROUP = FeatureGroup(
    name="opt",
    title="Option chain",
    axis="own_sessions",
    features=FEATURES,
    compute=compute,
    load=load,
)


if __name__ == "__main__":
    path = Path(os.environ.get(TABLE_ENV, "option_chain.parquet"))
    parts = [table_of(pd.read_parquet(file)) for file in sys.argv[1:]]
    known = [pd.read_parquet(path)] if path.exists() else []
    every = pd.concat([*known, *parts]).drop_duplicates(["date", "symbol"], keep="last")
    every.sort_values(["date", "symbol"]).to_parquet(path, index=False)
    print(f"{path}: {len(every)} rows, {every['symbol'].nunique()} underlyings")
