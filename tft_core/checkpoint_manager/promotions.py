"""Which version was in production on which session: an append-only, self-checking record.

One ``promotions.json`` per model type. Every event names the version, the exact manifest that
was promoted, from which session on it serves, why, and on what verdict. Events are only added,
and their effective dates never go back, so that what served a past session can't be rewritten.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from tft_core.checkpoint_manager import fields
from tft_core.checkpoint_manager.atomic import (
    MAX_JSON_BYTES,
    StrictJsonError,
    dump_json,
    load_json,
    replace_file,
)
from tft_core.checkpoint_manager.fields import Refused
from tft_core.checkpoint_manager.layout import VERSION_DIR
from tft_core.checkpoint_manager.manifest import mode_of, read_regular
from tft_core.checkpoint_manager.metadata import CheckpointMetadata
from tft_core.errors import CheckpointError
from tft_core.schema import content_hash, utc_stamp

PROMOTIONS = "promotions.json"
_RECORD_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionEvent:
    """One change of the production version."""

    action: Literal["promote", "rollback"]
    version: int
    """The version in production from now on."""
    directory: str
    """Name of its directory."""
    manifest_hash: str
    """The manifest's own hash when it was promoted: exactly these files, none like them."""
    effective: str
    """ISO date of the first session it serves."""
    recorded_at: str
    reason: str
    gate: dict[str, Any] | None
    """The verdict relied on; ``None`` where a person overrode it or an older version returned."""
    overridden: bool
    """True where a person promoted it without a passed verdict."""

    @property
    def effective_date(self) -> date:
        """``effective`` as a date."""
        return date.fromisoformat(self.effective)


def read_events(folder: Path) -> list[PromotionEvent]:
    """All events of a model type, oldest first; [] before the first promotion.

    Raises:
        CheckpointError: The record is damaged. Nothing is in production then.
    """
    path = folder / PROMOTIONS
    if mode_of(path) is None:
        return []
    data = read_regular(path, MAX_JSON_BYTES)
    try:
        table = load_json(data)
        rows = table["events"]
        events = [PromotionEvent(**row) for row in rows]
        _check_history(events)
        intact = table["record_version"] == _RECORD_VERSION and table["sha256"] == content_hash(
            rows
        )
    except (StrictJsonError, KeyError, TypeError, ValueError, Refused) as error:
        raise CheckpointError(
            f"{path} must be the promotion record, found it damaged ({error}); restore it from "
            "a backup, or remove it and promote a version anew"
        ) from error
    if not intact:
        raise CheckpointError(
            f"{path} must match its own SHA-256, found it damaged; restore it from a backup, "
            "or remove it and promote a version anew"
        )
    return events


def _check_history(events: Sequence[PromotionEvent]) -> None:
    in_production: list[PromotionEvent] = []
    earlier = ""
    for event in events:
        _check_event(event)
        if event.effective < earlier:
            raise ValueError(f"effective {event.effective} after {earlier}")
        earlier = event.effective
        if event.action == "promote":
            in_production.append(event)
        elif event.action == "rollback" and len(in_production) >= 2:
            in_production.pop()
            back = in_production[-1]
            if (back.version, back.manifest_hash) != (event.version, event.manifest_hash):
                raise ValueError(f"rollback to {event.version}, found {back.version} before it")
        else:
            raise ValueError(f"action {event.action!r} out of order")


def _check_event(event: PromotionEvent) -> None:
    """Types of a record that may have been written by somebody else."""
    named = VERSION_DIR.fullmatch(event.directory)
    if not named or int(named[1]) != fields.whole(1, fields.MAX_VERSION)(event.version):
        raise ValueError(f"directory {event.directory[:80]!r} of version {event.version}")
    for name in ("manifest_hash", "reason"):
        fields.text(getattr(event, name))
    fields.iso_date(event.effective)
    fields.instant(event.recorded_at)
    fields.optional_table(event.gate)
    if not isinstance(event.overridden, bool):
        raise TypeError(f"overridden {event.overridden!r}")


def write_events(folder: Path, events: Sequence[PromotionEvent]) -> None:
    """Replace the record atomically; call it with the registry's lock held.

    Raises:
        CheckpointError: The record has become larger than a reader would take.
    """
    rows = [asdict(event) for event in events]
    table = {"record_version": _RECORD_VERSION, "events": rows, "sha256": content_hash(rows)}
    document = dump_json(table)
    if len(document) > MAX_JSON_BYTES:
        raise CheckpointError(
            f"the promotion record must be at most {MAX_JSON_BYTES} bytes, found {len(document)}; "
            f"archive {folder / PROMOTIONS} and begin a new one"
        )
    replace_file(folder / PROMOTIONS, document)


def event_on(events: Sequence[PromotionEvent], session: date) -> PromotionEvent | None:
    """The event that decides which version serves a session; ``None`` before the first."""
    past = [event for event in events if event.effective_date <= session]
    return past[-1] if past else None


def promoted_stack(events: Sequence[PromotionEvent]) -> list[PromotionEvent]:
    """Promotions not rolled back, oldest first; the last one is in production."""
    return _replayed(events)[0]


def rolled_back(events: Sequence[PromotionEvent]) -> dict[int, PromotionEvent]:
    """Versions taken out of production and not promoted again since → the rollback."""
    return _replayed(events)[1]


def _replayed(
    events: Sequence[PromotionEvent],
) -> tuple[list[PromotionEvent], dict[int, PromotionEvent]]:
    stack: list[PromotionEvent] = []
    withdrawn: dict[int, PromotionEvent] = {}
    for event in events:
        if event.action == "promote":
            stack.append(event)
            withdrawn.pop(event.version, None)
        else:
            withdrawn[stack.pop().version] = event
    return stack, withdrawn


def promotion(
    directory: str,
    manifest_hash: str,
    metadata: CheckpointMetadata,
    events: Sequence[PromotionEvent],
    *,
    reason: str,
    effective: date | str | None,
    gate: Mapping[str, Any] | None,
    override: bool,
) -> PromotionEvent | None:
    """The event that puts a version into production; ``None`` where it is there already.

    Args:
        directory: Name of the version's directory.
        manifest_hash: Its manifest's own hash.
        metadata: Its metadata.
        events: What was recorded before.
        reason: As in ``CheckpointManager.promote``, like the others.

    Raises:
        CheckpointError: It was rolled back, has not passed the gate, or has trained on sessions
            after ``effective``.
    """
    in_production, withdrawn = _replayed(events)
    if in_production and in_production[-1].manifest_hash == manifest_hash:
        return None
    rollback = withdrawn.get(metadata.version)
    if rollback is not None and not override:
        raise CheckpointError(
            f"v{metadata.version} must not have been rolled back, found it rolled back "
            f"at {rollback.recorded_at} ({rollback.reason}); promote it with "
            "override=True if that is settled"
        )
    verdict = _passed_gate(
        gate if gate is not None else metadata.gate,
        status="candidate" if gate is not None else metadata.status,
        override=override,
        name=directory,
    )
    return PromotionEvent(
        action="promote",
        version=metadata.version,
        directory=directory,
        manifest_hash=manifest_hash,
        effective=effective_date(effective, date.fromisoformat(metadata.trained_through), events),
        recorded_at=utc_stamp(),
        reason=reason,
        gate=fields.plain_json(verdict, "gate"),
        overridden=verdict is None or verdict.get("passed") is not True,
    )


def effective_date(
    asked: date | str | None, trained_through: date, events: Sequence[PromotionEvent]
) -> str:
    """ISO date of the first session that a change made now applies to.

    Args:
        asked: The caller's wish; ``None`` is today (UTC), or the training data's end if that is
            later. Never before the last change's effective date: what served a past session is
            not rewritten.

    Raises:
        CheckpointError: The wish is no date, or would put the model on sessions before the
            newest one it has seen.
    """
    last = events[-1].effective_date if events else date.min
    if asked is None:
        return max(datetime.now(UTC).date(), trained_through, last).isoformat()
    try:
        wish = asked if isinstance(asked, date) else date.fromisoformat(asked)
    except ValueError as error:
        raise CheckpointError(
            f"effective must be an ISO date, found {asked!r}; write it as 2024-01-31"
        ) from error
    if wish < trained_through:
        raise CheckpointError(
            f"effective must not lie before {trained_through}, the newest session the weights "
            f"have seen, found {wish}; a backfill uses the model of that session's fold"
        )
    return max(wish, last).isoformat()


def _passed_gate(
    gate: Mapping[str, Any] | None, *, status: str, override: bool, name: str
) -> dict[str, Any] | None:
    """The verdict a promotion relies on.

    Raises:
        CheckpointError: There is none, or it is not passed, and nobody overrode it.
    """
    verdict = None if gate is None else dict(gate)
    if verdict is not None and verdict.get("passed") is True and status != "refused":
        return verdict
    if override:
        return verdict
    found = "no verdict" if verdict is None else f"passed={verdict.get('passed')!r}"
    found += ", status 'refused'" if status == "refused" else ""
    raise CheckpointError(
        f"{name} must have passed the promotion gate, found {found}; run production_checkpoint, "
        "pass gate=, or promote it with override=True and a reason"
    )
