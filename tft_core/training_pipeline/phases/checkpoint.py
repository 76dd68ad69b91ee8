"""Phase ``production_checkpoint``: chain the record, judge the live candidate, promote it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from tft_core.checks import Finding, GateConfig, gate
from tft_core.evidence import choose_path, compare_paths, deflation
from tft_core.metrics import max_drawdown, sharpe_ann, sharpe_se_ann, summary, total_return
from tft_core.positions import PositionConfig
from tft_core.reports.html import TearSheetData, tear_sheet
from tft_core.reports.plots import equity_png
from tft_core.schema import LIVE_FOLD, finite_or_none
from tft_core.training_pipeline.artifacts import Draft
from tft_core.training_pipeline.graph import study_key
from tft_core.training_pipeline.phases.production import PATHS, git_commit
from tft_core.training_pipeline.record import wide_net
from tft_core.training_pipeline.workspace import Progress, Workspace

COST_SCALES = (0.0, 0.5, 1.0, 2.0, 3.0)


def production_checkpoint(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """The chained out-of-sample record, the gate's verdict, the promotion, the tear sheet."""
    daily = read_daily(workspace)
    chained, chosen = chain_shipped(workspace, daily)
    live_path = choose_path(_pure_paths(daily))
    candidates = workspace.artifacts.read("production_fold", LIVE_FOLD).json("candidates.json")
    directory = workspace.registry.root / candidates[live_path]["directory"]
    problems = workspace.registry.verify(directory)
    draft.findings.extend(
        Finding(code="checkpoint_verifies", severity="error", message=p, values={})
        for p in problems
    )
    net = chained["net"].to_numpy()
    verdict = gate(
        workspace.settings.build(GateConfig, "gate"),
        net,
        production_net=_production_record(workspace, directory),
        findings=tuple(draft.findings),
    )
    figures = {
        name: finite_or_none(value)
        for name, value in summary(
            net, chained["gross"].to_numpy(), chained["turnover"].to_numpy()
        ).items()
    }
    promoted = _promote(workspace, directory, verdict.passed, overrides.get("force_reason"))
    if not verdict.passed:
        draft.findings.append(
            Finding(
                code="gate_passed",
                severity="warn",
                message="; ".join(f"{r.code}: {r.message}" for r in verdict.reasons),
                values={},
            )
        )
    wide = wide_net(pd.concat([*daily.values(), chained.assign(path="shipped")]))
    evidence = compare_paths(wide["tuned"].to_numpy(), wide["default"].to_numpy())
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
            "checkpoint": candidates[live_path]["directory"],
            "content_hash": candidates[live_path]["content_hash"],
            "path": live_path,
            "path_by_fold": chosen,
            "promoted": promoted,
            "gate": verdict.to_dict(),
            "figures": figures,
            "tuned_against_default": evidence.to_dict(),
            "deflation": deflation(net, _trial_returns(workspace)),
            "force_reason": overrides.get("force_reason"),
        },
    )
    draft.write_bytes("equity.png", equity_png(wide))
    draft.write_text(
        "tear_sheet.html", _tear_sheet(workspace, directory.name, daily, wide, metrics, verdict)
    )
    draft.summary.update(
        checkpoint=candidates[live_path]["directory"],
        promoted=promoted,
        gate="passed" if verdict.passed else "refused",
        gate_reasons="; ".join(r.message for r in verdict.reasons) or "every rule holds",
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
    daily = {
        k: workspace.artifacts.read("out_of_sample", k).frame("daily.parquet") for k in before
    }
    return choose_path(_pure_paths(daily))


def _pure_paths(daily: Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
    return [wide_net(frame)[list(PATHS)] for frame in daily.values()]


def _production_record(workspace: Workspace, candidate: Any) -> np.ndarray | None:
    """Net record stored with the model in production; ``None`` if that is the candidate or none."""
    current = workspace.registry.production_path_or_none()
    previous = workspace.artifacts.current("production_checkpoint", "all")
    if current is None or current == candidate or previous is None:
        return None
    if previous.json("verdict.json")["checkpoint"] != str(
        current.relative_to(workspace.registry.root)
    ):
        return None
    return previous.frame("daily.parquet")["shipped"].dropna().to_numpy()


def _promote(workspace: Workspace, directory: Any, passed: bool, force_reason: str | None) -> bool:
    """Promote a candidate that passed, or was forced with a reason; True if it is in production."""
    registry = workspace.registry
    if registry.production_path_or_none() == directory:
        return True
    if not passed and not force_reason:
        return False
    _, metadata = registry.load(directory)
    registry.promote(
        directory,
        reason=f"forced: {force_reason}" if not passed else "gate passed",
        effective=metadata.trained_through,
    )
    return True


def _trial_returns(workspace: Workspace) -> pd.DataFrame | None:
    """Trial × day returns of the live study; ``None`` where tuning was switched off."""
    used = study_key(LIVE_FOLD, workspace.plan, workspace.retune_every)
    artifact = workspace.artifacts.read("optuna_study", used)
    if "daily.parquet" not in artifact.files:
        return None
    return artifact.frame("daily.parquet")


def _tear_sheet(
    workspace: Workspace,
    checkpoint: str,
    daily: Mapping[str, pd.DataFrame],
    wide: pd.DataFrame,
    metrics: pd.DataFrame,
    verdict: Any,
) -> str:
    by_fold = pd.DataFrame(
        {
            key: {
                path: sharpe_ann(group["net"].to_numpy())
                for path, group in frame.groupby("path")
            }
            for key, frame in daily.items()
        }
    ).T.rename_axis("fold")
    by_asset = pd.concat(
        [
            workspace.artifacts.read("out_of_sample", key).frame("by_asset.parquet")
            for key in workspace.plan.reported_keys
        ]
    )
    contribution = by_asset.pivot_table(
        index="symbol", columns="path", values="net", aggfunc="sum"
    )
    sensitivity = _cost_sensitivity(daily)
    positions = workspace.settings.build(PositionConfig, "positions")
    return tear_sheet(
        TearSheetData(
            title=f"Production checkpoint {checkpoint}",
            verdict=verdict.to_dict(),
            paths=wide,
            metrics=metrics,
            by_fold=by_fold,
            by_asset=contribution,
            cost_sensitivity=sensitivity,
            provenance={
                "profile": workspace.settings.profile,
                "git commit": git_commit() or "not a git checkout",
                "folds": ", ".join(workspace.plan.reported_keys),
                "configuration": str(workspace.settings.path),
                "positions": str(asdict(positions)),
            },
            notes=[
                "Every figure is net of the instruments' costs, decided at the close of t, "
                "entered at the close of t+1, earned to the close of t+2.",
                "Each window was traded by a model whose features, hyper-parameters, scaler and "
                "weights were made from data before the window.",
            ],
        )
    )


def _cost_sensitivity(daily: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Sharpe of each path with every cost multiplied (same positions)."""
    frame = pd.concat(daily.values(), ignore_index=True)
    return pd.DataFrame(
        {
            f"costs × {scale:g}": {
                path: sharpe_ann((group["gross"] - scale * group["cost"]).to_numpy())
                for path, group in frame.groupby("path")
            }
            for scale in COST_SCALES
        }
    ).rename_axis("path")
