"""Gathers what the tear sheet shows from the artifacts behind a checkpoint.

Nothing is judged or promoted here; how it looks is decided in ``reports``.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tft_core.checks import GateVerdict
from tft_core.evidence import LedgerCounts, RecordEvidence, search_evidence
from tft_core.feature_selection import StabilityReport
from tft_core.metrics import sharpe_ann, sharpe_se_ann, summary
from tft_core.reports.html import TearSheetData
from tft_core.reports.tear_sheet_data import cost_table, records
from tft_core.schema import LIVE_FOLD, SHIPPED, content_hash
from tft_core.training_pipeline.artifacts import Artifact
from tft_core.training_pipeline.commit import git_commit
from tft_core.training_pipeline.graph import LIFECYCLE, SPECS, keys_of, study_key
from tft_core.training_pipeline.phases.selection import read_prefilter, read_stability
from tft_core.training_pipeline.workspace import Workspace

if TYPE_CHECKING:
    from upath import UPath

N_TOP_FEATURES = 15
NOTES = (
    "Every figure is net of the instruments' costs: decided at the close of t, entered at the "
    "close of t+1, earned to the close of t+2.",
    "Each window was traded by a model whose features, hyper-parameters, scaler and weights were "
    "made from data before the window.",
    "Which configuration a window ships, tuned or default, was decided on the windows before it.",
)


def sheet_data(
    workspace: Workspace,
    checkpoint: Path,
    daily: pd.DataFrame,
    wide: pd.DataFrame,
    chosen: Mapping[str, str],
    verdict: GateVerdict,
    evidence: RecordEvidence,
    search: Mapping[str, Any] | None,
    counts: LedgerCounts,
) -> TearSheetData:
    """Everything the tear sheet shows.

    Args:
        checkpoint: Registry directory of the judged candidate.
        daily: Long records of all paths on the reported days, ``shipped`` among them, with the
            reported fold of each day.
        wide: Net daily returns by path.
        chosen: Reported fold → the path it shipped.
        search: ``search_record``.
    """
    live = workspace.artifacts.read("production_fold", LIVE_FOLD)
    histories = live.frame("histories.parquet")
    shipped = daily[daily["path"] == SHIPPED]
    return TearSheetData(
        title=f"Production checkpoint {checkpoint.name}",
        verdict=verdict.to_dict(),
        paths=wide,
        metrics=path_metrics(daily),
        by_fold=fold_table(daily, chosen),
        by_asset=contributions(workspace, chosen),
        cost_sensitivity=cost_table(daily)[list(wide.columns)],
        provenance=provenance(workspace, checkpoint, counts),
        notes=NOTES,
        histories=histories[histories["path"] == "default"].drop(columns="path"),
        exposure=pd.DataFrame(
            {
                "gross": shipped["exposure_gross"].to_numpy(),
                "net": shipped["exposure_net"].to_numpy(),
                "turnover": shipped["turnover"].to_numpy(),
            },
            index=pd.DatetimeIndex(shipped["date"]),
        ),
        evidence=evidence.to_dict(),
        study=search,
        features=feature_summary(workspace),
        quality=quality_table(workspace),
        findings=findings_table(workspace),
    )


def in_order(paths: Iterable[object]) -> list[str]:
    """Names of paths as every table shows them: shipped, tuned, default, then the baselines."""
    first = [SHIPPED, "tuned", "default"]
    names = [str(name) for name in paths]
    return [n for n in first if n in names] + sorted(n for n in names if n not in first)


def path_metrics(daily: pd.DataFrame) -> pd.DataFrame:
    """Figures of each path, with the flat cost at which its mean return turns 0."""
    rows = {}
    parts = {str(path): part for path, part in daily.groupby("path")}
    for path in in_order(parts):
        part = parts[path]
        net, gross, turnover = (part[n].to_numpy() for n in ("net", "gross", "turnover"))
        traded = float(turnover.sum())
        rows[path] = {
            **summary(net, gross, turnover),
            "break_even_bps": float(gross.sum()) / traded * 1e4 if traded > 0.0 else float("nan"),
        }
    return pd.DataFrame(rows).T.rename_axis("path")


def fold_table(daily: pd.DataFrame, chosen: Mapping[str, str]) -> pd.DataFrame:
    """Which path each reported window shipped, its days, and the net Sharpe ratio of all paths."""
    rows = {}
    for key, part in daily.groupby("fold"):
        parts = {str(name): rows_of["net"].to_numpy() for name, rows_of in part.groupby("path")}
        paths = {name: parts[name] for name in in_order(parts)}
        rows[str(key)] = {
            "shipped path": chosen[str(key)],
            "n_days": len(paths[SHIPPED]),
            "shipped s.e.": sharpe_se_ann(paths[SHIPPED]),
            **{f"{name} Sharpe": sharpe_ann(net) for name, net in paths.items()},
        }
    return pd.DataFrame(rows).T.infer_objects().rename_axis("fold")


def contributions(workspace: Workspace, chosen: Mapping[str, str]) -> pd.DataFrame:
    """Each symbol's asset class and the sum of its net returns on the shipped path."""
    parts = []
    for key, path in chosen.items():
        frame = workspace.artifacts.read("out_of_sample", key).frame("by_asset.parquet")
        parts.append(frame[frame["path"] == path])
    total = pd.concat(parts).groupby("symbol")["net"].sum().sort_values(ascending=False)
    with workspace.store() as store:
        classes = store.instruments()["asset_class"].reindex(total.index)
    known = classes.fillna("").replace("", "unknown").astype(str)
    return pd.DataFrame({"asset_class": known, "contribution": total}).rename_axis("symbol")


def search_record(workspace: Workspace, n_trials: int) -> dict[str, Any] | None:
    """The live fold's study as stored, its evidence deflated by every trial of this fold.

    Args:
        n_trials: Trials that were ever run for the fold, in studies left behind too.
    """
    used = study_key(LIVE_FOLD, workspace.plan, workspace.retune_every)
    artifact = workspace.artifacts.read("optuna_study", used)
    if "daily.parquet" not in artifact.files:
        return None
    study = artifact.json("study.json")
    daily = artifact.frame("daily.parquet").set_index("date")
    evidence = search_evidence(daily, str(study["best_number"]), n_trials)
    return {**study, "evidence": evidence.to_dict()}


def feature_summary(workspace: Workspace) -> dict[str, Any] | None:
    """Verdict, counts and first features of the live fold's stability report."""
    report = read_stability(workspace, LIVE_FOLD)
    if report is None:
        return None
    pre = read_prefilter(workspace, LIVE_FOLD)
    names = list(report.recommended_features[:N_TOP_FEATURES])
    weights = report.vsn_weight_per_fold.mean(axis=1)
    top = pd.DataFrame(
        {
            "mean weight (share)": weights.reindex(names),
            "folds above shadows (share)": pd.Series(report.stability_scores).reindex(names),
            "chosen by": [_chosen_by(report, name) for name in names],
        },
        index=pd.Index(names),
    )
    page = workspace.artifacts.read("vsn_stability_report", LIVE_FOLD).path / "stability.html"
    return {
        "verdict": report.verdict,
        "sentence": report.sentence,
        "counts": {
            "built": len(pre.kept) + len(pre.dropped),
            "after the pre-filter": len(pre.kept),
            "shipped": len(report.recommended_features),
            "of them by rank only": len(report.filled_features),
        },
        "top": records(top, "feature"),
        "report": _below_home(workspace, page),
    }


def _chosen_by(report: StabilityReport, name: str) -> str:
    if report.passes_prefiltered_on:
        return "the pre-filter alone"
    return "rank only" if name in report.filled_features else report.evidence


def quality_table(workspace: Workspace) -> pd.DataFrame:
    """Size, span, findings and content hash of the bars behind each fold."""
    columns = ("n_rows", "n_symbols", "first", "last", "n_findings", "data_hash")
    return pd.DataFrame(
        {
            key: {
                name: workspace.artifacts.read("market_data", key).summary.get(name)
                for name in columns
            }
            for key in workspace.plan.keys
        }
    ).T.infer_objects()


def findings_table(workspace: Workspace) -> pd.DataFrame:
    """What the checks of every artifact behind the checkpoint found."""
    found = [
        {
            "artifact": artifact.name,
            "severity": finding.severity,
            "finding": finding.code,
            "message": finding.message,
        }
        for artifact in upstream_artifacts(workspace)
        for finding in artifact.findings
    ]
    columns = ["artifact", "severity", "finding", "message"]
    return pd.DataFrame(found, columns=columns).set_index("artifact")


def upstream_artifacts(workspace: Workspace) -> list[Artifact]:
    """Every artifact of the lifecycle that lies behind the checkpoint, upstream first."""
    return [
        workspace.artifacts.read(name, key)
        for name in LIFECYCLE
        if name != "production_checkpoint"
        for key in keys_of(SPECS[name], workspace.plan)
    ]


def provenance(workspace: Workspace, checkpoint: Path, counts: LedgerCounts) -> dict[str, Any]:
    """What the checkpoint was made from and with."""
    registry, settings = workspace.registry, workspace.settings
    metadata = registry.load_metadata(checkpoint)
    bars = {k: workspace.artifacts.read("market_data", k).content_hash for k in workspace.plan.keys}
    return {
        "checkpoint": str(checkpoint.relative_to(registry.root)),
        "content hash": registry.content_hash_of(checkpoint),
        "git commit": git_commit() or "not a git checkout",
        "data hash": content_hash(bars),
        "configuration": f"{settings.path}, profile {settings.profile}",
        "configuration hash": content_hash(settings.sections),
        "feature catalogue": metadata.catalogue_hash,
        "model": f"{metadata.model_type}, path {metadata.path}",
        "trained through": metadata.trained_through,
        "seeds": list(metadata.seeds),
        "threads": metadata.threads,
        "reported windows": list(workspace.plan.reported_keys),
        "searched": f"{counts.trials} trials ({counts.pruned} pruned) in {counts.studies} studies",
        "looked": f"{counts.looks} evaluations of reported windows",
        **{f"{name} version": v for name, v in sorted(metadata.library_versions.items())},
    }


def _below_home(workspace: Workspace, path: "Path | UPath") -> str:
    home = workspace.settings.home
    if isinstance(path, Path) and path.is_relative_to(home):
        return str(path.relative_to(home))
    return str(path)
