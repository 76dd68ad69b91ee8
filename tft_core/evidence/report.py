"""The whole of the evidence on one search and one record, in figures and in plain words.

``search_evidence`` judges the study that chose the parameters, on its inner days;
``record_evidence`` judges the walk-forward record, on the reported days. Neither repairs the
other: a search may be honest and its winner worthless.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from tft_core.errors import ConfigError
from tft_core.evidence.comparison import Comparison, SpaResult, compare, superior_ability
from tft_core.evidence.deflation import (
    Deflation,
    deflate,
    expected_max_sharpe_ann,
    min_track_record_days,
    probabilistic_sharpe,
)
from tft_core.evidence.overfitting import OverfittingResult, overfitting_probability
from tft_core.metrics import sharpe_ann
from tft_core.schema import SHIPPED, TRADING_DAYS_PER_YEAR, json_value

TUNED, DEFAULT = "tuned", "default"


@dataclass(frozen=True, slots=True)
class SearchEvidence:
    """What the best trial of a study is worth after the search."""

    deflation: Deflation
    overfitting: OverfittingResult

    @property
    def sentences(self) -> list[str]:
        return [self.deflation.sentence, self.overfitting.sentence]

    def to_dict(self) -> dict[str, Any]:
        return json_value(self) | {"sentences": self.sentences}


def search_evidence(
    daily: pd.DataFrame, best: str | int, n_trials: int | None = None
) -> SearchEvidence:
    """Deflation and overfitting probability of a study.

    Args:
        daily: Net daily returns, inner days × trials; NaN where a pruned trial was not evaluated.
        best: Column of the chosen trial.
        n_trials: All trials ever run for this choice; default the columns.
    """
    return SearchEvidence(deflate(daily, best, n_trials=n_trials), overfitting_probability(daily))


@dataclass(frozen=True, slots=True)
class RecordEvidence:
    """What the shipped record shows, against noise, the default, and the baselines."""

    n_days: int
    sharpe: float
    probabilistic: float
    """Probability that the true Sharpe ratio is above 0."""
    min_record_days: float
    """Days that would convince at 95 %; infinite where the Sharpe ratio is not above 0."""
    n_procedures: int
    """Different procedures that were ever evaluated on these windows."""
    expected_max: float
    """Sharpe ratio that the best of so many procedures shows on noise over these days."""
    tuned_against_default: Comparison
    shipped_against: dict[str, Comparison]
    """Each baseline → shipped minus it."""
    superior_ability: dict[str, SpaResult]
    """Each path as benchmark → does any of the others beat it."""

    @property
    def sentences(self) -> list[str]:
        return [
            self._record_sentence(),
            self._looks_sentence(),
            self.tuned_against_default.sentence,
            *(comparison.sentence for comparison in self.shipped_against.values()),
            *(self.superior_ability[name].sentence for name in (DEFAULT, TUNED)),
        ]

    def _record_sentence(self) -> str:
        if math.isnan(self.sharpe):
            return f"The shipped record of {self.n_days} days has no Sharpe ratio (no spread)."
        if math.isinf(self.min_record_days):
            return (
                f"The shipped record shows a Sharpe ratio of {self.sharpe:.2f} over {self.n_days} "
                f"days: true skill above 0 has a probability of {self.probabilistic:.0%}, and no "
                "length of such a record would prove it."
            )
        return (
            f"The shipped record shows a Sharpe ratio of {self.sharpe:.2f}: true skill above 0 has "
            f"a probability of {self.probabilistic:.0%}; {self.min_record_days:,.0f} days of such "
            f"a record would prove it (95%), there are {self.n_days:,}."
        )

    def _looks_sentence(self) -> str:
        if self.n_procedures <= 1:
            return "These windows were evaluated for this procedure only."
        return (
            f"{self.n_procedures} different procedures were evaluated on these windows; the best "
            f"of as many on noise would show {self.expected_max:.2f}; this one shows "
            f"{self.sharpe:.2f}."
        )

    def to_dict(self) -> dict[str, Any]:
        return json_value(self) | {"sentences": self.sentences}


def record_evidence(paths: pd.DataFrame, *, n_procedures: int = 1) -> RecordEvidence:
    """Judge the record of the reported windows.

    Args:
        paths: Net daily returns on the reported days: ``shipped``, ``tuned``, ``default`` and
            the baselines, without NaN.
        n_procedures: Procedures ever evaluated on these windows (``EvidenceLedger``).

    Raises:
        ConfigError: A path is missing or has a day without a return.
    """
    missing = {SHIPPED, TUNED, DEFAULT} - set(paths.columns)
    if missing:
        raise ConfigError(
            f"a record must hold shipped, tuned and default, found no {sorted(missing)[0]!r}"
        )
    net = paths[SHIPPED].to_numpy(dtype=np.float64)
    if not np.isfinite(net).all():
        raise ConfigError("a record must hold a return on each day, found NaN on the shipped path")
    sharpe = sharpe_ann(net)
    has_spread = not math.isnan(sharpe)
    rivals = paths.drop(columns=SHIPPED)
    baselines = [str(name) for name in rivals.columns if name not in (TUNED, DEFAULT)]
    columns = {str(name): paths[name].to_numpy(dtype=np.float64) for name in paths.columns}
    return RecordEvidence(
        n_days=len(net),
        sharpe=sharpe,
        probabilistic=probabilistic_sharpe(net),
        min_record_days=min_track_record_days(
            sharpe,
            skew=float(stats.skew(net)) if has_spread else 0.0,
            kurtosis=float(stats.kurtosis(net, fisher=False)) if has_spread else 3.0,
        ),
        n_procedures=n_procedures,
        # independent procedures: the most that looking again and again can have brought
        expected_max=expected_max_sharpe_ann(
            float(max(n_procedures, 1)), math.sqrt(TRADING_DAYS_PER_YEAR / max(len(net), 1))
        ),
        tuned_against_default=compare(columns[TUNED], columns[DEFAULT]),
        shipped_against={
            name: compare(columns[SHIPPED], columns[name], names=("shipped", _words(name)))
            for name in baselines
        },
        superior_ability={str(name): superior_ability(rivals, str(name)) for name in rivals},
    )


def _words(name: str) -> str:
    return name.replace("_", " ")
