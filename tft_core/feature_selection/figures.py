"""The stability report's table: every figure of every feature, before any verdict.

Folds, not runs, are the repeats behind the intervals of weights and of Sharpe ratios: seeds of one
fold share its data. Behind the permutation effect it is the runs: it tells what trained networks
use, and that folds agree is asked for by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tft_core.feature_selection.chance import (
    mean_interval,
    q_values,
    shadow_threshold,
    tail_p_values,
)
from tft_core.feature_selection.config import FeatureSelectionConfig
from tft_core.feature_selection.evidence import (
    PERMUTATION,
    WEIGHT,
    RunMatrices,
    by_fold,
    votes,
)

MIN_VOTES = 2
"""One fold alone never makes a feature stable, however few folds had it."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFigures:
    """The per-feature table in the making, with the thresholds it rests on."""

    table: pd.DataFrame
    fold_evidence: pd.DataFrame
    """Fold × input, in units of an even share."""
    fold_thresholds: dict[str, float]
    """Fold → what a feature must exceed there."""
    threshold: float
    """What the mean over folds must exceed; NaN without shadows."""


def feature_figures(
    runs: RunMatrices,
    names: tuple[str, ...],
    evidence: str,
    config: FeatureSelectionConfig,
    groups: Mapping[str, str],
    clusters: Sequence[Sequence[str]],
) -> FeatureFigures:
    """Every figure of some features, best evidence first, and whether they meet the rule.

    Args:
        names: The features asked about; NaN where no run had one.
        evidence: ``WEIGHT`` or ``PERMUTATION``: what features are ranked and tested by.
        groups: Feature → group.
        clusters: Correlated features, the first standing for the rest.
    """
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
    p_value = tail_p_values(table["evidence"].to_numpy(), mean[shadows].to_numpy())
    table["q_value"] = q_values(p_value)
    table["is_discovery"] = table["q_value"] <= config.max_fdr
    table["passes"] = table[
        ["above_shadow", "is_discovery", "folds_agree", "permutation_agrees"]
    ].all(axis=1)
    table["stable"] = _plan_rule(share, config)
    table["rank"] = table["evidence"].rank(ascending=False, method="first", na_option="bottom")
    limits = {
        str(fold): shadow_threshold(row.to_numpy(dtype=float), config.shadow_quantile)
        for fold, row in folds[shadows].iterrows()
    }
    return FeatureFigures(table.sort_values("rank"), folds, limits, threshold)


def _permutation_excess(runs: RunMatrices, wanted: list[str]) -> np.ndarray:
    """Runs × features: permutation effect above the mean shadow's, 1 = the run's mean input.

    The mean absolute change of position can't be negative, so its distance from zero shows
    nothing; its distance from what a shadow does shows something. In units of the run's
    own mean, since how large positions are differs from run to run.
    """
    values = runs.relative(PERMUTATION)
    shadow_mean = values[list(runs.shadows)].mean(axis=1)
    excess = values.reindex(columns=wanted).sub(shadow_mean, axis=0)
    return excess.to_numpy()


def _plan_rule(share: pd.DataFrame, config: FeatureSelectionConfig) -> np.ndarray:
    """The plan: mean weight above the threshold, and above it in enough of the folds."""
    above = (share > config.vsn_weight_threshold).where(share.notna())
    frequency = above.astype("float64").mean(axis=0)
    return (
        (share.mean(axis=0) > config.vsn_weight_threshold)
        & (frequency >= config.stability_min_folds)
    ).to_numpy()
