"""Settings that belong to the lifecycle as a whole rather than to one class of it."""

from dataclasses import dataclass
from datetime import date

from tft_core.errors import ConfigError
from tft_core.limits import require_at_least


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
    publish_within_hours: int = 6
    """From the nightly run on; a session that is not published by then is an alarm."""
    refit_after_sessions: int | None = None
    """The sensor ``new_data`` starts a refit once the store holds so many sessions more than
    the live fold was made from; ``None`` never does, it only says so."""
    refit_after_restated: int | None = None
    """Likewise for bars that were restated since."""

    def __post_init__(self) -> None:
        if not 0 <= self.nightly_hour <= 23:
            raise ConfigError(
                f"operations.nightly_hour must lie in 0 … 23, found {self.nightly_hour}"
            )
        require_at_least(
            self,
            "operations",
            publish_within_hours=1,
            refit_after_sessions=1,
            refit_after_restated=1,
        )


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
