"""Settings that belong to the lifecycle as a whole rather than to one class of it."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsConfig:
    """When and where the nightly work runs."""

    timezone: str = "UTC"
    """Zone of the market whose close the nightly job follows."""
    exchange: str = "24/5"
    """Calendar of the decision sessions: an exchange_calendars code, or ``24/5``."""
    first_session: date | None = None
    """First session that can be backfilled; default the first test day."""
    nightly_hour: int = 23
    """Hour of the nightly run in ``timezone``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPipelineConfig:
    """Which phases run, and on what: the plan's toggles over one ``tft.toml``."""

    skip_tuning: bool = False
    """Ship the default hyper-parameters; no study is made or read."""
    skip_feature_selection: bool = False
    """Train on the pre-filtered features; no exploration pass."""
    start: date | None = None
    """First day of history to use; default the store's."""
    end: date | None = None
    """Newest day to use; default the store's."""
    symbols: tuple[str, ...] = ()
    """Subset of the universe to train; default all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Which part of the store's history the lifecycle uses."""

    start: date | None = None
    """First day of history; default the store's first bar."""
    end: date | None = None
    """Newest day; default the store's newest bar."""
