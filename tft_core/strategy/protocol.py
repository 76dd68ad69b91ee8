"""What a strategy is: the signal it emits, the protocol it fulfils, the base class it may use.

Compatible with the predecessor's users: a strategy written against its ``BaseStrategy`` or
``StrategyProtocol`` runs unchanged. No strategy of our own is here.
"""

import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from tft_core.checkpoint_manager.atomic import (
    StrictJsonError,
    dump_json,
    load_json,
    locked,
    make_directory,
    replace_file,
)
from tft_core.config import load_settings
from tft_core.errors import StrategyError
from tft_core.logs import get_logger

DIRECTIONS = ("long", "short", "flat")
INSTRUMENT_TYPES = ("FUT", "CE", "PE", "SPREAD")
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CUSUM_WINDOW = 60
_CUSUM_MIN_PERIODS = 21

Leg = tuple[str, str, float, str]
"""Symbol, instrument type, strike, expiry."""

logger = get_logger(__name__)


class SignalError(StrategyError, ValueError):
    """A signal breaks its rules; a ``ValueError`` too, as in the predecessor."""


@dataclass(frozen=True)
class Signal:
    """One strategy's wish for one instrument, decided after a session's close.

    Raises:
        SignalError: A field is outside its rule (also a ``ValueError``).
    """

    strategy_id: str
    symbol: str
    direction: str
    """``long`` · ``short`` · ``flat`` (close what is on)."""
    conviction: float
    """How sure, in [0, 1]."""
    instrument_type: str = "FUT"
    strike: float = 0.0
    expiry: str = ""
    """ISO date, or "" for the nearest."""
    ttl_bars: int = 5
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("strategy_id", "symbol"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise SignalError(f"signal {name} must be a text, found {value!r}")
        if self.direction not in DIRECTIONS:
            raise SignalError(
                f"signal direction must be one of {', '.join(DIRECTIONS)}, found "
                f"{self.direction!r} for {self.symbol}"
            )
        # written so that NaN fails it
        if not 0.0 <= self.conviction <= 1.0:
            raise SignalError(
                f"signal conviction must lie in [0, 1], found {self.conviction} for {self.symbol}"
            )
        if self.instrument_type not in INSTRUMENT_TYPES:
            raise SignalError(
                f"signal instrument_type must be one of {', '.join(INSTRUMENT_TYPES)}, found "
                f"{self.instrument_type!r} for {self.symbol}"
            )
        if not math.isfinite(self.strike):
            raise SignalError(f"signal strike must be finite, found {self.strike}")

    @property
    def leg(self) -> Leg:
        """The instrument meant."""
        return (self.symbol, self.instrument_type, float(self.strike), self.expiry)

    @property
    def sign(self) -> int:
        """+1 long, −1 short, 0 flat."""
        return {"long": 1, "short": -1, "flat": 0}[self.direction]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What a strategy holds after a session, beside the signals it emitted."""

    positions: Mapping[str, float]
    """Symbol → position after the session, carried ones included."""
    status: Mapping[str, str] = field(default_factory=dict)
    """Symbol → ``ok`` or why it has no new answer."""
    checkpoint_hash: str | None = None


@runtime_checkable
class StrategyProtocol(Protocol):
    """All that the orchestrator asks of a strategy. An empty list means: no trade.

    ``store`` is the market store, or whatever else the strategy's own system hands it.
    """

    @property
    def strategy_id(self) -> str: ...

    def scan(self, d: date, store: Any) -> list[Signal]: ...

    def warmup_days(self) -> int: ...


class BaseStrategy(ABC):
    """A strategy with logging and a JSON state of its own.

    ``strategy_id`` must be known before ``super().__init__`` and never change.

    Args:
        state_dir: Where ``{strategy_id}.json`` lies; default ``strategies`` under the
            configured home, looked up when the state is first used.

    Raises:
        StrategyError: The id could not be a file's name.
    """

    def __init__(self, state_dir: str | Path | None = None) -> None:
        if not isinstance(self.strategy_id, str) or not _SAFE_ID.fullmatch(self.strategy_id):
            raise StrategyError(
                f"strategy_id must be letters, digits, '.', '_' and '-', found {self.strategy_id!r}"
            )
        self._state_dir = Path(state_dir) if state_dir is not None else None

    @property
    @abstractmethod
    def strategy_id(self) -> str:
        """Stable name; the key of signals, positions and state."""

    @abstractmethod
    def warmup_days(self) -> int:
        """Sessions of history a scan needs."""

    @abstractmethod
    def _scan_impl(self, d: date, store: Any) -> list[Signal]:
        """The signals decided after the close of ``d``."""

    def scan(self, d: date, store: Any) -> list[Signal]:
        """The signals decided after the close of ``d``; an error stays an error."""
        started = time.perf_counter()
        signals = self._scan_impl(d, store)
        logger.info(
            "%s %s: %d signals in %.2f s",
            self.strategy_id, d, len(signals), time.perf_counter() - started,
        )  # fmt: skip
        return signals

    def holdings(self, d: date) -> Holdings | None:
        """What is held after the scan of ``d``; ``None``: what its signals say."""
        return None

    # -- state -----------------------------------------------------------------------------

    @property
    def state_path(self) -> Path:
        """The state's file; it is made when a value is first stored."""
        folder = self._state_dir or load_settings().home / "strategies"
        return folder / f"{self.strategy_id}.json"

    def get_state(self, key: str, default: Any = None) -> Any:
        """A stored value; ``default`` where the key was never set."""
        return self._read_state().get(key, default)

    def set_state(self, key: str, value: Any) -> None:
        """Store one value; the file is replaced atomically."""
        self.update_state({key: value})

    def update_state(self, updates: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Store several values in one atomic step, safe against other processes.

        Raises:
            StrategyError: A value is not plain finite JSON, or the state file is damaged.
        """
        changes = {**(updates or {}), **more}
        path = self.state_path
        make_directory(path.parent)
        with locked(path.with_suffix(".lock"), 10.0, f"state of {self.strategy_id}", StrategyError):
            try:
                data = dump_json({**self._read_state(), **changes})
            except (TypeError, ValueError) as error:
                raise StrategyError(
                    f"state of {self.strategy_id} must be plain finite JSON, found: {error}"
                ) from error
            replace_file(path, data)

    def _read_state(self) -> dict[str, Any]:
        path = self.state_path
        try:
            state = load_json(path.read_bytes())
        except FileNotFoundError:
            return {}
        except StrictJsonError as error:
            raise StrategyError(
                f"{path} must be the state of {self.strategy_id}, found it damaged ({error}); "
                "restore it, or remove it to start anew"
            ) from error
        if not isinstance(state, dict):
            raise StrategyError(
                f"{path} must be a JSON object, found {type(state).__name__}; restore it, or "
                "remove it to start anew"
            )
        return state

    @staticmethod
    def cusum_events(close: pd.Series, threshold_mult: float = 1.0) -> pd.Index:
        """Times at which the cumulated log return since the last event grew too large.

        Args:
            close: Prices, oldest first.
            threshold_mult: Event size in units of the standard deviation of the 60 returns
                before (at least 21; none before that).

        Raises:
            StrategyError: ``threshold_mult`` is not above 0.

        As of:
            Each event's own time.

        Source:
            Symmetric CUSUM filter, López de Prado, Advances in Financial Machine Learning, 2.5.2.
        """
        if not threshold_mult > 0:
            raise StrategyError(f"threshold_mult must be above 0, found {threshold_mult}")
        returns = close.astype(float).map(np.log).diff()
        sigma = returns.rolling(_CUSUM_WINDOW, min_periods=_CUSUM_MIN_PERIODS).std().shift(1)
        thresholds = (threshold_mult * sigma).to_numpy()
        up = down = 0.0
        events: list[int] = []
        for i, change in enumerate(returns.to_numpy()):
            if not (math.isfinite(change) and thresholds[i] > 0):
                continue
            up, down = max(0.0, up + change), min(0.0, down + change)
            if up > thresholds[i] or down < -thresholds[i]:
                events.append(i)
                up = down = 0.0
        return close.index[events]
