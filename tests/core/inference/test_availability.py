"""An asset whose bars or whose place in the model are missing gets a code, never a position."""

from dataclasses import replace
from datetime import date, timedelta

import pandas as pd
import pytest
from served_support import SERVING, SYMBOLS, bars

from tft_core.checkpoint_manager import CheckpointManager
from tft_core.data.store import MarketDataStore
from tft_core.inference import Refusal, TFTInferencePipeline
from tft_core.strategy_adapter import positions_after, signals_from

HELD = dict.fromkeys(SYMBOLS, 0.1)
GONE = "S02"


def store_of(frame: pd.DataFrame, tmp_path) -> MarketDataStore:
    with MarketDataStore(tmp_path / "market.duckdb") as store:
        store.ingest(frame)
    return MarketDataStore(tmp_path / "market.duckdb", read_only=True)


def lacking(n_sessions: int) -> pd.DataFrame:
    """The bars without the newest ``n_sessions`` of one asset."""
    whole = bars()
    newest = sorted(whole["date"].unique())[-n_sessions:]
    return whole[(whole["symbol"] != GONE) | ~whole["date"].isin(newest)]


@pytest.mark.parametrize(
    ("n_missing", "code", "detail"),
    [
        (1, "no_session", "last bar 20"),
        (3, "no_session", "last bar 20"),
        (4, "stale_data", "last bar 20"),
    ],
)
def test_an_asset_without_its_newest_bars_keeps_what_it_holds_and_gets_no_position(
    model, served, tmp_path, n_missing, code, detail
):
    with store_of(lacking(n_missing), tmp_path) as store:
        result = model.predict(served.sessions[-1], store, previous=HELD)
    assert result.status == {**dict.fromkeys(SYMBOLS, "ok"), GONE: code}
    for answer in (result.positions, result.confidences, result.raw_output):
        assert set(answer) == set(SYMBOLS) - {GONE}
    assert result.metadata["held"][GONE] == 0.1
    assert f"{GONE}: {code} ({detail}" in result.why_no_trade()
    assert GONE not in {signal.symbol for signal in signals_from(result, HELD)}
    assert positions_after(result, HELD)[GONE] == 0.1


def test_an_asset_without_any_bar_in_the_window_is_stale_and_must_not_be_held(
    model, served, tmp_path
):
    flat = {symbol: 0.1 for symbol in SYMBOLS if symbol != GONE}
    with store_of(lacking(100), tmp_path) as store:
        result = model.predict(served.sessions[-1], store, previous=flat)
        with pytest.raises(Refusal, match=rf"^exposure_limit: .*found none of {GONE} \(0.1\)"):
            model.predict(served.sessions[-1], store, previous=HELD)
    assert result.status[GONE] == "stale_data"
    assert f"{GONE}: stale_data (no bar in the model's window" in result.why_no_trade()
    assert GONE not in result.positions


def changed(served, **fields) -> TFTInferencePipeline:
    manager = CheckpointManager(served.checkpoint.parent.parent)
    state, metadata = manager.load(served.checkpoint)
    path = manager.save(state, metadata.replace(version=0, **fields))
    return TFTInferencePipeline.from_checkpoint(path, serving=SERVING)


def with_members(served, members: list[dict]) -> TFTInferencePipeline:
    features = {"groups": ["ret", "paper", "vol", "xs"]}
    config = {"members": members, "min_present": 0.8}
    return changed(served, universe={"config": config, "features": features})


def test_a_member_that_the_model_was_not_trained_with_is_unknown_to_it(served, tmp_path):
    stranger = bars().query("symbol == 'S04'").assign(symbol="NEW")
    model = with_members(served, [{"symbols": [*SYMBOLS, "NEW"]}])
    with store_of(pd.concat([bars(), stranger]), tmp_path) as store:
        result = model.predict(served.sessions[-1], store, previous={**HELD, "NEW": 0.1})
    assert result.status["NEW"] == "unknown_asset"
    assert "NEW" not in result.positions
    assert result.metadata["held"]["NEW"] == 0.0  # nobody will ever say more of it: closed
    closing = [s for s in signals_from(result, {**HELD, "NEW": 0.1}) if s.symbol == "NEW"]
    assert [s.direction for s in closing] == ["flat"]


def test_a_member_that_has_left_the_universe_is_closed(served, tmp_path):
    left = served.sessions[-3]
    stay = [symbol for symbol in SYMBOLS if symbol != GONE]
    model = with_members(
        served, [{"symbols": stay}, {"symbols": [GONE], "until": left.isoformat()}]
    )
    with store_of(bars(), tmp_path) as store:
        before, after = model.predict_batch(
            [served.sessions[-3], served.sessions[-2]], store, previous=HELD
        )
    assert (before.status[GONE], after.status[GONE]) == ("ok", "not_in_universe")
    assert (GONE in before.positions, GONE in after.positions) == (True, False)
    assert after.metadata["held"][GONE] == 0.0


def test_a_bar_that_comes_late_ends_the_wait(model, served, tmp_path):
    """The same store, first without the bar and then with it; the pipeline stays open."""
    day = served.sessions[-1]
    path = tmp_path / "market.duckdb"
    with MarketDataStore(path) as store:
        store.ingest(lacking(1))
        waiting = model.predict(day, store, previous=HELD)
        late = bars()
        missing = late[(late["symbol"] == GONE) & (late["date"] == pd.Timestamp(day))]
        store.ingest(missing.assign(available_at=f"{day} 22:00"))
        answered = model.predict(day, store, previous=HELD)
        whole = TFTInferencePipeline.from_checkpoint(served.checkpoint, serving=SERVING)
        expected = whole.predict(day, store, previous=HELD)
    assert (waiting.status[GONE], answered.status[GONE]) == ("no_session", "ok")
    assert answered.positions == pytest.approx(expected.positions, abs=1e-6)


def test_limits_are_counted_in_sessions_not_in_days(model, served, tmp_path):
    model.serving = replace(SERVING, max_bar_age_sessions=1)
    with store_of(lacking(1), tmp_path) as store:
        result = model.predict(served.sessions[-1], store)
    last = date.fromisoformat(result.metadata["reasons"][GONE].removeprefix("last bar "))
    assert served.sessions[-1] - last >= timedelta(days=1)
    assert result.status[GONE] == "no_session"
