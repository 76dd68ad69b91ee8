"""What the stability analysis found, as one frozen, JSON-able value.

No statistics here: ``stability`` computes, this file holds, tells and stores.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tft_core.errors import SelectionError
from tft_core.schema import finite_or_none, float_or_nan

INFORMATIVE = "informative"
DISAGREE = "weights_disagree_with_model"
NOT_ABOVE_CHANCE = "not_above_chance"
TOO_FEW_FOLDS = "too_few_folds"
VERDICTS = (INFORMATIVE, DISAGREE, NOT_ABOVE_CHANCE, TOO_FEW_FOLDS)


@dataclass(frozen=True, slots=True)
class Reason:
    """One coded reason behind a verdict, with the figure it rests on."""

    code: str
    message: str
    value: float = float("nan")
    limit: float = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class StabilityReport:
    """Which features the folds so far support, how surely, and what to make of it."""

    stable_features: tuple[str, ...]
    """By the plan's rule: mean weight above its threshold and chosen in enough folds."""
    stability_scores: Mapping[str, float]
    """Share of the folds having the feature in which it beats the fold's shadows."""
    vsn_weight_per_fold: pd.DataFrame
    """Feature × fold: the weight's share among real features, mean of seeds; NaN missing."""
    recommended_features: tuple[str, ...]
    """What the production pass should use, best first."""
    feature_group_breakdown: Mapping[str, Mapping[str, float]]
    """Group → counts (prefiltered, stable, recommended) and its share of the weight."""
    verdict: str
    reasons: tuple[Reason, ...]
    sentence: str
    """What to believe, in words."""
    filled_features: tuple[str, ...]
    """Recommended by rank only, to reach ``final_min_features``; no evidence is claimed."""
    evidence: str
    """``weight``, or ``perm_dposition`` where the weights do not tell what the model uses."""
    table: pd.DataFrame
    """One row per pre-filtered feature: every figure and the reason for its fate."""
    fold_evidence: pd.DataFrame
    """Input × fold: the evidence in units of an even share (lift), shadows included."""
    shadow_features: tuple[str, ...]
    fold_thresholds: Mapping[str, float]
    """Fold → lift that a feature must beat to be above its shadows."""
    threshold: float
    """The same over the mean of all folds."""
    agreement: Mapping[str, Mapping[str, float]]
    """``seeds_within_fold``, ``folds_within_seed``, ``folds`` and ``folds_shadows``: Kendall,
    Jaccard, Nogueira with interval. Seeds agreeing is no evidence, folds agreeing is."""
    clusters: tuple[tuple[str, ...], ...]
    n_folds: int
    n_seeds: int
    folds: tuple[str, ...] = ()
    statistics: Mapping[str, float] = field(default_factory=dict)
    """Chance p value, weight–permutation agreement, counts."""

    @property
    def passes_prefiltered_on(self) -> bool:
        """True where nothing was selected and the pre-filtered set goes on as it is."""
        return self.verdict in (TOO_FEW_FOLDS, NOT_ABOVE_CHANCE)

    def to_dict(self) -> dict[str, Any]:
        """The report in plain types; a figure that is undefined is ``None``."""
        return {
            "stable_features": list(self.stable_features),
            "stability_scores": _numbers(self.stability_scores),
            "vsn_weight_per_fold": _frame_to_dict(self.vsn_weight_per_fold),
            "recommended_features": list(self.recommended_features),
            "feature_group_breakdown": {
                group: _numbers(row) for group, row in self.feature_group_breakdown.items()
            },
            "verdict": self.verdict,
            "reasons": [
                {
                    "code": reason.code,
                    "message": reason.message,
                    "value": finite_or_none(reason.value),
                    "limit": finite_or_none(reason.limit),
                }
                for reason in self.reasons
            ],
            "sentence": self.sentence,
            "filled_features": list(self.filled_features),
            "evidence": self.evidence,
            "table": _frame_to_dict(self.table),
            "fold_evidence": _frame_to_dict(self.fold_evidence),
            "shadow_features": list(self.shadow_features),
            "fold_thresholds": _numbers(self.fold_thresholds),
            "threshold": finite_or_none(self.threshold),
            "agreement": {name: _numbers(row) for name, row in self.agreement.items()},
            "clusters": [list(cluster) for cluster in self.clusters],
            "n_folds": self.n_folds,
            "n_seeds": self.n_seeds,
            "folds": list(self.folds),
            "statistics": _numbers(self.statistics),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "StabilityReport":
        """Inverse of ``to_dict``.

        Raises:
            SelectionError: The stored verdict is none that this version knows.
        """
        if data["verdict"] not in VERDICTS:
            raise SelectionError(
                f"a stability verdict must be one of {', '.join(VERDICTS)}, "
                f"found {data['verdict']!r}; make the report again"
            )
        return cls(
            stable_features=tuple(data["stable_features"]),
            stability_scores=_floats(data["stability_scores"]),
            vsn_weight_per_fold=_frame_from_dict(data["vsn_weight_per_fold"]),
            recommended_features=tuple(data["recommended_features"]),
            feature_group_breakdown={
                group: _floats(row) for group, row in data["feature_group_breakdown"].items()
            },
            verdict=data["verdict"],
            reasons=tuple(
                Reason(r["code"], r["message"], float_or_nan(r["value"]), float_or_nan(r["limit"]))
                for r in data["reasons"]
            ),
            sentence=data["sentence"],
            filled_features=tuple(data["filled_features"]),
            evidence=data["evidence"],
            table=_frame_from_dict(data["table"]),
            fold_evidence=_frame_from_dict(data["fold_evidence"]),
            shadow_features=tuple(data["shadow_features"]),
            fold_thresholds=_floats(data["fold_thresholds"]),
            threshold=float_or_nan(data["threshold"]),
            agreement={name: _floats(row) for name, row in data["agreement"].items()},
            clusters=tuple(tuple(cluster) for cluster in data["clusters"]),
            n_folds=int(data["n_folds"]),
            n_seeds=int(data["n_seeds"]),
            folds=tuple(data["folds"]),
            statistics=_floats(data["statistics"]),
        )


def _floats(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float_or_nan(value) for name, value in values.items()}


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {str(name): finite_or_none(value) for name, value in values.items()}


def _frame_to_dict(frame: pd.DataFrame) -> dict[str, Any]:
    columns = {}
    for name in frame.columns:
        column = frame[name]
        is_number = pd.api.types.is_float_dtype(column.dtype)
        columns[str(name)] = {
            "kind": "number" if is_number else str(column.dtype),
            "values": [finite_or_none(v) for v in column] if is_number else column.tolist(),
        }
    return {"index": [str(i) for i in frame.index], "columns": columns}


def _frame_from_dict(data: Mapping[str, Any]) -> pd.DataFrame:
    index = pd.Index(data["index"], name="feature", dtype="str")
    columns = {
        name: pd.Series(
            [float_or_nan(v) for v in column["values"]]
            if column["kind"] == "number"
            else column["values"],
            index=index,
            dtype="float64" if column["kind"] == "number" else column["kind"],
        )
        for name, column in data["columns"].items()
    }
    return pd.DataFrame(columns, index=index)
