"""``FeatureSelector``: the two tiers behind one object that can be stored.

A façade for notebooks, the pipeline and the checkpoint; the work is done by ``prefilter``,
``stability`` and ``screen``.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tft_core.config import build_dataclass
from tft_core.errors import SelectionError
from tft_core.feature_selection.config import FeatureSelectionConfig
from tft_core.feature_selection.evidence import RECORD_COLUMNS, checked_records
from tft_core.feature_selection.prefilter import PrefilterResult, prefilter
from tft_core.feature_selection.report import StabilityReport
from tft_core.feature_selection.screen import cross_check, screen
from tft_core.feature_selection.stability import stability_report
from tft_core.schema import canonical_json, json_value

_KEY_COLUMNS = ("date", "symbol")
_FORMAT = 1


class FeatureSelector:
    """Tier 1 (coverage, correlation) and tier 2 (weights over folds) of feature selection.

    Fold keys are compared as text, ISO dates first and ``live`` last.

    Args:
        groups: Feature → group, for the breakdown of the report.
    """

    def __init__(
        self,
        config: FeatureSelectionConfig | None = None,
        groups: Mapping[str, str] | None = None,
    ) -> None:
        self.config = config or FeatureSelectionConfig()
        self.groups = dict(groups or {})
        self.prefilter_result: PrefilterResult | None = None
        self.records = pd.DataFrame(columns=list(RECORD_COLUMNS))

    def prefilter(
        self,
        features: pd.DataFrame | Float[np.ndarray, "row feature"],
        names: Sequence[str] | None = None,
        *,
        asset_class: Sequence[str] | None = None,
    ) -> PrefilterResult:
        """Tier 1 on the training rows of one fold; the result is kept for tier 2.

        Args:
            features: A table (columns ``date`` and ``symbol`` are not features), or a matrix
                with ``names``. Before imputation.
        """
        if isinstance(features, pd.DataFrame):
            table = features.drop(columns=[c for c in _KEY_COLUMNS if c in features.columns])
            names = [str(name) for name in table.columns]
            features = table.to_numpy(dtype=np.float32)
        elif names is None:
            raise SelectionError(
                "a feature matrix must come with its names, found none; give names"
            )
        self.prefilter_result = prefilter(features, names, self.config, asset_class=asset_class)
        return self.prefilter_result

    def add_fold_records(self, records: pd.DataFrame) -> None:
        """Add the exploration records of one fold (or more); a run is taken once only."""
        joined = records if self.records.empty else pd.concat([self.records, records])
        self.records = checked_records(joined)

    def stability_report(self, through: str | None = None) -> StabilityReport:
        """Tier 2 over the folds added so far, or those up to and including ``through``."""
        records = self.records
        if through is not None and not records.empty:
            records = records[records["fold"] <= through]
        result = self.prefilter_result
        return stability_report(
            records,
            self.config,
            self.groups,
            None if result is None else result.kept,
            clusters=() if result is None else result.clusters,
        )

    def select_fold(self, fold: str) -> tuple[str, ...]:
        """The features to train fold ``fold`` on: recommended by the folds up to it.

        Raises:
            SelectionError: The fold was never explored.
        """
        explored = sorted(self.records["fold"].unique())
        if fold not in explored:
            raise SelectionError(
                f"a fold must be explored before it is selected for, found {fold!r} not among "
                f"{', '.join(explored) or '(none)'}; add its records"
            )
        return self.stability_report(fold).recommended_features

    def screen(
        self,
        values: Float[np.ndarray, "row feature"],
        names: Sequence[str],
        label: Float[np.ndarray, " row"],
        dates: Sequence[object] | np.ndarray,
    ) -> pd.DataFrame:
        """Rank IC and mutual information of each feature on training rows."""
        return screen(values, names, label, dates, self.config)

    def feature_importance_report(
        self, screened: pd.DataFrame | None = None, *, through: str | None = None
    ) -> pd.DataFrame:
        """Ranked features with weights per fold, stability, group and, if screened, flags."""
        report = self.stability_report(through)
        per_fold = report.vsn_weight_per_fold.add_prefix("weight ")
        table = report.table.join(per_fold)
        if screened is None:
            return table
        checked = cross_check(screened, report, level=self.config.chance_level)
        return table.join(checked.drop(columns=[c for c in checked.columns if c in table.columns]))

    def to_dict(self) -> dict[str, Any]:
        """Settings and all records in plain types, as a checkpoint carries them."""
        return {
            "format": _FORMAT,
            "config": dataclasses.asdict(self.config),
            "groups": self.groups,
            "prefilter": None if self.prefilter_result is None else self.prefilter_result.to_dict(),
            "records": json_value(self.records.to_dict(orient="list")),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "FeatureSelector":
        """Inverse of ``to_dict``.

        Raises:
            SelectionError: It was written in a format that this version does not read.
        """
        if data.get("format") != _FORMAT:
            raise SelectionError(
                f"a stored selector must have format {_FORMAT}, found {data.get('format')!r}; "
                "select again"
            )
        config = build_dataclass(FeatureSelectionConfig, data["config"], where="selector.config")
        selector = cls(config, data["groups"])
        if data["prefilter"] is not None:
            selector.prefilter_result = PrefilterResult.from_dict(data["prefilter"])
        records = pd.DataFrame(data["records"], columns=list(RECORD_COLUMNS))
        if len(records):
            selector.records = checked_records(records)
        return selector

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the selector as JSON; the file is whole or not there."""
        target = Path(path)
        stage = target.with_name(f".{target.name}.{os.getpid()}")
        stage.write_text(canonical_json(self.to_dict()), encoding="utf-8")
        stage.replace(target)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "FeatureSelector":
        """Read a selector that ``save`` wrote.

        Raises:
            SelectionError: The file is missing or is not such a selector.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SelectionError(
                f"{path} must be a stored selector, found {error}; select again"
            ) from error
        if not isinstance(data, dict):
            raise SelectionError(
                f"{path} must be a stored selector, found other JSON; select again"
            )
        return cls.from_dict(data)
