"""Hyper-parameter tuning of one fold: search space, inner folds, study, result.

The tuner does not know how to train: it is handed an objective that returns the daily net
returns of one inner test window, and it owns everything around that call.
"""

from tft_core.hp_tuner.census import finished_trials
from tft_core.hp_tuner.config import TunerConfig
from tft_core.hp_tuner.importance import Importance, importances
from tft_core.hp_tuner.inner import InnerFold, inner_folds
from tft_core.hp_tuner.objective import DailyRecord, Evaluate
from tft_core.hp_tuner.result import Budget, TuningResult
from tft_core.hp_tuner.space import PLAN_SPACE, ParamSplit, SearchSpace, tunable_defaults
from tft_core.hp_tuner.tuner import HPTuner

__all__ = [
    "PLAN_SPACE",
    "Budget",
    "DailyRecord",
    "Evaluate",
    "HPTuner",
    "Importance",
    "InnerFold",
    "ParamSplit",
    "SearchSpace",
    "TunerConfig",
    "TuningResult",
    "finished_trials",
    "importances",
    "inner_folds",
    "tunable_defaults",
]
