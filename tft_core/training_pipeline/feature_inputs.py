"""What feature rows are made from beside bars: facts of instruments, series, users' tables, code.

None of it is a bar, so the version of a partition's bars does not follow it. A partition of
``mega_features`` keeps this hash, and is stale once it differs.
"""

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tft_core.data.store import MarketDataStore
from tft_core.schema import array_hash, content_hash
from tft_core.training_pipeline.bars import feature_days

if TYPE_CHECKING:
    from tft_core.training_pipeline.workspace import Workspace

FACTS = ("asset_class", "cost_bps", "cost_vol")
"""Facts of an instrument that a partition holds: its class, and what trading it costs."""
EARLIEST = date(1900, 1, 1)
"""Series are read further back than the first bar."""


def feature_inputs(workspace: "Workspace", store: MarketDataStore, key: str) -> str:
    """Content hash of all but bars that the feature rows of a partition are made from.

    As of:
        The partition's last day. Features look back beyond its first, so all that was known by
        then counts. Facts have no date: those of today.

    Raises:
        DataError: The store does not reach the partition.
    """
    builder = workspace.builder()
    symbols = workspace.universe(store.symbols()).symbols
    _, last = feature_days(workspace, store, key)
    series = builder.load_series(store, EARLIEST, last, last)
    tables = builder.load_tables(store, store.first_session(symbols), last, last)
    return content_hash(
        {
            "catalogue": builder.catalogue_hash(),
            "plugins": builder.plugin_hashes(),
            "facts": table_hash(store.instruments().reindex(list(symbols))[list(FACTS)]),
            "series": None if series is None else table_hash(series),
            "tables": {name: table_hash(table) for name, table in tables.items()},
        }
    )


def table_hash(table: pd.DataFrame) -> str:
    """Content hash of a table's rows in their order, index and names of columns included."""
    rows = pd.util.hash_pandas_object(table).to_numpy(dtype=np.uint64)
    return content_hash([[str(name) for name in table.columns], array_hash(rows)])
