"""Partition definitions from the fold plan, and mappings from the relations of the graph.

Folds are static: their keys follow from ``tft.toml`` alone, so every machine shows the same.
Sessions are weekdays, or all days where the exchange has sessions on weekends; which of them trade
is the calendar's to say, when a run is asked for.
"""

import warnings
import zoneinfo
from collections import defaultdict
from dataclasses import dataclass
from datetime import date

import dagster as dg

from tft_core.data.calendar import trades_on_weekends
from tft_core.errors import ConfigError, FoldError
from tft_core.folds import WalkForward
from tft_core.schema import LIVE_FOLD
from tft_core.training_pipeline.config import OperationsConfig
from tft_core.training_pipeline.graph import AssetSpec, Relation, keys_of, upstream_keys

with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.BetaWarning)  # of the third argument
    PREVIOUS_SESSION = dg.TimeWindowPartitionMapping(
        start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True
    )
"""Positions are smoothed from yesterday's, so sessions are backfilled in order."""


@dataclass(frozen=True, slots=True)
class LifecyclePartitions:
    """The three ways in which assets are cut into partitions."""

    folds: dg.StaticPartitionsDefinition
    reported: dg.StaticPartitionsDefinition
    sessions: dg.TimeWindowPartitionsDefinition
    first_session: date
    """First day that has a session's partition."""

    @classmethod
    def from_plan(cls, plan: WalkForward, operations: OperationsConfig) -> "LifecyclePartitions":
        first = operations.first_session or plan.folds[0].test_start
        if first is None:
            raise FoldError("the first fold must have a test window, found none")
        try:
            zoneinfo.ZoneInfo(operations.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(
                "operations.timezone must be an IANA time zone such as 'Asia/Kolkata', "
                f"found {operations.timezone!r}"
            ) from error
        return cls(
            folds=dg.StaticPartitionsDefinition(list(plan.keys)),
            reported=dg.StaticPartitionsDefinition(list(plan.reported_keys)),
            # end_offset 1: today's partition exists from midnight on, so also after the close
            sessions=dg.TimeWindowPartitionsDefinition(
                start=first.isoformat(),
                fmt="%Y-%m-%d",
                cron_schedule=f"0 0 * * {session_weekdays(operations, first)}",
                timezone=operations.timezone,
                end_offset=1,
            ),
            first_session=first,
        )

    def of(self, spec: AssetSpec) -> dg.PartitionsDefinition | None:
        """The partitions of an asset; ``None`` where it has none."""
        return {
            "fold": self.folds,
            "reported": self.reported,
            "session": self.sessions,
            "none": None,
        }[spec.partitions]


def session_weekdays(operations: OperationsConfig, first: date) -> str:
    """Days of the week, as cron writes them, on which the exchange has sessions since a day."""
    return "*" if trades_on_weekends(operations.exchange, first) else "1-5"


def mapping_for(
    relation: Relation, upstream: AssetSpec, spec: AssetSpec, plan: WalkForward, retune_every: int
) -> dg.PartitionMapping | None:
    """How partitions of ``spec`` follow from those of ``upstream``; ``None``: Dagster's default.

    Raises:
        FoldError: The relation makes no sense between these two kinds of partitions.
    """
    if "session" in (spec.partitions, upstream.partitions):
        if upstream.partitions in ("none", spec.partitions):
            return None
    elif spec.partitions == "none":
        if relation == "live":
            return dg.SpecificPartitionsPartitionMapping([LIVE_FOLD])
        if relation == "all":
            return dg.AllPartitionMapping()
    elif upstream.partitions != "none":
        if relation == "same" and spec.partitions == upstream.partitions:
            return dg.IdentityPartitionMapping()
        downstream_of: dict[str, set[str]] = defaultdict(set)
        for key in keys_of(spec, plan):
            for upstream_key in upstream_keys(relation, upstream, key, plan, retune_every):
                downstream_of[upstream_key].add(key)
        return dg.StaticPartitionMapping(dict(downstream_of))
    raise FoldError(
        f"{spec.name} ({spec.partitions}) must be made from {upstream.name} "
        f"({upstream.partitions}) by a relation between their partitions, found {relation!r}"
    )
