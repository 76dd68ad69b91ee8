"""From figures to a coded verdict, a feature set, and the words that go with them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tft_core.feature_selection.chance import MIN_SHADOWS, smallest_p_value
from tft_core.feature_selection.config import FeatureSelectionConfig
from tft_core.feature_selection.report import (
    DISAGREE,
    INFORMATIVE,
    NOT_ABOVE_CHANCE,
    TOO_FEW_FOLDS,
    Reason,
)


def coded_reasons(
    config: FeatureSelectionConfig,
    *,
    n_folds: int,
    n_shadows: int,
    p_value: float,
    n_tested: int,
    agreement: float,
    folds: Mapping[str, float],
    n_passing: int,
) -> list[Reason]:
    """Every objection to what the folds seem to say; none means that it may be believed.

    Args:
        p_value: Of all features against all shadows.
        n_tested: Features that took part in that test.
        agreement: Spearman(weight, permutation), median over runs; NaN if not measured.
        folds: Nogueira's and Jaccard's figures of the folds' choices.
        n_passing: Features that meet all conditions of the rule.
    """
    found = []
    if n_folds < config.min_folds:
        found.append(
            Reason(
                TOO_FEW_FOLDS,
                f"{n_folds} of at least {config.min_folds} folds explored",
                float(n_folds),
                float(config.min_folds),
            )
        )
    if n_shadows < MIN_SHADOWS:
        found.append(
            Reason(
                "too_few_shadows",
                f"{n_shadows} of at least {MIN_SHADOWS} shadow features were explored: chance is "
                "unknown",
                float(n_shadows),
                float(MIN_SHADOWS),
            )
        )
    elif not p_value <= config.chance_level:
        least = smallest_p_value(n_tested, n_shadows, min(10, n_tested))
        found.append(
            Reason(
                "features_rank_like_shadows",
                f"features do not outrank {n_shadows} shadows (p = {p_value:.3f}); ten perfect "
                f"features among {n_tested} would give p = {least:.3f}",
                p_value,
                config.chance_level,
            )
        )
    agrees = folds["nogueira_low"] > 0.0 or folds["jaccard"] == 1.0
    if n_folds >= 2 and n_shadows >= MIN_SHADOWS and not agrees:
        overlap = (
            "nothing is above the shadows in any fold"
            if np.isnan(folds["nogueira"])
            else f"the folds' choices overlap like random ones (Nogueira {folds['nogueira']:.2f}, "
            f"interval from {folds['nogueira_low']:.2f})"
        )
        found.append(
            Reason("folds_agree_no_better_than_chance", overlap, folds["nogueira_low"], 0.0)
        )
    if not n_passing:
        found.append(
            Reason("no_feature_passes", "no feature meets all conditions of the rule", 0.0, 1.0)
        )
    if np.isnan(agreement):
        found.append(
            Reason("agreement_unknown", "permutation importance was not measured or is constant")
        )
    elif agreement < config.agreement_threshold:
        found.append(
            Reason(
                DISAGREE,
                f"weights rank features unlike the model uses them (Spearman {agreement:.2f}); "
                "permutation importance is the evidence instead",
                agreement,
                config.agreement_threshold,
            )
        )
    return found


def coded_verdict(reasons: Sequence[Reason]) -> str:
    """The weightiest of the objections decides: too few folds, chance, then disagreement."""
    codes = {reason.code for reason in reasons}
    if TOO_FEW_FOLDS in codes:
        return TOO_FEW_FOLDS
    if codes - {DISAGREE, "agreement_unknown"}:
        return NOT_ABOVE_CHANCE
    return DISAGREE if codes else INFORMATIVE


def recommended_set(
    verdict: str, table: pd.DataFrame, names: tuple[str, ...], config: FeatureSelectionConfig
) -> tuple[tuple[str, ...], tuple[str, ...], list[Reason]]:
    """The recommended features best first, those only filled in, and what to say about it."""
    if verdict in (TOO_FEW_FOLDS, NOT_ABOVE_CHANCE):
        note = Reason(
            "prefiltered_set_passed_on",
            f"nothing was selected; all {len(names)} pre-filtered features go on",
            float(len(names)),
        )
        return names, (), [note]
    passing = [str(name) for name in table.index[table["passes"]]]
    most, least = config.final_max_features, min(config.final_min_features, len(names))
    notes = []
    if len(passing) > most:
        notes.append(
            Reason(
                "cut_to_maximum",
                f"{len(passing)} features pass; the best {most} are kept",
                float(len(passing)),
                float(most),
            )
        )
    kept = passing[:most]
    if len(kept) >= least:
        return tuple(kept), (), notes
    if verdict == DISAGREE:
        notes.append(
            Reason(
                "below_minimum",
                f"{len(kept)} features pass, fewer than {least}; the rank is not to be trusted "
                "beyond them, so none is filled in",
                float(len(kept)),
                float(least),
            )
        )
        return tuple(kept), (), notes
    ranked = [str(name) for name in table.index if name not in set(kept)]
    filled = tuple(ranked[: least - len(kept)])
    notes.append(
        Reason(
            "filled_by_rank",
            f"{len(kept)} features pass; {len(filled)} more are filled in by rank to reach "
            f"{least}, without evidence of their own",
            float(len(kept)),
            float(least),
        )
    )
    return (*kept, *filled), filled, notes


def with_fates(
    table: pd.DataFrame, verdict: str, recommended: tuple[str, ...], filled: tuple[str, ...]
) -> pd.DataFrame:
    """The table with ``recommended`` and, per feature, the first reason for its fate."""
    chosen, by_rank = set(recommended), set(filled)

    def fate(name: str, row: Any) -> str:
        if verdict in (TOO_FEW_FOLDS, NOT_ABOVE_CHANCE):
            return "passed_on"
        if name in by_rank:
            return "filled_by_rank"
        if name in chosen:
            return "recommended"
        if row.n_folds == 0:
            return "never_explored"
        if not row.above_shadow:
            return "below_shadows"
        if not row.is_discovery:
            return "false_discoveries_too_likely"
        if not row.folds_agree:
            return "folds_disagree"
        if not row.permutation_agrees:
            return "permutation_interval_holds_zero"
        return "beyond_maximum"

    told = table.copy()
    told["recommended"] = [name in chosen for name in told.index]
    told["fate"] = [fate(str(row.Index), row) for row in told.itertuples()]
    return told


def what_to_believe(
    verdict: str,
    statistics: Mapping[str, float],
    n_folds: int,
    n_seeds: int,
    config: FeatureSelectionConfig,
) -> str:
    """The verdict in a sentence or two, with the figures it rests on.

    Args:
        statistics: As ``StabilityReport.statistics``.
    """
    runs = (
        f"{n_folds} fold{'s' if n_folds != 1 else ''} × {n_seeds} seed{'s' if n_seeds != 1 else ''}"
    )
    n, total = int(statistics["n_recommended"]), int(statistics["n_prefiltered"])
    passing = int(statistics["n_passing"])
    if verdict == TOO_FEW_FOLDS:
        return (
            f"Believe nothing yet: {runs} is too little (at least {config.min_folds} folds are "
            f"asked for). All {total} pre-filtered features go on."
        )
    if verdict == NOT_ABOVE_CHANCE:
        return (
            f"Do not believe the ranking: over {runs} the features can't be told from shuffled "
            f"ones. All {total} pre-filtered features go on, and none is claimed to matter."
        )
    if verdict == DISAGREE:
        return (
            f"Do not read the weights as importance: the model uses its inputs otherwise "
            f"(Spearman {statistics['weight_permutation_spearman']:.2f}). The {n} features "
            f"recommended rest on permutation over {runs}, above the shadows."
        )
    filled = int(statistics["n_filled"])
    believed = passing - max(passing - config.final_max_features, 0)
    tail = (
        f" The other {filled} of the {n} recommended are the next by rank and prove nothing."
        if filled
        else ""
    )
    p_value = statistics["chance_p_value"]
    chance = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    return (
        f"Believe the top {believed} of {total}: over {runs} they beat the shadow features in most "
        f"folds and the model moves when they are permuted ({chance} against chance, Spearman "
        f"with permutation {statistics['weight_permutation_spearman']:.2f}).{tail}"
    )
