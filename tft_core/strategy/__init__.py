"""Strategies: their contract, their registry, the daily run, and the ledger of signals."""

from tft_core.strategy.ledger import Ledger
from tft_core.strategy.orchestrator import (
    Orchestrator,
    RiskCheck,
    SignalAllocator,
    TargetPosition,
)
from tft_core.strategy.protocol import (
    BaseStrategy,
    Holdings,
    Signal,
    SignalError,
    StrategyProtocol,
)
from tft_core.strategy.publication import Publication
from tft_core.strategy.registry import Problem, StrategyRegistry, default_registry

__all__ = [
    "BaseStrategy",
    "Holdings",
    "Ledger",
    "Orchestrator",
    "Problem",
    "Publication",
    "RiskCheck",
    "Signal",
    "SignalAllocator",
    "SignalError",
    "StrategyProtocol",
    "StrategyRegistry",
    "TargetPosition",
    "default_registry",
]
