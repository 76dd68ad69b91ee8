"""The tables of ``benchmarks.selection``: what each rule picked, the verdicts, the Sharpe ratios.

``python -m benchmarks.selection_table --state DIR``; reads what is there, trains nothing: rules can
be changed and looked at again without a new run.
"""

import argparse
import json
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.planted import N_TRUE, auc
from benchmarks.selection import CONDITIONS, SELECTION, Condition
from tft_core.feature_selection import (
    NOT_ABOVE_CHANCE,
    FeatureSelectionConfig,
    StabilityReport,
    stability_report,
)
from tft_core.feature_selection.agreement import nogueira, pairwise_agreement
from tft_core.feature_selection.chance import shadow_threshold

RULES = (
    "ours",
    "weight, 95 % shadow line",
    "permutation, 95 % shadow line",
    "|IC|, Benjamini-Hochberg",
    "TFT's VSN, plan's rule",
)


def print_tables(
    conditions: list[Condition], state: Path, selection: FeatureSelectionConfig = SELECTION
) -> None:
    """What was picked and how well, per condition and rule; then verdicts; then Sharpe ratios."""
    picked, verdicts, sharpes = [], [], []
    for condition in conditions:
        for done in sorted((state / condition.name).glob("*/result.json")):
            told = Outcome.read(done.parent, condition, selection)
            picked += told.rules()
            verdicts.append(told.verdict())
            sharpes += [
                {
                    "condition": condition.name,
                    "data": done.parent.name,
                    "set": name,
                    "sharpe": value,
                }
                for name, value in told.result["sharpe"].items()
            ]
    order = [c.name for c in conditions]
    by_rule = _means(pd.DataFrame(picked), ["condition", "rule"])
    print(by_rule.reindex(list(product(order, RULES))).dropna(how="all").to_markdown())
    frame = pd.DataFrame(verdicts)
    print(pd.crosstab(frame["condition"], frame["verdict"]).reindex(order).dropna().to_markdown())
    agreement = _means(frame.drop(columns="verdict"), ["condition"])
    print(agreement.reindex(order).dropna(how="all").to_markdown())
    wide = pd.DataFrame(sharpes).pivot(index=["condition", "data"], columns="set", values="sharpe")
    for name in [n for n in wide.columns if n != "all"] if "all" in wide else ():
        wide[f"{name} − all"] = wide[name] - wide["all"]
    told = _means(wide.reset_index("condition"), ["condition"])
    print(told.reindex(order).T.to_markdown())


def _means(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean ± standard error over data sets, and their number."""
    groups = frame.groupby(by)
    mean, error, count = groups.mean(), groups.sem(), groups.count()
    told = {
        name: [
            _with_error(m, e, n)
            for m, e, n in zip(mean[name], error[name], count[name], strict=True)
        ]
        for name in mean.columns
    }
    return pd.DataFrame(told, index=mean.index)


def _with_error(mean: float, error: float, count: int) -> str:
    if np.isnan(mean):
        return ""
    return f"{mean:.2f} ({count})" if np.isnan(error) else f"{mean:.2f} ± {error:.2f} ({count})"


@dataclass(frozen=True, slots=True)
class Runs:
    """One figure per feature of repeated runs (index ``fold``, ``seed``)."""

    features: pd.DataFrame
    shadows: pd.DataFrame | None
    line: float = np.nan
    """What a feature must exceed where there are no shadows to say it."""

    def agreement(self) -> dict[str, float]:
        """Of the seeds of a fold, mean over folds: Kendall's τ and Nogueira's Φ."""
        line = pd.Series(self.line, index=self.features.index)
        if self.shadows is not None:
            line = self.shadows.T.apply(
                lambda run: shadow_threshold(run.to_numpy(), SELECTION.shadow_quantile)
            )
        chosen = self.features.gt(line, axis=0)
        told = pairwise_agreement(self.features, chosen.astype(float), within="fold")
        phi = [
            nogueira(rows.to_numpy(), SELECTION.confidence).phi
            for _, rows in chosen.groupby(level="fold")
        ]
        return {"τ of seeds": told["kendall"], "Nogueira of seeds": float(np.mean(phi))}


@dataclass(frozen=True, slots=True)
class Rule:
    """How one rule scored the features and which it picked."""

    score: pd.Series
    picks: pd.Series | np.ndarray
    runs: Runs | None = None

    def figures(self, is_true: np.ndarray) -> dict[str, float]:
        """AUC, false discoveries, power, picks and agreement of seeds."""
        picks = np.asarray(self.picks, dtype=bool)
        return {
            "AUC": auc(np.asarray(self.score), is_true) if is_true.any() else np.nan,
            "FDR": float((picks & ~is_true).sum() / max(picks.sum(), 1)),
            "power": float(picks[is_true].mean()) if is_true.any() else np.nan,
            "picked": float(picks.sum()),
            **(self.runs.agreement() if self.runs else {}),
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """One data set: its records, and every rule applied to them."""

    condition: Condition
    result: dict
    report: StabilityReport
    records: pd.DataFrame
    screened: pd.DataFrame
    plain: pd.DataFrame | None
    selection: FeatureSelectionConfig

    @classmethod
    def read(
        cls, folder: Path, condition: Condition, selection: FeatureSelectionConfig
    ) -> "Outcome":
        result = json.loads((folder / "result.json").read_text())
        records = pd.read_parquet(folder / "records.parquet")
        plain = folder / "plain.parquet"
        return cls(
            condition,
            result,
            stability_report(records, selection, prefiltered=result["kept"]),
            records,
            pd.read_parquet(folder / "screen.parquet"),
            pd.read_parquet(plain) if plain.exists() else None,
            selection,
        )

    def rules(self) -> list[dict[str, object]]:
        """AUC, false discoveries, power and agreement of every rule among the kept features."""
        kept = self.result["kept"]
        table = self.report.table.reindex(kept)
        is_on = self.report.verdict != NOT_ABOVE_CHANCE
        weight, permutation = self._runs("weight"), self._runs("perm_dposition")
        line = shadow_threshold(permutation.shadows.mean().to_numpy(), SELECTION.shadow_quantile)
        mean_permutation = permutation.features.mean()
        screened = self.screened.reindex(kept)
        p_ic = 2.0 * stats.norm.sf(screened["ic_t"].abs())
        rules = {
            "ours": Rule(table["evidence"], table["passes"] & is_on, weight),
            "weight, 95 % shadow line": Rule(table["evidence"], table["above_shadow"], weight),
            "permutation, 95 % shadow line": Rule(
                mean_permutation, mean_permutation > line, permutation
            ),
            "|IC|, Benjamini-Hochberg": Rule(
                screened["ic"].abs(),
                stats.false_discovery_control(p_ic) <= self.selection.max_fdr,
            ),
        }
        if self.plain is not None:
            plain = self.plain.pivot(index="seed", columns="feature", values="weight")[kept]
            plain.index = pd.MultiIndex.from_product(
                [["newest"], plain.index], names=["fold", "seed"]
            )
            rules["TFT's VSN, plan's rule"] = Rule(
                plain.mean(),
                plain.mean() > SELECTION.vsn_weight_threshold,
                Runs(plain, None, SELECTION.vsn_weight_threshold),
            )
        is_true = self.is_true(kept)
        return [
            {"condition": self.condition.name, "rule": name, **rule.figures(is_true)}
            for name, rule in rules.items()
        ]

    def _runs(self, value: str) -> "Runs":
        wide = self.records.pivot(index=["fold", "seed"], columns="feature", values=value)
        names = self.records.loc[self.records["is_shadow"], "feature"].unique()
        return Runs(wide[self.result["kept"]], wide[names])

    def is_true(self, names: list[str]) -> np.ndarray:
        if self.condition.ic == 0.0:
            return np.zeros(len(names), dtype=bool)
        return np.array([int(name[1:]) < N_TRUE for name in names])

    def verdict(self) -> dict[str, object]:
        """The verdict and how far repeated explorations agree."""
        told, kept = self.report.agreement, self.result["kept"]
        weight = self.records[~self.records["is_shadow"]]
        last = weight[weight["fold"] == weight["fold"].max()]
        is_true = self.is_true(kept)
        by_seed = last.pivot(index="seed", columns="feature", values="weight")[kept].to_numpy()
        one = [auc(row, is_true) for row in by_seed] if is_true.any() else [np.nan]
        return {
            "condition": self.condition.name,
            "verdict": self.report.verdict,
            "AUC, one seed, newest fold": float(np.mean(one)),
            "AUC, 3 seeds, newest fold": auc(by_seed.mean(axis=0), is_true)
            if is_true.any()
            else np.nan,
            "Spearman weight-permutation": self.report.statistics["weight_permutation_spearman"],
            "τ of seeds": told["seeds_within_fold"]["kendall"],
            "Nogueira of seeds": told["seeds_within_fold"]["nogueira"],
            "τ of folds": told["folds"]["kendall"],
            "Nogueira of folds": told["folds"]["nogueira"],
            "CPU s": self.result["cpu_s"],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--only", default="", help="conditions whose name holds this")
    parser.add_argument("--max-fdr", type=float, default=SELECTION.max_fdr)
    options = parser.parse_args()
    print_tables(
        [c for c in CONDITIONS if options.only in c.name],
        options.state,
        replace(SELECTION, max_fdr=options.max_fdr),
    )


if __name__ == "__main__":
    main()
