"""Feature selection: pre-filter, stability over exploration folds, cross-check. Torch-free."""

from tft_core.feature_selection.config import FeatureSelectionConfig
from tft_core.feature_selection.evidence import RECORD_COLUMNS
from tft_core.feature_selection.prefilter import DroppedFeature, PrefilterResult, prefilter
from tft_core.feature_selection.report import (
    DISAGREE,
    INFORMATIVE,
    NOT_ABOVE_CHANCE,
    TOO_FEW_FOLDS,
    VERDICTS,
    Reason,
    StabilityReport,
)
from tft_core.feature_selection.screen import cross_check, screen
from tft_core.feature_selection.selector import FeatureSelector
from tft_core.feature_selection.stability import stability_report

__all__ = [
    "DISAGREE",
    "INFORMATIVE",
    "NOT_ABOVE_CHANCE",
    "RECORD_COLUMNS",
    "TOO_FEW_FOLDS",
    "VERDICTS",
    "DroppedFeature",
    "FeatureSelectionConfig",
    "FeatureSelector",
    "PrefilterResult",
    "Reason",
    "StabilityReport",
    "cross_check",
    "prefilter",
    "screen",
    "stability_report",
]
