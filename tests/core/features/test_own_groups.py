"""Groups of the user: a file, a table point in time, the option-chain example on real contracts."""

import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feature_market import make_bars, panel_of

from tft_core.data.store import MarketDataStore
from tft_core.errors import FeatureError
from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.registry import FeatureConfig
from tft_core.features.sampled_audit import tables_that_look_ahead

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "option_chain.py"
BHAVCOPY = ROOT.parent / "shared" / "data" / "nse_fo_bhavcopy_20260811.parquet"

PLUG_IN = """
import pandas as pd
from tft_core.features.registry import FeatureGroup, definer

define = definer("mine")
TABLE = pd.DataFrame({table})


def load(store, start, end, as_of):
    table = TABLE[TABLE["date"].between(pd.Timestamp(start), pd.Timestamp(end))]
    return {returned}


GROUP = FeatureGroup(
    name="mine",
    title="Mine",
    axis="own_sessions",
    features=(define("flow", "table", 1, "shares", "net flow"),),
    compute=lambda bars: {{"mine_flow": bars.table_column("mine", "flow")}},
    load=load,
)
"""


def plug_in(folder: Path, table: str, returned: str = "table") -> MegaFeatureBuilder:
    file = folder / "mine.py"
    file.write_text(PLUG_IN.format(table=table, returned=returned))
    return MegaFeatureBuilder(FeatureConfig(plugins=(str(file),), groups=("mine",)))


@pytest.fixture
def store(tmp_path):
    with MarketDataStore(tmp_path / "market.duckdb") as opened:
        yield opened


@pytest.fixture
def option_chain():
    builder = MegaFeatureBuilder(FeatureConfig(plugins=(str(EXAMPLE),), groups=("opt",)))
    return sys.modules[builder.registry.groups[0].compute.__module__], builder


def test_a_file_is_found_beside_the_configuration(tmp_path, monkeypatch):
    (tmp_path / "tft.toml").write_text("")
    monkeypatch.setenv("TFT_CONFIG", str(tmp_path / "tft.toml"))
    monkeypatch.chdir(ROOT)
    plug_in(tmp_path, "dict(date=[], symbol=[], flow=[])")
    builder = MegaFeatureBuilder(FeatureConfig(plugins=("mine.py",)))
    assert builder.feature_names[-1] == "mine_flow" and len(builder.feature_names) == 293


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FeatureError, match=r"found nothing at .*absent\.py"):
        MegaFeatureBuilder(FeatureConfig(plugins=(str(tmp_path / "absent.py"),)))


def test_what_became_available_after_the_as_of_is_not_read(tmp_path, store):
    table = (
        "dict(date=pd.to_datetime(['2024-01-02', '2024-01-03']), symbol='A', flow=[1.0, 2.0],"
        " available_at=pd.to_datetime(['2024-01-02 20:00', '2024-01-05 20:00']))"
    )
    builder = plug_in(tmp_path, table)
    span = date(2024, 1, 1), date(2024, 1, 31)
    assert builder.load_tables(store, *span)["mine"]["flow"].tolist() == [1.0, 2.0]
    early = builder.load_tables(store, *span, date(2024, 1, 4))["mine"]
    assert early["flow"].tolist() == [1.0]


def test_a_table_without_symbols_is_refused(tmp_path, store):
    builder = plug_in(tmp_path, "dict(date=pd.to_datetime(['2024-01-02']), flow=[1.0])")
    with pytest.raises(FeatureError, match="group mine must have a column 'symbol'"):
        builder.load_tables(store, date(2024, 1, 1), date(2024, 1, 31))


def test_a_table_scaled_over_all_its_rows_is_caught(tmp_path, store):
    table = "dict(date=pd.bdate_range('2024-01-01', periods=50), symbol='A', flow=range(50))"
    span = date(2024, 1, 1), date(2024, 3, 29), date(2024, 2, 1)
    honest = plug_in(tmp_path, table)
    assert tables_that_look_ahead(honest, store, *span) == ()
    scaled = plug_in(tmp_path, table, "table.assign(flow=table['flow'] / table['flow'].max())")
    assert tables_that_look_ahead(scaled, store, *span) == ("mine",)


@pytest.fixture(scope="module")
def contracts() -> pd.DataFrame:
    if not BHAVCOPY.is_file():
        pytest.skip("the bhavcopy of 2026-08-11 is not on this machine (../shared/data)")
    return pd.read_parquet(BHAVCOPY)


def test_the_example_reads_the_real_bhavcopy(option_chain, contracts):
    module, _ = option_chain
    table = module.table_of(contracts).set_index("symbol")
    assert len(table) == contracts["symbol"].nunique() == 51
    chain = contracts[contracts["symbol"] == "RELIANCE"]
    interest = chain.groupby("optntp")["opnintrst"].sum()
    found = table.loc["RELIANCE"]
    assert found["put_call_oi"] == pytest.approx(np.log(interest["PE"] / interest["CE"]))
    spot = chain["undrlygpric"].iloc[0]
    near = chain[chain["optntp"].isin(["CE", "PE"]) & (chain["xprydt"] == chain["xprydt"].min())]
    cost = {}
    for settled in near["strkpric"].unique():
        paid = [
            o.opnintrst * max((settled - o.strkpric) * (1 if o.optntp == "CE" else -1), 0)
            for o in near.itertuples()
        ]
        cost[settled] = sum(paid)
    assert found["max_pain"] == pytest.approx(np.log(min(cost, key=cost.get) / spot))
    future = chain[(chain["fininstrmtp"] == "STF") & (chain["xprydt"] == chain["xprydt"].min())]
    yearly = np.log(future["sttlmpric"].iloc[0] / spot) * 365 / 14  # 11 to 25 August
    assert found["basis"] == pytest.approx(yearly)
    options = chain[chain["fininstrmtp"] == "STO"]
    before = options["opnintrst"].sum() - options["chnginopnintrst"].sum()
    assert found["oi_growth"] == pytest.approx(np.log(options["opnintrst"].sum() / before))
    # plausible over all underlyings
    assert table["put_call_oi"].between(-3, 3).all() and table["basis"].abs().median() < 0.2
    assert (table["max_pain"].abs() < 0.2).mean() > 0.9


def test_real_contracts_become_features_of_their_day(
    option_chain, contracts, tmp_path, monkeypatch
):
    module, builder = option_chain
    symbols = ["INFY", "RELIANCE"]
    bars = make_bars(2, 400, seed=3)
    days = pd.bdate_range(end="2026-08-11", periods=400)  # that day is the newest session
    bars["date"] = np.tile(days.to_numpy(), 2)
    bars["symbol"] = np.repeat(symbols, 400)
    table = module.table_of(contracts[contracts["symbol"].isin(symbols)])
    monkeypatch.setenv(module.TABLE_ENV, str(tmp_path / "chain.parquet"))
    table.to_parquet(tmp_path / "chain.parquet")
    with MarketDataStore(tmp_path / "m.duckdb") as store:
        store.ingest(bars)
        built = builder.build(store, start=date(2026, 8, 10))
    by_name = dict(zip(built.feature_names, built.values[-1, 1], strict=True))
    expected = table.set_index("symbol").loc["RELIANCE"]
    assert by_name["opt_put_call_oi"] == pytest.approx(expected["put_call_oi"], rel=1e-6)
    assert by_name["opt_basis"] == pytest.approx(expected["basis"], rel=1e-6)
    close = panel_of(bars).close[:, 1]
    sigma = pd.Series(close).pct_change()[-252:].ewm(span=60).std().iloc[-1]
    assert by_name["opt_max_pain"] == pytest.approx(expected["max_pain"] / sigma, rel=1e-5)
    assert np.isnan(by_name["opt_put_call_oi_z21"]) and np.isnan(built.values[0]).all()
