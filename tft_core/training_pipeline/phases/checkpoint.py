"""Phase ``production_checkpoint``: chain the record, judge the live candidate, promote it."""

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tft_core.checks import Finding, GateConfig, GateVerdict, gate_verdict
from tft_core.evidence import choose_path, record_evidence
from tft_core.reports.html import tear_sheet
from tft_core.reports.plots import equity_png
from tft_core.schema import LIVE_FOLD, MODEL_TYPE, SHIPPED, content_hash, finite_or_none
from tft_core.training_pipeline.artifacts import Draft
from tft_core.training_pipeline.graph import UNPARTITIONED_KEY, study_key
from tft_core.training_pipeline.phases.production import PATHS, candidate
from tft_core.training_pipeline.phases.sheet import in_order, search_record, sheet_data
from tft_core.training_pipeline.phases.tuning import count_trials
from tft_core.training_pipeline.record import path_figures, wide_net
from tft_core.training_pipeline.workspace import Progress, Workspace

_ONCE_PROMOTED = ("production", "retired", "rolled_back")
RECORDS = "earlier_records.parquet"
"""The records that other candidates were judged by: production's own may be among them, however
many were refused since it was promoted."""
LOOK = "production_checkpoint"
"""Purpose under which the ledger counts an evaluation of the whole record."""


def production_checkpoint(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """The chained out-of-sample record, the gate's verdict, the promotion, the tear sheet."""
    daily = read_daily(workspace, workspace.plan.reported_keys)
    chained, chosen = chain_shipped(workspace, daily)
    live_path = choose_path(_pure_paths(daily))
    directory = candidate(workspace, LIVE_FOLD, live_path)
    problems = workspace.registry.verify(directory)
    draft.findings.extend(
        Finding(code="checkpoint_verifies", severity="error", message=p, values={})
        for p in problems
    )
    net = chained["net"].to_numpy()
    earlier = _earlier_records(workspace)
    verdict = gate_verdict(
        net,
        _production_record(workspace, directory, earlier, chained["date"]),
        draft.findings,
        workspace.settings.build(GateConfig, "gate"),
    )
    figures = path_figures(net, chained["gross"].to_numpy(), chained["turnover"].to_numpy())
    if not problems:
        directory = _judged(workspace, directory, verdict, figures)
    name = str(directory.relative_to(workspace.registry.root))
    promoted = _promote(workspace, directory, verdict, overrides.get("force_reason"))
    refusal = verdict.finding()
    if refusal is not None:
        draft.findings.append(refusal)
    ledger = count_trials(workspace.settings)
    ledger.record_look(_procedure(workspace), workspace.plan.reported_keys, LOOK)
    used = study_key(LIVE_FOLD, workspace.plan, workspace.retune_every)
    search = search_record(workspace, ledger.counts(prefix=f"{MODEL_TYPE}-{used}-").trials)
    every = pd.concat(
        [*(f.assign(fold=k) for k, f in daily.items()), chained.assign(path=SHIPPED)],
        ignore_index=True,
    )
    wide = wide_net(every)
    wide = wide[in_order(wide.columns)]
    evidence = record_evidence(wide, n_procedures=ledger.procedures(LOOK))
    sheet = sheet_data(
        workspace, directory, every, wide, chosen, verdict, evidence, search, ledger.counts()
    )
    draft.write_frame("daily.parquet", wide.reset_index())
    draft.write_frame(RECORDS, earlier[earlier["checkpoint"] != name])
    draft.write_frame("table_metrics.parquet", sheet.metrics.reset_index())
    draft.write_json(
        "verdict.json",
        {
            "checkpoint": name,
            "content_hash": workspace.registry.content_hash_of(directory),
            "path": live_path,
            "path_by_fold": chosen,
            "promoted": promoted,
            "gate": verdict.to_dict(),
            "figures": figures,
            "evidence": evidence.to_dict(),
            "search": None if search is None else search["evidence"],
            "force_reason": overrides.get("force_reason"),
        },
    )
    draft.write_json("tear_sheet.json", sheet.to_dict())
    draft.write_bytes("equity.png", equity_png(wide))
    draft.write_text("tear_sheet.html", tear_sheet(sheet))
    draft.summary.update(
        checkpoint=name,
        promoted=promoted,
        gate="passed" if verdict.passed else "refused",
        gate_reasons=verdict.sentence,
        path=live_path,
        tuned_against_default=evidence.tuned_against_default.verdict,
        probabilistic_sharpe=finite_or_none(evidence.probabilistic),
        deflated_sharpe_of_search=None
        if search is None
        else search["evidence"]["deflation"]["deflated"],
        **figures,
    )


def read_daily(workspace: Workspace, keys: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Long daily records (see ``PathRecord.frame``) of some reported folds."""
    read = workspace.artifacts.read
    return {key: read("out_of_sample", key).frame("daily.parquet") for key in keys}


def chain_shipped(
    workspace: Workspace, daily: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The headline record: each window on the path decided by the records before it.

    As of:
        For window k: the records of folds < k. The first window ships the default.
    """
    pure = _pure_paths(daily)
    parts, chosen = [], {}
    for position, (key, frame) in enumerate(daily.items()):
        path = choose_path(pure[:position])
        chosen[key] = path
        parts.append(frame[frame["path"] == path].assign(fold=key))
    return pd.concat(parts, ignore_index=True), chosen


def shipped_path(workspace: Workspace, key: str) -> str:
    """Which configuration fold ``key`` ships, decided on the records of folds before it."""
    before = [k for k in workspace.plan.reported_keys if k in workspace.plan.upto(key)[:-1]]
    return choose_path(_pure_paths(read_daily(workspace, before)))


def _procedure(workspace: Workspace) -> str:
    """Content hash of the procedure that the record is one of: its models on all windows."""
    read = workspace.artifacts.read
    keys = workspace.plan.reported_keys
    return content_hash({key: read("production_fold", key).content_hash for key in keys})


def _pure_paths(daily: Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
    return [wide_net(frame)[list(PATHS)] for frame in daily.values()]


def _earlier_records(workspace: Workspace) -> pd.DataFrame:
    """``date, checkpoint, net`` of every candidate judged so far that the registry still holds."""
    parts = [
        pd.DataFrame({"date": pd.DatetimeIndex([]), "checkpoint": [], "net": []}).astype(
            {"date": "datetime64[us]", "checkpoint": "object", "net": "float64"}
        )
    ]
    previous = workspace.artifacts.current("production_checkpoint", UNPARTITIONED_KEY)
    if previous is not None:
        name = previous.json("verdict.json")["checkpoint"]
        daily = previous.frame("daily.parquet")
        if RECORDS in previous.files:
            parts.append(previous.frame(RECORDS))
        parts.append(
            pd.DataFrame({"date": daily["date"], "checkpoint": name, "net": daily[SHIPPED]})
        )
    every = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    root = workspace.registry.root
    held = [name for name in every["checkpoint"].unique() if (root / name).is_dir()]
    return every[every["checkpoint"].isin(held)].reset_index(drop=True)


def _production_record(
    workspace: Workspace, candidate: Path, earlier: pd.DataFrame, days: pd.Series
) -> np.ndarray | None:
    """The record that came with the model in production, on ``days``; NaN where it has none.

    ``None`` if nothing, or the candidate itself, is in production.

    Args:
        earlier: ``_earlier_records``.
    """
    registry = workspace.registry
    if not registry.production_history():
        return None
    current = registry.production_path()
    if current == candidate:
        return None
    own = earlier[earlier["checkpoint"] == str(current.relative_to(registry.root))]
    record = own.set_index("date")["net"]
    return record.reindex(pd.DatetimeIndex(days)).to_numpy(dtype=np.float64)


def _judged(
    workspace: Workspace,
    directory: Path,
    verdict: GateVerdict,
    figures: Mapping[str, float | None],
) -> Path:
    """A version of the candidate's content that carries the verdict and the record's figures.

    A model that was ever in production keeps the version it was promoted as: a rollback of it
    must not be undone under another number.
    """
    registry = workspace.registry
    identity = registry.content_hash_of(directory)
    for row in registry.list_checkpoints(MODEL_TYPE):
        if row["content_hash"] == identity and row["status"] in _ONCE_PROMOTED:
            return row["path"]
    state, metadata = registry.load(directory)
    judged = metadata.replace(
        gate=verdict.to_dict(),
        status="candidate" if verdict.passed else "refused",
        sharpe_oos=figures["sharpe_net"],
        total_return_oos=figures["return_total"],
        max_drawdown_oos=figures["max_drawdown"],
    )
    if judged == metadata:
        return directory
    return registry.save(
        state,
        judged.replace(version=0, created_at=""),
        feature_selector=registry.load_feature_selector(directory),
        optuna_study=registry.load_trials(directory),
        force=True,
    )


def _promote(
    workspace: Workspace, directory: Path, verdict: GateVerdict, force_reason: str | None
) -> bool:
    """Promote a candidate that passed, or was forced with a reason; True if it is in production.

    It serves from the newest session it has seen on, never an earlier one.
    """
    registry = workspace.registry
    if registry.production_history() and registry.production_path() == directory:
        return True
    if not verdict.passed and not force_reason:
        return False
    trained_through = date.fromisoformat(registry.load_metadata(directory).trained_through)
    serving_since = [event.effective_date for event in registry.production_history()]
    registry.promote(
        directory,
        reason="the gate is open" if verdict.passed else f"forced: {force_reason}",
        effective=max([trained_through, *serving_since]),
        gate=verdict.to_dict(),
        override=not verdict.passed,
    )
    return True
