"""Which strategies exist: registered by hand, or found through entry points and modules.

A strategy that cannot be loaded stands in ``problems`` with its error; the others load.
"""

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from tft_core.errors import StrategyError
from tft_core.logs import get_logger
from tft_core.strategy.protocol import StrategyProtocol

ENTRY_POINT_GROUP = "tft.strategies"
DEFAULT_MODULES = ("tft_core.strategy_adapter",)
"""Looked at even where the package was not installed, so that its entry points are unknown."""

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """A strategy that could not be loaded."""

    source: str
    """Module, or entry point and its target."""
    error: str


class StrategyRegistry:
    """Strategies by id."""

    def __init__(self) -> None:
        self._strategies: dict[str, StrategyProtocol] = {}
        self._sources: dict[str, str] = {}
        self.problems: list[Problem] = []
        """What the last ``discover`` could not load."""

    def register(self, strategy: StrategyProtocol) -> None:
        """Add a strategy under its id.

        Raises:
            StrategyError: It does not fulfil the protocol, or another one has its id.
        """
        if not isinstance(strategy, StrategyProtocol):
            raise StrategyError(
                "a strategy must have strategy_id, scan and warmup_days, "
                f"found {type(strategy).__name__} without"
            )
        name = strategy.strategy_id
        held = self._strategies.get(name)
        if held is not None and held is not strategy:
            raise StrategyError(
                f"strategy_id must be unique, found {name!r} registered already "
                f"({type(held).__name__}); give one of them another id"
            )
        self._strategies[name] = strategy

    def get(self, strategy_id: str) -> StrategyProtocol | None:
        """The strategy of this id; ``None`` where there is none."""
        return self._strategies.get(strategy_id)

    def list_ids(self) -> list[str]:
        """Every id, in alphabetic order."""
        return sorted(self._strategies)

    def all(self) -> list[StrategyProtocol]:
        """Every strategy, by id."""
        return [self._strategies[name] for name in self.list_ids()]

    def discover(self, extra_modules: Iterable[str] | None = None) -> list[str]:
        """Load strategies from entry points (group ``tft.strategies``) and modules.

        Each source is a module with ``create_strategy()``, or a callable that gives a strategy.
        A module without ``create_strategy`` that was named explicitly is a problem too.

        Returns:
            The ids that were added now. What failed is in ``problems``.
        """
        self.problems = []
        added: list[str] = []
        for source, load in self._candidates(extra_modules or ()):
            if source in self._sources:
                continue
            try:
                strategy = _created(load())
                self.register(strategy)
            # foreign code, which may also call sys.exit: reported, others go on
            except (Exception, SystemExit) as error:  # noqa: BLE001
                self.problems.append(Problem(source, f"{type(error).__name__}: {error}"))
                logger.error("strategy %s could not be loaded: %s", source, error)
                continue
            self._sources[source] = strategy.strategy_id
            added.append(strategy.strategy_id)
        return added

    def _candidates(self, extra_modules: Iterable[str]) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
        for point in points:
            target = point.value.removesuffix(":create_strategy")
            if target not in seen:
                seen.add(target)
                yield target, point.load
        for module in (*DEFAULT_MODULES, *extra_modules):
            if module not in seen:
                seen.add(module)
                yield module, lambda name=module: importlib.import_module(name)

    def __len__(self) -> int:
        return len(self._strategies)

    def __contains__(self, strategy_id: object) -> bool:
        return strategy_id in self._strategies

    def __iter__(self) -> Iterator[StrategyProtocol]:
        return iter(self.all())


def _created(found: Any) -> Any:
    if isinstance(found, ModuleType):
        if not hasattr(found, "create_strategy"):
            raise StrategyError(
                f"module {found.__name__} must define create_strategy(), found none"
            )
        return found.create_strategy()
    made: Any = found() if callable(found) else found
    return made


default_registry = StrategyRegistry()
