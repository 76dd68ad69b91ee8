"""Phase ``production_checkpoint``: chain the record, judge the live candidate, promote it."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tft_core.checks import Finding, GateConfig, GateVerdict, gate_verdict
from tft_core.evidence import EvidenceLedger, choose_path, compare, deflate
from tft_core.metrics import max_drawdown, sharpe_ann, sharpe_se_ann, summary, total_return
from tft_core.reports.html import TearSheetData, tear_sheet
from tft_core.reports.plots import equity_png
from tft_core.schema import LIVE_FOLD, MODEL_TYPE, finite_or_none
from tft_core.training_pipeline.artifacts import Draft
from tft_core.training_pipeline.graph import UNPARTITIONED_KEY, study_key
from tft_core.training_pipeline.phases.production import PATHS, candidate, git_commit
from tft_core.training_pipeline.record import wide_net
from tft_core.training_pipeline.workspace import Progress, Workspace

_ONCE_PROMOTED = ("production", "retired", "rolled_back")
COST_SCALES = (0.0, 0.5, 1.0, 2.0, 3.0)


def production_checkpoint(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """The chained out-of-sample record, the gate's verdict, the promotion, the tear sheet."""
    daily = read_daily(workspace)
    chained, chosen = chain_shipped(workspace, daily)
    live_path = choose_path(_pure_paths(daily))
    directory = candidate(workspace, LIVE_FOLD, live_path)
    problems = workspace.registry.verify(directory)
    draft.findings.extend(
        Finding(code="checkpoint_verifies", severity="error", message=p, values={})
        for p in problems
    )
    net = chained["net"].to_numpy()
    verdict = gate_verdict(
        net,
        _production_record(workspace, directory, chained["date"]),
        draft.findings,
        workspace.settings.build(GateConfig, "gate"),
    )
    figures = {
        name: finite_or_none(value)
        for name, value in summary(
            net, chained["gross"].to_numpy(), chained["turnover"].to_numpy()
        ).items()
    }
    if not problems:
        directory = _judged(workspace, directory, verdict, figures)
    name = str(directory.relative_to(workspace.registry.root))
    promoted = _promote(workspace, directory, verdict, overrides.get("force_reason"))
    refusal = verdict.finding()
    if refusal is not None:
        draft.findings.append(refusal)
    EvidenceLedger.under(workspace.settings.home).record_look(
        workspace.registry.content_hash_of(directory),
        workspace.plan.reported_keys,
        "production_checkpoint",
    )
    wide = wide_net(pd.concat([*daily.values(), chained.assign(path="shipped")]))
    evidence = compare(wide["tuned"].to_numpy(), wide["default"].to_numpy())
    metrics = pd.DataFrame(
        {
            path: {
                "sharpe_net": sharpe_ann(wide[path].dropna().to_numpy()),
                "sharpe_se": sharpe_se_ann(wide[path].dropna().to_numpy()),
                "return_total": total_return(wide[path].dropna().to_numpy()),
                "max_drawdown": max_drawdown(wide[path].dropna().to_numpy()),
            }
            for path in wide.columns
        }
    ).T.rename_axis("path")
    draft.write_frame("daily.parquet", wide.reset_index())
    draft.write_frame("table_metrics.parquet", metrics.reset_index())
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
            "tuned_against_default": _finite(evidence),
            "deflation": _deflation(workspace),
            "force_reason": overrides.get("force_reason"),
        },
    )
    draft.write_bytes("equity.png", equity_png(wide))
    draft.write_text(
        "tear_sheet.html",
        _tear_sheet(workspace, directory.name, daily, chosen, wide, metrics, verdict),
    )
    draft.summary.update(
        checkpoint=name,
        promoted=promoted,
        gate="passed" if verdict.passed else "refused",
        gate_reasons=verdict.sentence,
        path=live_path,
        tuned_against_default=evidence.verdict,
        **figures,
    )


def read_daily(workspace: Workspace) -> dict[str, pd.DataFrame]:
    """Long daily records (date, path, net, gross, cost, turnover) of each reported fold."""
    return {
        key: workspace.artifacts.read("out_of_sample", key).frame("daily.parquet")
        for key in workspace.plan.reported_keys
    }


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
        parts.append(frame[frame["path"] == path])
    return pd.concat(parts, ignore_index=True), chosen


def shipped_path(workspace: Workspace, key: str) -> str:
    """Which configuration fold ``key`` ships, decided on the records of folds before it."""
    before = [k for k in workspace.plan.reported_keys if k in workspace.plan.upto(key)[:-1]]
    daily = {k: workspace.artifacts.read("out_of_sample", k).frame("daily.parquet") for k in before}
    return choose_path(_pure_paths(daily))


def _pure_paths(daily: Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
    return [wide_net(frame)[list(PATHS)] for frame in daily.values()]


def _production_record(workspace: Workspace, candidate: Path, days: pd.Series) -> np.ndarray | None:
    """The record that came with the model in production, on ``days``; NaN where it has none.

    ``None`` if nothing, or the candidate itself, is in production.
    """
    history = workspace.registry.production_history()
    if not history:
        return None
    current = workspace.registry.production_path()
    previous = workspace.artifacts.current("production_checkpoint", UNPARTITIONED_KEY)
    if current == candidate:
        return None
    if previous is None or previous.json("verdict.json")["checkpoint"] != str(
        current.relative_to(workspace.registry.root)
    ):
        return np.full(len(days), np.nan)
    record = previous.frame("daily.parquet").set_index("date")["shipped"]
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


def _deflation(workspace: Workspace) -> dict[str, Any] | None:
    """What the best trial of the live fold's study is worth after the search."""
    used = study_key(LIVE_FOLD, workspace.plan, workspace.retune_every)
    artifact = workspace.artifacts.read("optuna_study", used)
    if "daily.parquet" not in artifact.files:
        return None
    study = artifact.json("study.json")
    daily = artifact.frame("daily.parquet").set_index("date")
    return _finite(deflate(daily, str(study["best_number"]), n_trials=study["n_finished"]))


def _finite(figures: Any) -> dict[str, Any]:
    """A dataclass of figures as JSON values; undefined ones ``None``."""
    return {
        name: finite_or_none(value) if isinstance(value, float) else value
        for name, value in asdict(figures).items()
    }


def _tear_sheet(
    workspace: Workspace,
    checkpoint: str,
    daily: Mapping[str, pd.DataFrame],
    chosen: Mapping[str, str],
    wide: pd.DataFrame,
    metrics: pd.DataFrame,
    verdict: GateVerdict,
) -> str:
    histories = workspace.artifacts.read("production_fold", LIVE_FOLD).frame("histories.parquet")
    by_fold = pd.DataFrame(
        {
            key: {
                "shipped": chosen[key],
                **{
                    f"sharpe_{path}": sharpe_ann(group["net"].to_numpy())
                    for path, group in frame.groupby("path")
                },
            }
            for key, frame in daily.items()
        }
    ).T.rename_axis("fold")
    return tear_sheet(
        TearSheetData(
            title=f"Production checkpoint {checkpoint}",
            verdict=verdict.to_dict(),
            paths=wide,
            metrics=metrics,
            by_fold=by_fold,
            by_asset=_contributions(workspace, chosen),
            cost_sensitivity=_cost_sensitivity(daily, chosen),
            provenance={
                "profile": workspace.settings.profile,
                "git commit": git_commit() or "not a git checkout",
                "reported windows": ", ".join(workspace.plan.reported_keys),
                "configuration": str(workspace.settings.path),
            },
            notes=[
                "Every figure is net of the instruments' costs: decided at the close of t, "
                "entered at the close of t+1, earned to the close of t+2.",
                "Each window was traded by a model whose features, hyper-parameters, scaler and "
                "weights were made from data before the window.",
            ],
            histories=histories[histories["path"] == "default"].drop(columns="path"),
            exposure=_exposure(daily, chosen),
        )
    )


def _contributions(workspace: Workspace, chosen: Mapping[str, str]) -> pd.DataFrame:
    """Sum of each symbol's net returns on the shipped path."""
    parts = []
    for key, path in chosen.items():
        frame = workspace.artifacts.read("out_of_sample", key).frame("by_asset.parquet")
        parts.append(frame[frame["path"] == path])
    total = pd.concat(parts).groupby("symbol")["net"].sum()
    return total.sort_values(ascending=False).rename("contribution").to_frame()


def _cost_sensitivity(daily: Mapping[str, pd.DataFrame], chosen: Mapping[str, str]) -> pd.DataFrame:
    """Net Sharpe ratio of every path with all costs multiplied, positions unchanged."""
    frame = pd.concat(daily.values(), ignore_index=True)
    shipped = pd.concat([f[f["path"] == chosen[k]] for k, f in daily.items()])
    paths = {**dict(list(frame.groupby("path"))), "shipped": shipped}
    return pd.DataFrame(
        {
            path: {
                scale: sharpe_ann((rows["gross"] - scale * rows["cost"]).to_numpy())
                for scale in COST_SCALES
            }
            for path, rows in paths.items()
        }
    ).rename_axis("cost multiple")


def _exposure(daily: Mapping[str, pd.DataFrame], chosen: Mapping[str, str]) -> pd.DataFrame:
    """Daily gross and net exposure and turnover of the shipped path, as fractions of capital."""
    shipped = pd.concat([f[f["path"] == chosen[k]] for k, f in daily.items()])
    return pd.DataFrame(
        {
            "gross": shipped["exposure_gross"].to_numpy(),
            "net": shipped["exposure_net"].to_numpy(),
            "turnover": shipped["turnover"].to_numpy(),
        },
        index=pd.DatetimeIndex(shipped["date"]),
    )
