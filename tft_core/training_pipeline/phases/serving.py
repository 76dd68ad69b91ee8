"""Phases ``inference`` and ``strategy_signals``: one decision session, to positions and signals."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from tft_core.checks import Finding
from tft_core.data.calendar import session_mask
from tft_core.data.store import MarketDataStore
from tft_core.errors import InferenceError, first_few
from tft_core.inference import OK, InferenceResult, ServingConfig, TFTInferencePipeline
from tft_core.inference.guards import refuse_if_killed
from tft_core.reports.plots import positions_png
from tft_core.schema import MODEL_TYPE
from tft_core.strategy.ledger import Ledger
from tft_core.strategy_adapter import STRATEGY_ID, positions_after, signals_from
from tft_core.training_pipeline.artifacts import Artifact, Draft
from tft_core.training_pipeline.config import OperationsConfig
from tft_core.training_pipeline.nightly import (
    LIVE_CAUSES,
    NIGHTLY_CAUSE,
    refuse_out_of_order,
)
from tft_core.training_pipeline.phases.checkpoint import shipped_path
from tft_core.training_pipeline.phases.production import candidate
from tft_core.training_pipeline.workspace import Progress, Workspace

CLOSED = "closed.json"
"""In place of a result, where no asset traded on the day."""
CLOSED_NOTE = "no asset has a bar of this day: passed over, nothing was published"


def inference(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """Positions of one session, by the model that was promoted then, else by its fold's.

    A day without any bar, while later ones have some, was no session: a holiday. It is passed over,
    so that a backfill goes on behind it.
    """
    session = date.fromisoformat(key)
    if was_closed(workspace, session):
        draft.write_json(CLOSED, {"session": key})
        draft.summary.update(session=key, note=CLOSED_NOTE)
        return
    directory, is_promoted = model_of_session(workspace, session)
    pipeline = TFTInferencePipeline.from_checkpoint(
        directory,
        serving=workspace.settings.build(ServingConfig, "serving"),
        home=workspace.settings.home,
    )
    with workspace.store() as store:
        before = session_before(workspace, store, session, is_promoted)
        if is_promoted:
            refuse_out_of_order(workspace, session, before)
        previous = previous_held(workspace, before, pipeline.metadata.fold, is_promoted)
        result = pipeline.predict(session, store, previous=previous)
    frame = result_frame(result)
    draft.write_frame("table_positions.parquet", frame)
    draft.write_json("result.json", _stable(result))
    positions = pd.Series(result.positions, dtype=float).sort_values()
    if len(positions):
        draft.write_bytes("positions.png", positions_png(positions))
    unavailable = {s: r for s, r in result.status.items() if r != OK}
    stale = {s: code for s, code in unavailable.items() if code != "not_in_universe"}
    if stale:
        draft.findings.append(
            Finding(
                code="inputs_are_fresh",
                severity="warn",
                message="; ".join(f"{s}: {r}" for s, r in sorted(stale.items())),
                values={"symbols": sorted(stale)},
            )
        )
    draft.summary.update(
        session=key,
        checkpoint=directory.name,
        is_promoted=is_promoted,
        fold=result.metadata["fold"],
        n_positions=len(result.positions),
        n_unavailable=len(unavailable),
        gross_exposure=float(result.metadata["gross_exposure"]),
        previous=result.metadata["previous"],
        worst_attribution_residual=_worst_residual(result),
        inference_time_ms=round(result.metadata["inference_time_ms"], 1),
        threads=result.metadata["threads"],
        why_no_trade=result.why_no_trade(),
    )


def strategy_signals(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """Signals of one session, published to the ledger once."""
    # the positions may have been made before a person stopped trading
    refuse_if_killed(workspace.settings.home)
    session = date.fromisoformat(key)
    artifact = workspace.artifacts.read("inference", key)
    draft.made_from[artifact.name] = artifact.content_hash
    if CLOSED in artifact.files:
        draft.write_json("signals.json", {"signals": [], "published": False})
        draft.summary.update(session=key, published=False, n_signals=0, note=CLOSED_NOTE)
        return
    result = InferenceResult.from_dict(artifact.json("result.json"))
    is_record = session < date.fromisoformat(workspace.plan.keys[-2])
    may_publish = bool(artifact.summary["is_promoted"]) or is_record
    serving = workspace.settings.build(ServingConfig, "serving")
    with Ledger(workspace.settings.ledger_path) as ledger:
        previous = ledger.previous_positions(STRATEGY_ID, session)
        signals = signals_from(
            result,
            previous,
            conviction_threshold=serving.conviction_threshold,
            open_directions={
                s.symbol: s.direction for s in ledger.open_signals(STRATEGY_ID, session)
            },
        )
        revision = None
        if may_publish:
            publication = ledger.publish(
                STRATEGY_ID,
                session,
                signals,
                positions_after(result, previous),
                NIGHTLY_CAUSE if artifact.summary["is_promoted"] else "walk-forward backfill",
                checkpoint_hash=result.metadata["checkpoint_hash"],
                status=result.status,
            )
            revision = publication.revision
            draft.findings.extend(
                Finding(
                    code="ledger_is_consistent",
                    severity="error",
                    message=f"{problem}; look at {ledger.path}",
                    values={},
                )
                for problem in ledger.verify(session)
            )
    frame = signals_frame(signals)
    draft.write_frame("table_signals.parquet", frame)
    draft.write_json(
        "signals.json", {"signals": [asdict(s) for s in signals], "published": may_publish}
    )
    counts = frame["direction"].value_counts()
    draft.summary.update(
        session=key,
        published=may_publish,
        revision=revision,
        n_signals=len(signals),
        unavailable=unavailable_symbols(result.status),
        **{f"n_{d}": int(counts.get(d, 0)) for d in ("long", "short", "flat")},
        note="" if may_publish else "not promoted: a preview, nothing was written to the ledger",
    )


def was_closed(workspace: Workspace, session: date) -> bool:
    """Whether the universe has no bar of a day, though it has some of later days."""
    with workspace.store() as store:
        symbols = workspace.universe(store.symbols()).symbols
        if store.last_session(symbols) <= session:
            return False  # its bars may be late
        return not len(store.session_dates(symbols, session, session))


def model_of_session(workspace: Workspace, session: date) -> tuple[Path, bool]:
    """The checkpoint a session is predicted with, and whether it was in production then.

    A model is in production from the newest session it has seen on, so no session is
    predicted by a model that knows its label.
    """
    promoted = workspace.registry.production_on(session, MODEL_TYPE)
    if promoted is not None:
        return promoted, True
    fold = workspace.plan.fold_of_session(session)
    return candidate(workspace, fold.key, shipped_path(workspace, fold.key)), False


def session_before(
    workspace: Workspace, store: MarketDataStore, session: date, is_promoted: bool
) -> date | None:
    """The universe's newest session before one; ``None`` for its first.

    Live, only the sessions of ``operations.exchange`` are decided on: another exchange's day, or
    a stray bar on a weekend, is not waited for.
    """
    symbols = workspace.universe(store.symbols()).symbols
    days = store.session_dates(symbols, None, session)
    if is_promoted:
        exchange = workspace.settings.build(OperationsConfig, "operations").exchange
        days = days[session_mask(exchange, days)]
    earlier = [d.date() for d in days[-2:] if d.date() < session]
    return earlier[-1] if earlier else None


def previous_held(
    workspace: Workspace, before: date | None, fold: str, is_promoted: bool
) -> dict[str, float] | None:
    """Positions held after the session before: the same for a night and for ``tft predict``.

    For a model in production they are what was published for that session, or, where it was passed
    over since its bars came too late, for the newest live one before it. Before the first live
    night they are what that session's partition says, if a model in production made it (a preview
    was never held). For a fold's model they are what that session's partition says, else the
    reported record of the fold.

    Args:
        before: See ``session_before``.
        fold: The fold of the model that is to go on from them.

    Returns:
        ``None`` (start flat, and say so) where none is there, or where no model is in production
        and ``before`` lies before the fold's window: a fold starts flat.

    Raises:
        InferenceError: That partition failed its checks.
    """
    if before is None:
        return None
    if is_promoted and (published := _published(workspace, before)) is not None:
        return published
    artifact = workspace.artifacts.current("inference", before.isoformat())
    if artifact is None or not _goes_on(artifact, fold, is_promoted):
        return None if is_promoted else _recorded(workspace, before, fold)
    if not artifact.passed:
        raise InferenceError(
            f"inference of {before} must have passed its checks to give the previous "
            "positions, found it failed; materialize it again"
        )
    return artifact.json("result.json")["metadata"]["held"]


def _goes_on(artifact: Artifact, fold: str, is_promoted: bool) -> bool:
    if CLOSED in artifact.files:
        return False
    if is_promoted:
        return bool(artifact.summary["is_promoted"])
    return artifact.summary["fold"] == fold


def _recorded(workspace: Workspace, before: date, fold: str) -> dict[str, float] | None:
    """Positions of a reported window's record after one of its sessions; ``None`` outside of it.

    So a single session of the past, or a range that begins within a window, is the record's too.
    """
    if fold not in workspace.plan.reported_keys or before < date.fromisoformat(fold):
        return None
    if workspace.artifacts.current("out_of_sample", fold) is None:
        return None
    frame = workspace.artifacts.read("out_of_sample", fold).frame("positions.parquet")
    is_past = (frame["path"] == shipped_path(workspace, fold)) & (
        frame["date"] <= pd.Timestamp(before)
    )
    # an asset without a session keeps its position and has no row
    newest = frame[is_past].sort_values("date").groupby("symbol")["position"].last()
    return {str(symbol): float(position) for symbol, position in newest.items()}


def _published(workspace: Workspace, session: date) -> dict[str, float] | None:
    """Positions published for a session, else for the newest live one before it."""
    if not workspace.settings.ledger_path.exists():
        return None
    with Ledger(workspace.settings.ledger_path) as ledger:
        publication = ledger.read(STRATEGY_ID, session)
        if publication is None:
            heads = ledger.publications(STRATEGY_ID, end=session, revision="first")
            live = heads.loc[heads["cause"].isin(LIVE_CAUSES), "session"]
            if len(live):
                publication = ledger.read(STRATEGY_ID, date.fromisoformat(live.max()))
    return None if publication is None else dict(publication.positions)


def unavailable_symbols(status: Mapping[str, str]) -> str:
    """Members of the universe without a new position, by code, in one line; empty if all have one.

    A night on which half of the bars have not arrived looks like any other without it.
    """
    by_code: dict[str, list[str]] = {}
    for symbol, code in sorted(status.items()):
        if code not in (OK, "not_in_universe"):
            by_code.setdefault(code, []).append(symbol)
    return "; ".join(
        f"{len(symbols)} {code} ({first_few(symbols)})" for code, symbols in by_code.items()
    )


def result_frame(result: InferenceResult) -> pd.DataFrame:
    """One row per symbol: position, confidence, raw output, status."""
    symbols = sorted(result.status)
    return pd.DataFrame(
        {
            "symbol": symbols,
            "position": [result.positions.get(s) for s in symbols],
            "confidence": [result.confidences.get(s) for s in symbols],
            "raw_output": [result.raw_output.get(s) for s in symbols],
            "status": [result.status[s] for s in symbols],
        }
    ).astype({"position": float, "confidence": float, "raw_output": float})


def signals_frame(signals: list[Any]) -> pd.DataFrame:
    columns = ["symbol", "direction", "conviction", "instrument_type", "ttl_bars"]
    return pd.DataFrame([{c: getattr(s, c) for c in columns} for s in signals], columns=columns)


def _worst_residual(result: InferenceResult) -> float | None:
    """Largest |sum of attributions − (output − start)|; ``None`` without any position."""
    made = result.metadata["attribution"].values()
    return max((abs(a["residual"]) for a in made), default=None)


def _stable(result: InferenceResult) -> dict[str, Any]:
    """The result without what differs between two runs of the same prediction."""
    plain = result.to_dict()
    for name in ("inference_time_ms", "checkpoint_path", "threads"):
        del plain["metadata"][name]
    return plain
