"""What a real store holds beyond what the live fold was made from."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from tft_core.config import Settings
from tft_core.data.store import MarketDataStore
from tft_core.schema import LIVE_FOLD
from tft_core.training_pipeline import Workspace
from tft_core.training_pipeline.arrivals import Arrivals

FOLDS = {"anchor": date(2024, 1, 1), "test_length": "6M", "n_windows": 2}
SYMBOLS = ("EURUSD", "USDJPY")


def bars(first: str, last: str, *, close: float = 1.0) -> pd.DataFrame:
    days = pd.bdate_range(first, last)
    return pd.concat(
        [
            pd.DataFrame({"date": days, "symbol": s, "close": close + 0.001 * days.dayofyear})
            for s in SYMBOLS
        ]
    )


class Lifecycle:
    """A store, and a live fold whose later steps are stood in for by what they were made from."""

    def __init__(self, home: Path) -> None:
        self.workspace = Workspace.open(
            Settings(path=None, profile="test", home=home, sections={"folds": FOLDS})
        )
        self.ingest(bars("2023-06-01", "2024-08-30"))

    def ingest(self, frame: pd.DataFrame) -> None:
        with MarketDataStore(self.workspace.settings.store_path) as store:
            store.ingest(frame)

    def make(self, asset: str, upstream: str, trained_through: str = "") -> None:
        made = self.workspace.artifacts.read(upstream, LIVE_FOLD)
        with self.workspace.artifacts.draft(asset, LIVE_FOLD, "code") as draft:
            draft.made_from[made.name] = made.content_hash
            draft.write_json("made_from.json", draft.made_from)
            draft.summary["trained_through"] = trained_through

    def refit(self, trained_through: str) -> None:
        self.workspace.build("market_data", LIVE_FOLD)
        self.make("mega_features", "market_data")
        self.make("production_fold", "mega_features", trained_through)

    def look(self) -> Arrivals:
        return self.workspace.arrivals()


@pytest.fixture
def lifecycle(tmp_path: Path) -> Lifecycle:
    return Lifecycle(tmp_path)


def test_before_the_first_model_there_is_nothing_to_refit(lifecycle: Lifecycle) -> None:
    found = lifecycle.look()
    assert (found.trained_through, found.is_stale) == (None, False)
    assert found.newest == date(2024, 8, 30)


def test_a_fold_made_from_the_newest_bars_is_not_stale(lifecycle: Lifecycle) -> None:
    lifecycle.refit("2024-08-30")
    found = lifecycle.look()
    assert (found.is_stale, found.sessions, found.restated) == (False, 0, 0)
    lifecycle.ingest(bars("2023-06-01", "2024-08-30"))  # the same file again
    again = lifecycle.look()
    assert not again.is_stale
    assert again.version == found.version and again.ingestion == found.ingestion + 1


def test_new_sessions_are_counted_from_the_models_newest_bar(lifecycle: Lifecycle) -> None:
    lifecycle.refit("2024-08-30")
    lifecycle.ingest(bars("2024-09-02", "2024-09-04"))
    found = lifecycle.look()
    assert (found.is_stale, found.sessions, found.restated) == (True, 3, 0)
    assert found.newest == date(2024, 9, 4)


def test_data_that_was_read_again_without_a_new_model_still_counts(lifecycle: Lifecycle) -> None:
    lifecycle.refit("2024-08-30")
    lifecycle.ingest(bars("2024-09-02", "2024-09-02"))
    lifecycle.workspace.build("market_data", LIVE_FOLD)  # as of a refit that failed later
    found = lifecycle.look()
    assert (found.is_stale, found.sessions) == (True, 1)


def test_a_late_revision_is_counted_and_seen_once_it_is_known(lifecycle: Lifecycle) -> None:
    lifecycle.refit("2024-08-30")
    lifecycle.ingest(bars("2024-08-29", "2024-08-29", close=1.1))
    revised = lifecycle.look()
    # known from now on: rows up to the newest bar, built as of then, do not see it yet
    assert (revised.is_stale, revised.restated) == (False, len(SYMBOLS))
    lifecycle.ingest(bars("2024-09-02", "2024-09-02"))
    found = lifecycle.look()
    assert (found.is_stale, found.sessions, found.restated) == (True, 1, len(SYMBOLS))


def test_the_stamp_changes_with_the_store_and_the_model_and_with_nothing_else(
    lifecycle: Lifecycle,
) -> None:
    workspace = lifecycle.workspace
    stamps = [workspace.arrivals_stamp()]
    lifecycle.refit("2024-08-30")
    stamps.append(workspace.arrivals_stamp())
    lifecycle.ingest(bars("2024-09-02", "2024-09-02"))
    stamps.append(workspace.arrivals_stamp())
    lifecycle.make("production_fold", "mega_features", "2024-09-02")
    stamps.append(workspace.arrivals_stamp())
    assert len(set(stamps)) == len(stamps)
    lifecycle.look()
    assert workspace.arrivals_stamp() == stamps[-1]


def test_without_a_store_the_stamp_is_empty(tmp_path: Path) -> None:
    settings = Settings(path=None, profile="test", home=tmp_path, sections={"folds": FOLDS})
    assert Workspace.open(settings).arrivals_stamp() == ""
