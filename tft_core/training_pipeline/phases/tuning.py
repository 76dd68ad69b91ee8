"""Phase ``optuna_study``: tune on the newest inner folds of a fold's training window."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from tft_core.config import Settings
from tft_core.evidence import EvidenceLedger, search_evidence
from tft_core.hp_tuner import HPTuner, TunerConfig, finished_trials, importances
from tft_core.reports.html import study_page
from tft_core.reports.study_plots import history_png, importances_png, parallel_png
from tft_core.schema import MODEL_TYPE, finite_or_none
from tft_core.training_pipeline.artifacts import Draft
from tft_core.training_pipeline.configured import default_params, default_values
from tft_core.training_pipeline.graph import SPECS, study_key, window_rule
from tft_core.training_pipeline.phases.objective import StudyObjective
from tft_core.training_pipeline.workspace import Progress, Workspace


def optuna_study(
    workspace: Workspace, key: str, draft: Draft, overrides: Mapping[str, Any], progress: Progress
) -> None:
    """The fold's study, or a pointer to the earlier study that the fold uses."""
    used = study_key(key, workspace.plan, workspace.retune_every)
    if used != key:
        draft.write_json("study.json", {"study": used})
        draft.summary.update(study=used, is_pointer=True)
        return
    default = default_params(workspace.settings)
    if "tuning" in workspace.skip:
        draft.write_json(
            "study.json",
            {"study": key, "skipped": True, "best_params": default, "default_params": default},
        )
        draft.summary.update(study=key, skipped=True)
        return
    settings = workspace.settings
    config = settings.build(TunerConfig, "tuning", **overrides)
    count_trials(settings)
    tuner = HPTuner(
        config,
        partial(StudyObjective, workspace, key, config),
        settings.studies_url,
        f"{MODEL_TYPE}-{key}",
        defaults=default_values(workspace.settings),
        identity=study_identity(workspace, key),
    )
    result = tuner.tune(
        lambda number, total, value, best: progress(
            f"optuna_study {key}: trial {number + 1}{'' if total == np.inf else f' of {total}'}, "
            f"objective {value:.2f}, best {best:.2f}"
        )
    )
    count_trials(settings)
    daily = result.daily.rename(columns=str)
    study = {
        "study": key,
        **_without_times(result.to_dict()),
        "importances": [asdict(i) for i in importances(result.trials, tuner.space)],
        "evidence": search_evidence(daily, str(result.best_number)).to_dict(),
    }
    draft.write_json("study.json", study)
    draft.write_frame("table_trials.parquet", result.trials.drop(columns=["seconds", "attempts"]))
    draft.write_frame("daily.parquet", daily.reset_index())
    draft.write_text("study.html", study_page(study, f"Study of fold {key}"))
    draft.write_bytes("history.png", history_png(result.trials))
    draft.write_bytes("importances.png", importances_png(study["importances"]))
    draft.write_bytes("parallel.png", parallel_png(result.trials, result.best_number))
    draft.summary.update(
        study=key,
        is_pointer=False,
        best_value=finite_or_none(result.best_value),
        default_value=finite_or_none(result.default_value),
        deflated_sharpe=study["evidence"]["deflation"]["deflated"],
        overfitting_probability=study["evidence"]["overfitting"]["probability"],
        n_finished=result.n_finished,
        n_pruned=result.n_pruned,
        budget=result.budget.sentence,
        best_params=str(result.best_params),
        seconds=round(float(result.trials["seconds"].sum()), 1),
        optimiser_steps=int(result.trials["optimiser_steps"].sum()),
    )


def count_trials(settings: Settings) -> EvidenceLedger:
    """The ledger, with every finished trial of the study database counted.

    All studies, also those that were killed or left behind when space or data changed.
    """
    ledger = EvidenceLedger.under(settings.home)
    for name, trials in finished_trials(settings.studies_url, f"{MODEL_TYPE}-").items():
        ledger.record_trials(name, trials)
    return ledger


def _without_times(study: dict[str, Any]) -> dict[str, Any]:
    """The study without wall times, which differ between two runs of the same search."""
    trials = [
        {k: v for k, v in row.items() if k not in ("seconds", "attempts")}
        for row in study["trials"]
    ]
    return {**{k: v for k, v in study.items() if k != "seconds"}, "trials": trials}


def study_identity(workspace: Workspace, key: str) -> dict[str, Any]:
    """What gives a trial its meaning beside space and budget: data, features, other settings."""
    spec, sections = SPECS["optuna_study"], workspace.settings.sections
    return {
        "upstream": workspace.upstream_hashes("optuna_study", key),
        "settings": {name: sections.get(name, {}) for name in spec.sections if name != "tuning"},
        "folds": window_rule(workspace.settings),
        "code": spec.code_version,
    }
