"""New bars as Dagster sees them: versions of the market store, and whether to ask for a refit."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from tft_core.training_pipeline.arrivals import Arrivals
from tft_core.training_pipeline.config import OperationsConfig

MARKET_STORE = "market_store"


@dataclass(frozen=True, slots=True)
class Watch:
    """What the sensor remembers from tick to tick: its cursor."""

    stamp: str = ""
    """Of the files, when they were last looked into."""
    said: str = ""
    """What was found then."""
    requested: str = ""
    """Version of the bars for which a refit was last asked for."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the store that were observed last, by fold."""

    @classmethod
    def from_text(cls, text: str | None) -> "Watch":
        return cls(**json.loads(text)) if text else cls()

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    def after(self, stamp: str, found: Arrivals, *, asked: bool) -> "Watch":
        return replace(
            self,
            stamp=stamp,
            said=found.sentence,
            requested=found.version if asked else self.requested,
            versions=found.versions,
        )


def wants_refit(found: Arrivals, operations: OperationsConfig, requested: str) -> bool:
    """Whether enough has arrived, and no refit was asked for on these very bars before."""
    if not found.is_stale or found.version == requested:
        return False
    return any(
        limit is not None and count >= limit
        for count, limit in (
            (found.sessions, operations.refit_after_sessions),
            (found.restated, operations.refit_after_restated),
        )
    )


def observed(key: str, version: str) -> dg.AssetObservation:
    """What the store holds for a fold's partition, as an event of Dagster."""
    return dg.AssetObservation(MARKET_STORE, partition=key, tags={DATA_VERSION_TAG: version})
