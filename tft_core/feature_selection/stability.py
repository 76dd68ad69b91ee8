"""Tier 2: what the exploration folds, taken together, say about each feature.

The rule: a feature is recommended if its evidence beats the shadows', in most of the folds
that had it, and permuting it moves the model more than permuting a shadow does. The evidence
is the selection network's weight; where the weights do not rank features as the model uses
them, it is the permutation importance. Where all features together can't be told from the
shadows, nothing is recommended and the pre-filtered set goes on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tft_core.errors import SelectionError
from tft_core.feature_selection.agreement import nogueira, pairwise_agreement, spearman
from tft_core.feature_selection.chance import (
    chance_p_value,
    mean_interval,
    shadow_threshold,
    smallest_p_value,
)
from tft_core.feature_selection.config import FeatureSelectionConfig
from tft_core.feature_selection.evidence import (
    PERMUTATION,
    WEIGHT,
    RunMatrices,
    by_fold,
    votes,
)
from tft_core.feature_selection.report import (
    DISAGREE,
    INFORMATIVE,
    NOT_ABOVE_CHANCE,
    TOO_FEW_FOLDS,
    Reason,
    StabilityReport,
)

MIN_VOTES = 2
"""One fold alone never makes a feature stable, however few folds had it."""


def stability_report(
    records: pd.DataFrame,
    config: FeatureSelectionConfig | None = None,
    groups: Mapping[str, str] | None = None,
    prefiltered: Sequence[str] | None = None,
    *,
    clusters: Sequence[Sequence[str]] = (),
) -> StabilityReport:
    """Aggregate exploration records of folds up to one into a verdict and a feature set.

    A feature that a fold's pre-filter had dropped counts as missing there, not as unselected.

    Args:
        records: One row per fold × seed × input, see ``evidence.RECORD_COLUMNS``. A shadow
            must be the same column in all runs that give it the same name.
        groups: Feature → group, for the breakdown; a feature without one is ``ungrouped``.
        prefiltered: The newest fold's pre-filtered set; default all features of the records.
        clusters: Clusters of correlated features, first member standing for the rest: their
            weights are summed, and only the first takes part in the test against chance, so
            that clones do not count twice.

    Raises:
        SelectionError: The records are unusable or the pre-filtered set is empty.

    As of:
        The newest fold among the records; hand over folds up to the wanted one only.
    """
    config = config or FeatureSelectionConfig()
    runs = RunMatrices.from_records(records)
    names = tuple(prefiltered) if prefiltered is not None else runs.features
    if not names:
        raise SelectionError(
            "the pre-filtered set must hold at least one feature, found none; "
            "look at the pre-filter's table"
        )
    agreement = _weight_agreement(runs)
    weights_agree = agreement["median"] >= config.agreement_threshold
    evidence = WEIGHT if weights_agree or not _is_measured(runs) else PERMUTATION
    figures = _feature_figures(runs, names, evidence, config, groups or {}, clusters)
    p_value, n_tested = _test_against_chance(runs, evidence, clusters, config)
    across = _agreement(runs, evidence, config)
    passing = figures.table.index[figures.table["passes"]]

    reasons = _reasons(
        runs, config, p_value, n_tested, agreement["median"], across["folds"], len(passing)
    )
    verdict = _verdict(reasons)
    recommended, filled, more = _recommend(verdict, figures.table, names, config)
    reasons += more
    table = _tell_fates(figures.table, verdict, recommended, filled)
    statistics = {
        "chance_p_value": p_value,
        "n_tested": float(n_tested),
        "weight_permutation_spearman": agreement["median"],
        "weight_permutation_spearman_lowest": agreement["lowest"],
        "n_prefiltered": float(len(names)),
        "n_passing": float(len(passing)),
        "n_stable_plan_rule": float(table["stable"].sum()),
        "n_recommended": float(len(recommended)),
        "n_filled": float(len(filled)),
        "n_shadows": float(len(runs.shadows)),
        "effective_features": _effective_number(table["weight"].to_numpy()),
    }
    return StabilityReport(
        stable_features=tuple(table.index[table["stable"]]),
        stability_scores={str(n): float(v) for n, v in table["fold_frequency"].items()},
        vsn_weight_per_fold=by_fold(runs.share_of_features()).T.reindex(list(names)),
        recommended_features=recommended,
        feature_group_breakdown=_breakdown(table),
        verdict=verdict,
        reasons=tuple(reasons),
        sentence=_sentence(verdict, statistics, len(runs.folds), runs.n_seeds, config),
        filled_features=filled,
        evidence=evidence,
        table=table,
        fold_evidence=figures.fold_evidence.T,
        shadow_features=runs.shadows,
        fold_thresholds=figures.fold_thresholds,
        threshold=figures.threshold,
        agreement=across,
        clusters=tuple(tuple(c) for c in clusters),
        n_folds=len(runs.folds),
        n_seeds=runs.n_seeds,
        folds=runs.folds,
        statistics=statistics,
    )


def _is_measured(runs: RunMatrices) -> bool:
    return bool(runs.records.loc[~runs.records["is_shadow"], PERMUTATION].notna().any())


def _weight_agreement(runs: RunMatrices) -> dict[str, float]:
    """Spearman(weight, permutation) over real features: median and lowest over runs."""
    weight = runs.runs(WEIGHT)[list(runs.features)].to_numpy()
    permutation = runs.runs(PERMUTATION)[list(runs.features)].to_numpy()
    values = [spearman(w, p) for w, p in zip(weight, permutation, strict=True)]
    known = [v for v in values if np.isfinite(v)]
    if not known:
        return {"median": float("nan"), "lowest": float("nan")}
    return {"median": float(np.median(known)), "lowest": float(np.min(known))}


class _Figures:
    """The per-feature table in the making, with the thresholds it rests on."""

    def __init__(
        self,
        table: pd.DataFrame,
        fold_evidence: pd.DataFrame,
        fold_thresholds: dict[str, float],
        threshold: float,
    ) -> None:
        self.table = table
        self.fold_evidence = fold_evidence
        self.fold_thresholds = fold_thresholds
        self.threshold = threshold


def _feature_figures(
    runs: RunMatrices,
    names: tuple[str, ...],
    evidence: str,
    config: FeatureSelectionConfig,
    groups: Mapping[str, str],
    clusters: Sequence[Sequence[str]],
) -> _Figures:
    relative = runs.relative(evidence)
    folds = by_fold(relative)
    shadows = list(runs.shadows)
    wanted = list(names)
    fold_votes = votes(folds, runs.shadows, config.shadow_quantile).reindex(columns=wanted)
    run_votes = votes(relative, runs.shadows, config.shadow_quantile).reindex(columns=wanted)
    mean = folds.mean(axis=0)
    threshold = shadow_threshold(mean[shadows].to_numpy(), config.shadow_quantile)
    level = config.confidence
    lift, lift_low, lift_high = mean_interval(
        by_fold(runs.relative(WEIGHT)).reindex(columns=wanted).to_numpy(), level
    )
    excess, excess_low, excess_high = mean_interval(_permutation_excess(runs, wanted), level)
    sharpe, sharpe_low, sharpe_high = mean_interval(
        by_fold(runs.runs("perm_dsharpe")).reindex(columns=wanted).to_numpy(), level
    )
    share = by_fold(runs.share_of_features()).reindex(columns=wanted)
    cluster_of = {name: c[0] for c in clusters for name in c}
    n_present = fold_votes.notna().sum(axis=0).to_numpy()
    n_votes = fold_votes.sum(axis=0).to_numpy()
    table = pd.DataFrame(
        {
            "group": [groups.get(name, "ungrouped") for name in wanted],
            "cluster": [cluster_of.get(name, name) for name in wanted],
            "n_folds": n_present,
            "n_missing": len(runs.folds) - n_present,
            "weight": share.mean(axis=0).to_numpy(),
            "lift": lift,
            "lift_low": lift_low,
            "lift_high": lift_high,
            "evidence": mean.reindex(wanted).to_numpy(),
            "fold_frequency": fold_votes.mean(axis=0).to_numpy(),
            "run_frequency": run_votes.mean(axis=0).to_numpy(),
            "perm_dposition": by_fold(runs.runs(PERMUTATION)).mean().reindex(wanted).to_numpy(),
            "perm_excess": excess,
            "perm_excess_low": excess_low,
            "perm_excess_high": excess_high,
            "perm_dsharpe": sharpe,
            "perm_dsharpe_low": sharpe_low,
            "perm_dsharpe_high": sharpe_high,
            "ig": by_fold(runs.runs("ig")).mean().reindex(wanted).to_numpy(),
        },
        index=pd.Index(wanted, name="feature", dtype="str"),
    )
    table["cluster_weight"] = table.groupby("cluster")["weight"].transform("sum")
    table["above_shadow"] = table["evidence"] > threshold
    table["folds_agree"] = (n_votes >= MIN_VOTES) & (
        n_votes >= config.stability_min_folds * n_present
    )
    table["permutation_agrees"] = table["perm_excess_low"] > 0.0
    table["passes"] = table[["above_shadow", "folds_agree", "permutation_agrees"]].all(axis=1)
    table["stable"] = _plan_rule(share, config)
    table["rank"] = table["evidence"].rank(ascending=False, method="first", na_option="bottom")
    limits = {
        str(fold): shadow_threshold(row.to_numpy(dtype=float), config.shadow_quantile)
        for fold, row in folds[shadows].iterrows()
    }
    return _Figures(table.sort_values("rank"), folds, limits, threshold)


def _permutation_excess(runs: RunMatrices, wanted: list[str]) -> np.ndarray:
    """Folds × features: permutation effect above that of the run's mean shadow.

    The mean absolute change of position can't be negative, so its distance from zero shows
    nothing; its distance from what a shadow does shows something.
    """
    values = runs.runs(PERMUTATION)
    shadow_mean = values[list(runs.shadows)].mean(axis=1)
    excess = values.reindex(columns=wanted).sub(shadow_mean, axis=0)
    return by_fold(excess).to_numpy()


def _plan_rule(share: pd.DataFrame, config: FeatureSelectionConfig) -> np.ndarray:
    """The plan: mean weight above the threshold, and above it in enough of the folds."""
    above = (share > config.vsn_weight_threshold).where(share.notna())
    frequency = above.astype("float64").mean(axis=0)
    return (
        (share.mean(axis=0) > config.vsn_weight_threshold)
        & (frequency >= config.stability_min_folds)
    ).to_numpy()


def _test_against_chance(
    runs: RunMatrices,
    evidence: str,
    clusters: Sequence[Sequence[str]],
    config: FeatureSelectionConfig,
) -> tuple[float, int]:
    mean = by_fold(runs.relative(evidence)).mean(axis=0)
    followers = {name for cluster in clusters for name in cluster[1:]}
    tested = [name for name in runs.features if name not in followers]
    p_value = chance_p_value(
        mean[tested].to_numpy(), mean[list(runs.shadows)].to_numpy(), seed=config.seed
    )
    return p_value, len(tested)


def _agreement(
    runs: RunMatrices, evidence: str, config: FeatureSelectionConfig
) -> dict[str, dict[str, float]]:
    relative = runs.relative(evidence)
    chosen = votes(relative, runs.shadows, config.shadow_quantile)
    real, shadows = list(runs.features), list(runs.shadows)
    within_fold = pairwise_agreement(relative[real], chosen[real], within="fold")
    within_fold |= _mean_nogueira(chosen[real], "fold", config.confidence)
    within_seed = pairwise_agreement(relative[real], chosen[real], within="seed")
    within_seed |= _mean_nogueira(chosen[real], "seed", config.confidence)
    folds = by_fold(relative)
    fold_votes = votes(folds, runs.shadows, config.shadow_quantile)
    return {
        "seeds_within_fold": within_fold,
        "folds_within_seed": within_seed,
        "folds": _across_folds(folds[real], fold_votes[real], config.confidence),
        "folds_shadows": _across_folds(folds[shadows], fold_votes[shadows], config.confidence),
    }


def _across_folds(
    evidence: pd.DataFrame, chosen: pd.DataFrame, confidence: float
) -> dict[str, float]:
    """Agreement of the folds' seed means; all folds share one pretended seed."""
    index = pd.MultiIndex.from_product([evidence.index, [0]], names=["fold", "seed"])
    pairs = pairwise_agreement(
        evidence.set_axis(index, axis=0), chosen.set_axis(index, axis=0), within="seed"
    )
    return pairs | _nogueira_of(chosen, confidence)


def _nogueira_of(chosen: pd.DataFrame, confidence: float) -> dict[str, float]:
    common = chosen.dropna(axis=1)
    phi = nogueira(common.to_numpy() > 0.5, confidence)
    return {"nogueira": phi.phi, "nogueira_low": phi.lower, "nogueira_high": phi.upper}


def _mean_nogueira(chosen: pd.DataFrame, level: str, confidence: float) -> dict[str, float]:
    parts = pd.DataFrame(
        [_nogueira_of(rows, confidence) for _, rows in chosen.groupby(level=level)]
    )
    return {str(name): float(value) for name, value in parts.mean().items()}


def _reasons(
    runs: RunMatrices,
    config: FeatureSelectionConfig,
    p_value: float,
    n_tested: int,
    agreement: float,
    folds: Mapping[str, float],
    n_passing: int,
) -> list[Reason]:
    found = []
    n_folds, n_shadows = len(runs.folds), len(runs.shadows)
    if n_folds < config.min_folds:
        found.append(
            Reason(
                TOO_FEW_FOLDS,
                f"{n_folds} of at least {config.min_folds} folds explored",
                n_folds,
                config.min_folds,
            )
        )
    if not n_shadows:
        found.append(Reason("no_shadows", "no shadow features were explored: chance is unknown"))
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
    if n_folds >= 2 and not (folds["nogueira_low"] > 0.0 or folds["jaccard"] == 1.0):
        found.append(
            Reason(
                "folds_agree_no_better_than_chance",
                f"the folds' choices overlap like random ones (Nogueira "
                f"{folds['nogueira']:.2f}, interval from {folds['nogueira_low']:.2f})",
                folds["nogueira_low"],
                0.0,
            )
        )
    if not n_passing:
        found.append(
            Reason("no_feature_passes", "no feature meets all three conditions of the rule", 0, 1)
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


def _verdict(reasons: Sequence[Reason]) -> str:
    codes = {reason.code for reason in reasons}
    if TOO_FEW_FOLDS in codes:
        return TOO_FEW_FOLDS
    if codes - {DISAGREE, "agreement_unknown"}:
        return NOT_ABOVE_CHANCE
    return DISAGREE if codes else INFORMATIVE


def _recommend(
    verdict: str, table: pd.DataFrame, names: tuple[str, ...], config: FeatureSelectionConfig
) -> tuple[tuple[str, ...], tuple[str, ...], list[Reason]]:
    """The recommended features best first, those only filled in, and what to say about it."""
    if verdict in (TOO_FEW_FOLDS, NOT_ABOVE_CHANCE):
        note = Reason(
            "prefiltered_set_passed_on",
            f"nothing was selected; all {len(names)} pre-filtered features go on",
            len(names),
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
                len(passing),
                most,
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
                len(kept),
                least,
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
            len(kept),
            least,
        )
    )
    return (*kept, *filled), filled, notes


def _tell_fates(
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
        if not row.folds_agree:
            return "folds_disagree"
        if not row.permutation_agrees:
            return "permutation_interval_holds_zero"
        return "beyond_maximum"

    told = table.copy()
    told["recommended"] = [name in chosen for name in told.index]
    told["fate"] = [fate(str(row.Index), row) for row in told.itertuples()]
    return told


def _breakdown(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    total = float(table["weight"].sum())
    return {
        str(group): {
            "prefiltered": float(len(rows)),
            "stable": float(rows["stable"].sum()),
            "passing": float(rows["passes"].sum()),
            "recommended": float(rows["recommended"].sum()),
            "weight_share": float(rows["weight"].sum()) / total if total > 0 else float("nan"),
        }
        for group, rows in table.groupby("group")
    }


def _effective_number(weight: np.ndarray) -> float:
    """exp(entropy) of the mean weights: how many features share the weight evenly."""
    known = weight[np.isfinite(weight) & (weight > 0.0)]
    if not len(known):
        return float("nan")
    p = known / known.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


def _sentence(
    verdict: str,
    statistics: Mapping[str, float],
    n_folds: int,
    n_seeds: int,
    config: FeatureSelectionConfig,
) -> str:
    runs = f"{n_folds} fold{'s' if n_folds != 1 else ''} × {n_seeds} seed{'s' if n_seeds != 1 else ''}"
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
    return (
        f"Believe the top {believed} of {total}: over {runs} they beat the shadow features in most "
        f"folds and the model moves when they are permuted (p = "
        f"{statistics['chance_p_value']:.3f} against chance, Spearman with permutation "
        f"{statistics['weight_permutation_spearman']:.2f}).{tail}"
    )
