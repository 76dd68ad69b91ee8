"""What feature rows are made from beside bars makes them stale when it changes."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.tiny import ANCHOR, SECTIONS, load_store, tiny_bars, tiny_settings
from tft_core.data.store import MarketDataStore
from tft_core.training_pipeline import Workspace

FIRST = ANCHOR.isoformat()
FEATURES = ("mega_features", FIRST)
PLUGIN = """
import numpy as np

from tft_core.features.registry import FeatureGroup, definer

define = definer("mine")


def compute(bars):
    return {"mine_move": FACTOR * bars.log_ret}


FACTOR = 1.0
GROUP = FeatureGroup(
    name="mine", title="Mine", axis="own_sessions", compute=compute,
    features=(define("move", "close", 2, "log return", "r_t"),),
)
"""


def opened(home: Path, **features: object) -> Workspace:
    """A workspace whose first feature partition is made and fresh."""
    settings = tiny_settings(home)
    groups = ["ret", *(("exo",) if "series" in features else ()), *features.pop("more", ())]
    sections = {**SECTIONS, "features": {"groups": groups, **features}}
    settings = replace(settings, sections=sections)
    load_store(settings, tiny_bars())
    workspace = Workspace.open(settings)
    workspace.build("market_data", FIRST)
    workspace.build(*FEATURES)
    assert workspace.is_fresh(*FEATURES)
    return workspace


def test_costs_of_an_instrument_that_are_told_later_make_its_features_stale(tmp_path):
    workspace = opened(tmp_path)
    before = workspace.artifacts.read(*FEATURES)
    facts = pd.DataFrame({"symbol": ["S00"], "cost_bps": [50.0]})
    with MarketDataStore(workspace.settings.store_path) as store:
        store.set_instruments(facts)
    assert workspace.is_fresh("market_data", FIRST)  # no bar has changed
    assert not workspace.is_fresh(*FEATURES)
    after = workspace.build(*FEATURES)
    assert after.content_hash != before.content_hash
    market = after.frame("market.parquet").query("symbol == 'S00'")
    assert np.allclose(market["cost_rate"], 50e-4)
    assert workspace.is_fresh(*FEATURES)


def test_instruments_that_no_table_of_costs_knows_are_named(tmp_path):
    workspace = opened(tmp_path)
    with MarketDataStore(workspace.settings.store_path) as store:
        facts = {
            "symbol": ["S00", "S01"],
            "asset_class": ["equity", "meme"],
            "cost_bps": [np.nan] * 2,
        }
        store.set_instruments(pd.DataFrame(facts))
    tables = {"costs": {"bps": {"equity": 3.0}}}
    settings = replace(workspace.settings, sections={**workspace.settings.sections, **tables})
    found = Workspace.open(settings).build(*FEATURES).findings
    named = [f.values["symbols"] for f in found if f.code == "costs_are_named.default"]
    assert len(named) == 1
    assert "S01" in named[0]
    assert "S00" not in named[0]
    # without a table the default is what was asked for
    codes = [f.code for f in workspace.build(*FEATURES).findings]
    assert "costs_are_named.default" not in codes


def test_an_exchange_that_is_told_later_makes_the_bars_off_its_calendar_known(tmp_path):
    workspace = opened(tmp_path)
    with MarketDataStore(workspace.settings.store_path) as store:
        store.set_instruments(pd.DataFrame({"symbol": ["S00"], "exchange": ["XNYS"]}))
    assert not workspace.is_fresh(*FEATURES)


def test_what_features_do_not_read_leaves_them_fresh(tmp_path):
    workspace = opened(tmp_path)
    facts = pd.DataFrame({"symbol": ["S00", "NEW"], "description": ["one", "another"]})
    value = pd.DataFrame({"name": ["vix"], "date": ["2017-01-03"], "value": [12.0]})
    with MarketDataStore(workspace.settings.store_path) as store:
        store.set_instruments(facts)
        store.ingest_series(value)
    assert workspace.is_fresh(*FEATURES)


def test_a_series_that_is_loaded_later_makes_features_stale_up_to_where_it_is_known(tmp_path):
    workspace = opened(tmp_path, series=["vix"])
    days = pd.bdate_range("2015-01-01", "2018-06-29")
    value = 15.0 + np.random.default_rng(0).standard_normal(len(days)).cumsum() * 0.1
    vix = pd.DataFrame({"name": "vix", "date": days, "value": value})
    with MarketDataStore(workspace.settings.store_path) as store:
        store.ingest_series(vix)
    assert workspace.is_fresh("market_data", FIRST)
    assert not workspace.is_fresh(*FEATURES)
    made = workspace.build(*FEATURES).frame("features.parquet")
    assert made["exo_1_z21"].notna().any()

    revised = vix[vix["date"] == "2016-06-01"].assign(value=99.0, available_at="2018-03-01")
    with MarketDataStore(workspace.settings.store_path) as store:
        store.ingest_series(revised)
    assert workspace.is_fresh(*FEATURES)  # known only after the partition's last day
    known = revised.assign(available_at=str(date(2017, 3, 1)))
    with MarketDataStore(workspace.settings.store_path) as store:
        store.ingest_series(known)
    assert not workspace.is_fresh(*FEATURES)


@pytest.mark.parametrize("change", ["FACTOR = 20.0", "FACTOR = 1.0  # as it was"])
def test_another_text_of_a_plug_in_makes_its_features_stale(tmp_path, change):
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    workspace = opened(tmp_path / "home", plugins=[str(plugin)], more=("mine",))
    before = workspace.artifacts.read(*FEATURES)
    plugin.write_text(PLUGIN.replace("FACTOR = 1.0", change))
    assert not workspace.is_fresh(*FEATURES)
    after = workspace.build(*FEATURES)
    # made anew to the same numbers, nothing downstream becomes stale
    assert (after.content_hash == before.content_hash) == ("as it was" in change)
