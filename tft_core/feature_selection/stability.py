"""Tier 2: what the exploration folds, taken together, say about each feature.

The rule: a feature is recommended if its evidence stands out from the shadows' at a bounded
false discovery rate, beats their line in most of the folds that had it, and permuting it moves
the model more than permuting a shadow does. The evidence is the selection network's weight;
where the weights do not rank features as the model uses them, it is the permutation importance.
Where all features together can't be told from the shadows, nothing is recommended and the
pre-filtered set goes on.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tft_core.errors import SelectionError
from tft_core.feature_selection.agreement import nogueira, pairwise_agreement, spearman
from tft_core.feature_selection.chance import chance_p_value
from tft_core.feature_selection.config import FeatureSelectionConfig
from tft_core.feature_selection.evidence import (
    PERMUTATION,
    WEIGHT,
    RunMatrices,
    by_fold,
    votes,
)
from tft_core.feature_selection.figures import feature_figures
from tft_core.feature_selection.report import StabilityReport
from tft_core.feature_selection.verdict import (
    coded_reasons,
    coded_verdict,
    recommended_set,
    what_to_believe,
    with_fates,
)


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
    figures = feature_figures(runs, names, evidence, config, groups or {}, clusters)
    p_value, n_tested = _test_against_chance(runs, evidence, clusters, config)
    across = _agreement(runs, evidence, config)
    passing = figures.table.index[figures.table["passes"]]

    reasons = coded_reasons(
        config,
        n_folds=len(runs.folds),
        n_shadows=len(runs.shadows),
        p_value=p_value,
        n_tested=n_tested,
        agreement=agreement["median"],
        folds=across["folds"],
        n_passing=len(passing),
    )
    verdict = coded_verdict(reasons)
    recommended, filled, more = recommended_set(verdict, figures.table, names, config)
    reasons += more
    table = with_fates(figures.table, verdict, recommended, filled)
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
        sentence=what_to_believe(verdict, statistics, len(runs.folds), runs.n_seeds, config),
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
