"""Which bars of the market store a partition stands on: their days and their content hash."""

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from tft_core.data.store import MarketDataStore
from tft_core.errors import DataError
from tft_core.training_pipeline.config import StoreConfig

if TYPE_CHECKING:
    from tft_core.training_pipeline.workspace import Workspace


def feature_days(workspace: "Workspace", store: MarketDataStore, key: str) -> tuple[date, date]:
    """First and last day of the feature rows of a partition, as far as the store reaches.

    Raises:
        DataError: The store does not reach the partition.
    """
    start, end = workspace.plan.feature_span(key)
    limits = workspace.settings.build(StoreConfig, "store")
    first = (limits.start or store.first_session()) if start is None else start
    last = (limits.end or store.last_session()) if end is None else end - timedelta(days=1)
    if last < first:
        raise DataError(
            f"the store must reach {first} for partition {key}, found its newest bar on {last}; "
            "ingest newer data, or lower folds.n_windows (`tft doctor` says to what)"
        )
    return first, last


def market_rows(workspace: "Workspace", store: MarketDataStore, key: str) -> dict[str, Any]:
    """Content hash and span of the bars on a partition's rows, as known on its last day."""
    symbols = workspace.universe(store.symbols()).symbols
    first, last = feature_days(workspace, store, key)
    return {
        "data_hash": store.data_hash(symbols, first, last, as_of=last),
        "first": first.isoformat(),
        "last": last.isoformat(),
    }
