"""The report of one study: what was searched, what was found, and what that is worth.

Everything comes from the stored study (``study.json``), so the page can't say other numbers.
The blocks of its sections stand in the tear sheet too.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from tft_core.reports.page import (
    Absent,
    Block,
    Bullets,
    Card,
    Cards,
    Figure,
    Figures,
    Section,
    Table,
    Text,
    cell_text,
    render_page,
)
from tft_core.reports.study_plots import history_png, importances_png, parallel_png


def study_page(study: Mapping[str, Any], title: str) -> str:
    """One self-contained page.

    Args:
        study: ``TuningResult.to_dict()`` with ``importances`` and ``evidence``.
    """
    return render_page(
        title,
        [
            Section("Study", study_blocks(study)),
            Section("What the best trial is worth", worth_blocks(study)),
            Section("Parameters", parameter_blocks(study)),
            Section("Trials", [trials_table(study, folded=False)]),
        ],
        subtitle=str(study["study_name"]),
        footer=(
            "Every trial is scored on inner walk-forward windows before the fold's test start: "
            "net portfolio Sharpe ratio over the pooled days, mean over seeds, minus a multiple "
            "of its standard error."
        ),
    )


def study_blocks(study: Mapping[str, Any]) -> list[Block]:
    """How the search went."""
    return [
        Cards(
            [
                Card("trials finished", cell_text(study["n_finished"], "")),
                Card("of them pruned", cell_text(study["n_pruned"], "")),
                Card("best objective", cell_text(study["best_value"], "")),
                Card("default's objective", cell_text(study["default_value"], "")),
            ]
        ),
        Text(str(study["budget"]["sentence"])),
        Text(f"Best (trial {study['best_number']}): {cell_text(study['best_params'], '')}"),
        Text(f"Default (trial 0): {cell_text(study['default_params'], '')}"),
        Figures(
            [
                Figure(
                    history_png(trials_frame(study)),
                    "The line can only rise: the best of many noisy values flatters itself.",
                    "Objective of each trial in order, with the best so far and the default",
                )
            ]
        ),
    ]


def worth_blocks(study: Mapping[str, Any]) -> list[Block]:
    """Deflation and overfitting in plain words, with their figures."""
    evidence = study.get("evidence")
    if evidence is None:
        return [Absent("The evidence on this search was not recorded.")]
    deflation, overfitting = evidence["deflation"], evidence["overfitting"]
    return [
        Bullets(list(evidence["sentences"])),
        Cards(
            [
                Card("Sharpe, best trial", cell_text(deflation["sharpe"], "")),
                Card("expected of the best on noise", cell_text(deflation["expected_max"], "")),
                Card("deflated Sharpe: P(skill)", cell_text(deflation["deflated"], "share")),
                Card("overfitting (PBO)", cell_text(overfitting["probability"], "share")),
                Card("trials that differed", cell_text(deflation["n_effective"], "")),
                Card("days to convince", _days_text(deflation)),
            ]
        ),
    ]


def _days_text(deflation: Mapping[str, Any]) -> str:
    """Days of record that would convince; a figure below what noise shows never does."""
    if deflation["min_record_days"] is None and deflation["expected_max"] is not None:
        return "none would"
    days = deflation["min_record_days"]
    return cell_text(days if days is None else round(days), "")


def parameter_blocks(study: Mapping[str, Any]) -> list[Block]:
    """Importances and parallel coordinates."""
    importances = study.get("importances") or []
    frame = trials_frame(study)
    blocks: list[Block] = [
        Figures(
            [
                Figure(
                    importances_png(importances),
                    "Share of each setting in telling the best trials from the rest "
                    "(PED-ANOVA). Pale bars are what chance shows too.",
                    "Bars of the importance of each hyper-parameter with its level of chance",
                ),
                Figure(
                    parallel_png(frame, int(study["best_number"])),
                    "One line a trial, darker the better; pale grey: pruned. A setting that a "
                    "trial had no use for is skipped.",
                    "Parallel coordinates of the parameters of each trial",
                ),
            ]
        )
    ]
    if not importances:
        blocks.append(Absent("Importances need ten complete trials and two settings that vary."))
    else:
        table = pd.DataFrame(importances).set_index("name").rename_axis("setting")
        table = table.assign(above_chance=table["share"] > table["chance"])
        names = {"share": "share of importance", "chance": "share by chance (95 %)"}
        blocks.append(Table(table.rename(columns=names), "Importance of each setting", folded=True))
    return blocks


def trials_table(study: Mapping[str, Any], *, folded: bool = True) -> Table:
    """Each trial: its state, figures, parameters, and why it was pruned."""
    frame = trials_frame(study)
    folds = [c for c in frame.columns if str(c).startswith("sharpe_fold_")]
    params = [c for c in frame.columns if str(c).startswith("params_")]
    shown = frame[
        ["number", "state", "value", "sharpe", "sharpe_se", *folds, *params, "pruned_reason"]
    ]
    shown = shown.rename(
        columns={
            **{name: name.removeprefix("params_") for name in params},
            **{name: f"inner fold {name.removeprefix('sharpe_fold_')}" for name in folds},
            "value": "objective",
        }
    ).set_index("number")
    return Table(shown.rename_axis("trial"), f"All {len(shown)} trials", folded=folded)


def trials_frame(study: Mapping[str, Any]) -> pd.DataFrame:
    """The stored trials as a frame; undefined figures NaN."""
    frame = pd.DataFrame(list(study["trials"]))
    numbers = [
        c for c in frame.columns
        if c in ("value", "sharpe", "sharpe_se") or str(c).startswith("sharpe_fold_")
    ]  # fmt: skip
    return frame.astype(dict.fromkeys(numbers, "float64"))
