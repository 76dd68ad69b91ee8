"""Does pruning help? Networks on the top features, on as many drawn at random, and on all.

All are trained on inner folds with the same seeds, budgets and default parameters, and walk
the same days. Nothing is chosen by the outcome: it is evidence for a person.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tft_core.errors import ConfigError, FoldError
from tft_core.evidence import compare
from tft_core.hp_tuner import TunerConfig
from tft_core.limits import require_at_least
from tft_core.metrics import sharpe_ann, sharpe_se_ann
from tft_core.reports.html import ablation_page
from tft_core.schema import canonical_json, json_value
from tft_core.training_pipeline.configured import default_params
from tft_core.training_pipeline.phases.objective import StudyObjective
from tft_core.training_pipeline.phases.selection import read_stability
from tft_core.training_pipeline.workspace import Workspace

ALL = "all"
DRAW_STREAM = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationConfig:
    """How many features, how many random draws, how many seeds."""

    sizes: tuple[int, ...] = (60, 80)
    """Numbers of features to cut to; those not below the pre-filtered number are left out."""
    n_draws: int = 3
    """Random sets of each size."""
    n_seeds: int = 2

    def __post_init__(self) -> None:
        require_at_least(self, "ablation", n_draws=1, n_seeds=1)
        if not self.sizes or min(self.sizes) < 1:
            raise ConfigError(f"ablation.sizes must be at least 1, found {self.sizes}")


@dataclass(frozen=True, eq=False)
class AblationResult:
    """Daily net returns of every arm over the pooled inner test days, and what they say."""

    key: str
    daily: pd.DataFrame
    """Date × arm: ``all``, ``top 60``, ``random 60 #1``, …; mean over seeds."""
    inner_folds: pd.DataFrame
    """Per inner fold: test days, features kept, the report that ranked them."""
    skipped: tuple[str, ...]
    """Inner folds that no report precedes, in words."""

    @cached_property
    def arms(self) -> pd.DataFrame:
        """Net Sharpe ratio of each arm with its standard error."""
        return pd.DataFrame(
            {
                "sharpe_net": [sharpe_ann(self.daily[a].to_numpy()) for a in self.daily],
                "sharpe_se": [sharpe_se_ann(self.daily[a].to_numpy()) for a in self.daily],
            },
            index=pd.Index(self.daily.columns, name="arm"),
        )

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Top against all and against each random draw of its size: paired differences."""
        rows = []
        arms = [str(a) for a in self.daily]
        for arm in (a for a in arms if a.startswith("top ")):
            size = arm.removeprefix("top ")
            others = [a for a in arms if a == ALL or a.startswith(f"random {size} #")]
            for other in others:
                told = compare(
                    self.daily[arm].to_numpy(), self.daily[other].to_numpy(), names=(arm, other)
                )
                rows.append(
                    {
                        "arm": arm,
                        "against": other,
                        "difference": told.difference,
                        "low": told.low,
                        "high": told.high,
                        "p_value": told.p_value,
                        "verdict": told.verdict,
                    }
                )
        return pd.DataFrame(rows)

    @property
    def sentence(self) -> str:
        """What to believe of it."""
        told = self.comparisons
        better, worse = (int((told["verdict"] == v).sum()) for v in ("better", "worse"))
        return (
            f"Of {len(told)} comparisons over {len(self.daily)} inner test days the top features "
            f"are better in {better}, worse in {worse} and not distinguishable in "
            f"{len(told) - better - worse}."
        )

    def write(self, folder: Path) -> Path:
        """Page, table and raw returns into a folder; the page's path."""
        folder.mkdir(parents=True, exist_ok=True)
        self.daily.reset_index().to_parquet(folder / "daily.parquet")
        page = folder / "ablation.html"
        page.write_text(
            ablation_page(
                title=f"Feature ablation, fold {self.key}",
                sentence=self.sentence,
                arms=self.arms,
                comparisons=self.comparisons,
                inner_folds=self.inner_folds,
                daily=self.daily,
                skipped=self.skipped,
            ),
            encoding="utf-8",
        )
        (folder / "ablation.json").write_text(canonical_json(self.to_dict()), encoding="utf-8")
        return page

    def to_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "sentence": self.sentence,
            "arms": json_value(self.arms.reset_index().to_dict("records")),
            "comparisons": json_value(self.comparisons.to_dict("records")),
            "inner_folds": json_value(self.inner_folds.to_dict("records")),
            "skipped": list(self.skipped),
        }


def ablate(
    workspace: Workspace,
    key: str,
    config: AblationConfig | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> AblationResult:
    """Train every arm on every inner fold of ``key`` that a stability report precedes.

    The ranking is that of the newest report dated before the inner test, cut to the features
    that the inner fold's own pre-filter keeps.

    Args:
        progress: Told a line, the runs done and the runs planned.

    Raises:
        FoldError: No report precedes any inner test, or no size is below the kept number.

    As of:
        The last day of the newest inner test, before fold ``key``'s test window.
    """
    config = config or AblationConfig()
    tuning = workspace.settings.build(TunerConfig, "tuning")
    objective = StudyObjective(workspace, key, tuning)
    params = default_params(workspace.settings)
    planned: list[tuple[int, dict[str, tuple[str, ...]]]] = []
    told, skipped = [], []
    for number, fold in enumerate(objective.folds):
        dated = objective.dated_report(fold)
        report = None if dated is None else read_stability(workspace, dated)
        if report is None:
            skipped.append(f"inner fold {number}: no stability report is dated before its test")
            continue
        kept = objective.prefiltered(fold)
        planned.append((number, arms_of(kept, tuple(map(str, report.table.index)), config)))
        told.append({"inner_fold": number, "n_kept": len(kept), "report": dated})
    names = [set(arms) for _, arms in planned]
    common = [a for a in planned[0][1] if all(a in n for n in names)] if planned else []
    if not any(arm.startswith("top ") for arm in common):
        raise FoldError(
            f"an ablation of fold {key} must have inner folds that a stability report precedes and "
            f"sizes below the features kept, found {len(planned)} such inner folds and sizes "
            f"{config.sizes}; take a later fold or smaller sizes"
        )
    seeds = tuple(range(config.n_seeds))
    work = list(itertools.product(planned, common))
    parts: dict[str, list[pd.Series]] = {arm: [] for arm in common}
    for done, ((number, arms), arm) in enumerate(work):
        if progress is not None:
            progress(f"ablation {key}: inner fold {number}, {arm}", done, len(work))
        prepared = objective.prepare(objective.folds[number], arms[arm])
        records = [objective.evaluate(prepared, dict(params), seed) for seed in seeds]
        net = np.mean([record.net for record in records], axis=0)
        parts[arm].append(pd.Series(net, index=records[0].dates))
    daily = pd.DataFrame({arm: pd.concat(found) for arm, found in parts.items()})
    return AblationResult(
        key=key,
        daily=daily.rename_axis("date"),
        inner_folds=pd.DataFrame(told).assign(
            n_days=[len(part) for part in parts[ALL]],
        ),
        skipped=tuple(skipped),
    )


def arms_of(
    kept: tuple[str, ...], ranked: tuple[str, ...], config: AblationConfig
) -> dict[str, tuple[str, ...]]:
    """Feature set of each arm, in the order of ``kept``.

    Args:
        ranked: Best first; features not kept are passed over. A kept feature that was never
            ranked can be drawn at random, but is not among the top.
    """
    known = [name for name in ranked if name in set(kept)]
    arms: dict[str, tuple[str, ...]] = {ALL: kept}
    for size in config.sizes:
        if size >= len(kept) or size > len(known):
            continue
        sets = {f"top {size}": set(known[:size])}
        for draw in range(config.n_draws):
            rng = np.random.default_rng([DRAW_STREAM, size, draw])
            chosen = rng.choice(len(kept), size=size, replace=False)
            sets[f"random {size} #{draw + 1}"] = {kept[i] for i in chosen}
        arms |= {arm: tuple(n for n in kept if n in chosen) for arm, chosen in sets.items()}
    return arms
