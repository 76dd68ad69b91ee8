"""Serving: a checkpoint and the market store in, positions or stated reasons out."""

from tft_core.inference.answer import Walk
from tft_core.inference.config import ServingConfig
from tft_core.inference.guards import KILL_SWITCH_ENV
from tft_core.inference.inputs import BarFaults, MarketInputs
from tft_core.inference.pipeline import GONE, TFTInferencePipeline
from tft_core.inference.reasons import OK, REASONS, Reason, Refusal
from tft_core.inference.result import InferenceResult

__all__ = [
    "GONE",
    "KILL_SWITCH_ENV",
    "OK",
    "REASONS",
    "BarFaults",
    "InferenceResult",
    "MarketInputs",
    "Reason",
    "Refusal",
    "ServingConfig",
    "TFTInferencePipeline",
    "Walk",
]
