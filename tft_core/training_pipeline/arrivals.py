"""What has arrived in the market store since the live fold was made: sessions and restatements."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from tft_core.data.moments import utc_naive
from tft_core.data.store import MarketDataStore
from tft_core.schema import LIVE_FOLD
from tft_core.training_pipeline.bars import market_rows

if TYPE_CHECKING:
    from tft_core.training_pipeline.workspace import Workspace

VERSION_DIGITS = 16
"""Of the content hash of a partition's bars; the summary of ``market_data`` shows as many."""
_CHAIN = (("market_data", "mega_features"), ("mega_features", "production_fold"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """The store as it is, beside what the live fold was made from."""

    versions: dict[str, str]
    """Version of the bars of each fold's partition that ``market_data`` was made for before."""
    ingestion: int
    """Number of the newest ingestion; it only ever grows."""
    newest: date
    """Day of the newest bar."""
    trained_through: date | None
    """Newest bar that the live model was made from; ``None`` if there is no model."""
    sessions: int = 0
    """Sessions after it."""
    restated: int = 0
    """Bars restated since it was made, as far as the store tells them from new ones."""
    is_stale: bool = False
    """Whether the live model was made from other bars than a refit would read now."""

    @property
    def version(self) -> str:
        """Of the bars that a refit of the live fold would read."""
        return self.versions[LIVE_FOLD]

    @property
    def sentence(self) -> str:
        """The figures, for people."""
        if self.trained_through is None:
            return "There is no live model yet; materialize production_checkpoint."
        if not self.is_stale:
            return f"The live fold was made from the newest bars ({self.newest})."
        return (
            f"The live fold is stale: {self.sessions} new sessions up to {self.newest} and "
            f"{self.restated} restated bars since it was made from bars up to "
            f"{self.trained_through}."
        )


def arrivals(workspace: "Workspace") -> Arrivals:
    """Read the store and say what is new. Opens it; ``arrivals_stamp`` says whether that is due.

    Raises:
        StoreLockedError: The store is being written.
        DataError: There is no store, or it does not reach the live fold.
    """
    made = {key: workspace.artifacts.current("market_data", key) for key in workspace.plan.keys}
    model = workspace.artifacts.current("production_fold", LIVE_FOLD)
    with workspace.store() as store:
        versions = {}
        for key in workspace.plan.keys:
            if made[key] is not None or key == LIVE_FOLD:
                rows = market_rows(workspace, store, key)
                versions[key] = rows["data_hash"][:VERSION_DIGITS]
        newest = store.last_session(workspace.universe(store.symbols()).symbols)
        ingestion, _ = _ingested(store, None)
        if model is None:
            return Arrivals(
                versions=versions, ingestion=ingestion, newest=newest, trained_through=None
            )
        through = date.fromisoformat(model.summary["trained_through"])
        bars = made[LIVE_FOLD]
        rests_on_current = bars is not None and all(
            _is_made_from(workspace, upstream, downstream) for upstream, downstream in _CHAIN
        )
        # bars that arrived while the fold was trained are new to it
        since = bars.created_at if bars is not None and rests_on_current else model.created_at
        _, restated = _ingested(store, datetime.fromisoformat(since))
        later = store.session_dates(
            workspace.universe(store.symbols()).symbols, through + timedelta(days=1), newest
        )
    is_same = bars is not None and bars.summary["data_hash"] == versions[LIVE_FOLD]
    return Arrivals(
        versions=versions,
        ingestion=ingestion,
        newest=newest,
        trained_through=through,
        sessions=len(later),
        restated=restated,
        is_stale=not (rests_on_current and is_same),
    )


def arrivals_stamp(workspace: "Workspace") -> str:
    """Changes whenever ``arrivals`` could: the files of the store, the live fold's artifacts.

    The store is not opened. Empty where there is none.
    """
    store = workspace.settings.store_path
    if not store.exists():
        return ""
    files = (store, store.with_name(f"{store.name}.wal"))
    stats = [path.stat() if path.exists() else None for path in files]
    parts = ["-" if s is None else f"{s.st_mtime_ns}:{s.st_size}" for s in stats]
    for asset in ("market_data", "mega_features", "production_fold"):
        parts.append(workspace.artifacts.current_version(asset, LIVE_FOLD) or "-")
    return " ".join(parts)


def _is_made_from(workspace: "Workspace", upstream: str, downstream: str) -> bool:
    above = workspace.artifacts.current(upstream, LIVE_FOLD)
    below = workspace.artifacts.current(downstream, LIVE_FOLD)
    if above is None or below is None:
        return False
    return below.made_from.get(above.name) == above.content_hash


def _ingested(store: MarketDataStore, since: datetime | None) -> tuple[int, int]:
    """Number of the newest ingestion of bars, and how many bars were restated since a moment."""
    log = store.sql(
        "SELECT coalesce(max(ingestion_id), 0) AS newest, "
        "coalesce(sum(restated) FILTER (ingested_at > ?), 0) AS restated "
        "FROM ingestions WHERE kind = 'bars'",
        [datetime.max if since is None else utc_naive(since)],
    )
    return int(log["newest"].iloc[0]), int(log["restated"].iloc[0])
