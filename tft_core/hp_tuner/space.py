"""The search space as data, and how a drawn set of parameters becomes settings.

A space is a table: a list is a choice, ``{low, high, log}`` a range of floats. Which settings
may be tuned, and whose they are, stands in ``TUNABLE``; nothing here draws by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from tft_core.errors import ConfigError

if TYPE_CHECKING:
    import optuna

PLAN_SPACE: dict[str, Any] = {
    "d_hidden": [32, 48, 64, 96, 128],
    "n_heads": [2, 4, 8],
    "lstm_layers": [1, 2, 3],
    "dropout": {"low": 0.05, "high": 0.3},
    "seq_len": [21, 42, 63],
    "n_context": [8, 16, 32],
    "lr": {"low": 3e-4, "high": 3e-3, "log": True},
    "batch_size": [16, 32, 64],
    "mle_weight": {"low": 0.01, "high": 0.2},
    "loss_mode": ["sharpe", "joint_mle"],
    "max_position": {"low": 0.15, "high": 0.3},
    "position_smooth": {"low": 0.2, "high": 0.5},
}
"""The plan's search space."""

TUNABLE: dict[str, tuple[str, type]] = {
    "d_hidden": ("model", int),
    "n_heads": ("model", int),
    "lstm_layers": ("model", int),
    "dropout": ("model", float),
    "seq_len": ("model", int),
    "n_context": ("model", int),
    "vsn_hidden": ("model", int),
    "vsn_penalty": ("model", float),
    "loss_mode": ("model", str),
    "mle_weight": ("model", float),
    "lr": ("training", float),
    "weight_decay": ("training", float),
    "batch_size": ("training", int),
    "cost_factor": ("training", float),
    "max_position": ("positions", float),
    "position_smooth": ("positions", float),
    "max_daily_turnover": ("positions", float),
}
"""Setting → (whose it is, type). Anything else in a space is refused."""

_COMPANIONS = ("warmup", "ctx_len", "context_mode", "context_pool", "architecture", "vsn")
"""Settings that are not tuned but must fit those that are."""
_JOINT_HEADS = "d_hidden:n_heads"
_LOSSES_WITH_WEIGHT = ("joint_mle", "joint_quantile")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A float between two ends, uniform in itself or in its logarithm."""

    low: float
    high: float
    log: bool = False


class ParamSplit(NamedTuple):
    """Overrides for ``XTrendConfig``, ``TrainingConfig`` and ``PositionConfig``."""

    model: dict[str, Any]
    training: dict[str, Any]
    positions: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Dimensions to tune, with the default configuration as a member of the space.

    The default value of every tuned setting belongs to the space, even where the table leaves
    it out: a choice gains it, a range is widened to it. So the default configuration can be
    a trial like any other, and the sampler can learn from it.
    """

    dimensions: dict[str, Choice | Range]
    defaults: dict[str, Any]
    """Value of every tunable setting in the default configuration."""

    @classmethod
    def from_table(cls, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> "SearchSpace":
        """Read a space; an empty table is the plan's.

        Args:
            defaults: The default configuration, as ``tunable_defaults`` reads it.

        Raises:
            ConfigError: An unknown setting, a malformed dimension, or one without any valid value.
        """
        known = set(defaults)
        dimensions: dict[str, Choice | Range] = {}
        for name, raw in (table or PLAN_SPACE).items():
            if name not in TUNABLE:
                raise ConfigError(
                    f"[tuning] space must hold only {', '.join(TUNABLE)}, found {name!r}"
                )
            if name not in known:
                raise ConfigError(
                    f"defaults must give a value for every tuned setting, found none for {name!r}"
                )
            dimensions[name] = _with_default(name, _dimension(name, raw), defaults[name])
        if not _can_have_weight(dimensions, defaults):
            dimensions.pop("mle_weight", None)
        for name in _without_effect(defaults):
            dimensions.pop(name, None)
        space = cls(dimensions, {k: defaults[k] for k in (*TUNABLE, *_COMPANIONS) if k in known})
        if not _tunes_heads(dimensions):
            return space
        pairs = space._head_pairs()
        if not pairs:
            raise ConfigError(
                "[tuning] space must allow an n_heads that divides d_hidden, found none"
            )
        for side, name in enumerate(("d_hidden", "n_heads")):  # what no pair has goes
            if name in dimensions:
                dimensions[name] = Choice(tuple(sorted({pair[side] for pair in pairs})))
        return space

    @property
    def max_seq_len(self) -> int:
        """Longest window any trial may use: the burn-in that makes dates common to all."""
        tuned = self.dimensions.get("seq_len")
        return max(tuned.values) if isinstance(tuned, Choice) else self.defaults["seq_len"]

    def default_params(self) -> dict[str, Any]:
        """The default configuration, as a trial would draw it."""
        params = {name: self.defaults[name] for name in self.dimensions}
        if not _has_weight(params.get("loss_mode", self.defaults.get("loss_mode"))):
            params.pop("mle_weight", None)
        return params

    def suggest(self, trial: "optuna.trial.Trial") -> dict[str, Any]:
        """Draw one valid set of parameters."""
        drawn: dict[str, Any] = {}
        pairs = self._heads_are_drawn_jointly()
        for name, dimension in self.dimensions.items():
            if name == "mle_weight" or (pairs and name in ("d_hidden", "n_heads")):
                continue
            drawn[name] = _suggest(trial, name, dimension)
        if pairs:
            chosen = trial.suggest_categorical(
                _JOINT_HEADS, [f"{d}x{h}" for d, h in self._head_pairs()]
            )
            d_hidden, n_heads = (int(part) for part in str(chosen).split("x"))
            drawn |= {"d_hidden": d_hidden, "n_heads": n_heads}
        if "mle_weight" in self.dimensions and _has_weight(
            drawn.get("loss_mode", self.defaults.get("loss_mode"))
        ):
            drawn["mle_weight"] = _suggest(trial, "mle_weight", self.dimensions["mle_weight"])
        return {name: drawn[name] for name in self.dimensions if name in drawn}

    def fixed(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters under the names a study knows them by, to enqueue them as a trial."""
        fixed = dict(params)
        if self._heads_are_drawn_jointly():
            fixed[_JOINT_HEADS] = f"{fixed.pop('d_hidden')}x{fixed.pop('n_heads')}"
        return fixed

    def split(self, params: Mapping[str, Any]) -> ParamSplit:
        """Overrides per configuration, with the untuned settings that have to follow.

        A drawn ``seq_len`` scales the loss-free warm-up with it and, with time-equivalent
        contexts, the context length; a fixed context pool grows to a drawn ``n_context``. The
        paper's VSN stays as wide as the network where it is so by default.
        """
        parts = ParamSplit({}, {}, {})
        for name, value in params.items():
            getattr(parts, TUNABLE[name][0])[name] = value
        if "seq_len" in params and "warmup" in self.defaults:
            share = self.defaults["warmup"] / self.defaults["seq_len"]
            parts.model["warmup"] = int(params["seq_len"] * share)
        if "seq_len" in params and self.defaults.get("context_mode") == "time":
            parts.model["ctx_len"] = params["seq_len"]
        is_as_wide = self.defaults.get("vsn_hidden") == self.defaults.get("d_hidden")
        if "d_hidden" in params and self.defaults.get("vsn") == "paper" and is_as_wide:
            parts.model.setdefault("vsn_hidden", params["d_hidden"])
        if "n_context" in params and self.defaults.get("context_pool", 0) > 0:
            parts.model["context_pool"] = max(self.defaults["context_pool"], params["n_context"])
        return parts

    def to_dict(self) -> dict[str, Any]:
        """The space as plain data, the same for two spaces that draw alike."""
        return {
            "dimensions": {
                name: list(d.values)
                if isinstance(d, Choice)
                else {"low": d.low, "high": d.high, "log": d.log}
                for name, d in self.dimensions.items()
            },
            "heads": self._head_pairs() if _tunes_heads(self.dimensions) else None,
            "defaults": self.defaults,
        }

    def _head_pairs(self) -> list[tuple[int, int]]:
        """Valid (d_hidden, n_heads), from the space or, where one is fixed, its default."""
        sizes = self._values("d_hidden")
        return [(d, h) for d, h in product(sizes, self._values("n_heads")) if d % h == 0]

    def _values(self, name: str) -> tuple[Any, ...]:
        dimension = self.dimensions.get(name)
        return dimension.values if isinstance(dimension, Choice) else (self.defaults[name],)

    def _heads_are_drawn_jointly(self) -> bool:
        if not {"d_hidden", "n_heads"} <= set(self.dimensions):
            return False
        return len(self._head_pairs()) < len(self._values("d_hidden")) * len(
            self._values("n_heads")
        )


def tunable_defaults(*configs: Any) -> dict[str, Any]:
    """Read the default configuration off ``XTrendConfig``, ``TrainingConfig``, ``PositionConfig``.

    Raises:
        ConfigError: No configuration has some tunable setting.
    """
    defaults = {
        name: getattr(config, name)
        for name in (*TUNABLE, *_COMPANIONS)
        for config in configs
        if hasattr(config, name)
    }
    missing = sorted(set(TUNABLE) - set(defaults))
    if missing:
        raise ConfigError(
            f"configurations must together have every tunable setting, found none with "
            f"{missing[0]!r}; pass the model's, the training's and the positions'"
        )
    return defaults


def _without_effect(defaults: Mapping[str, Any]) -> set[str]:
    """Settings of parts that the default network does not have."""
    idle: set[str] = set()
    if defaults.get("context_mode") == "none":
        idle.add("n_context")
    if defaults.get("vsn") == "none":
        idle |= {"vsn_hidden", "vsn_penalty"}
    if defaults.get("architecture") == "linear":
        idle |= {name for name, (owner, _) in TUNABLE.items() if owner == "model"} - {"seq_len"}
    return idle


def _dimension(name: str, raw: Any) -> Choice | Range:
    kind = TUNABLE[name][1]
    where = f"[tuning] space {name}"
    if isinstance(raw, Mapping):
        if set(raw) - {"low", "high", "log"} or not {"low", "high"} <= set(raw):
            raise ConfigError(
                f"{where} must be a list or a table of low, high and log, found {dict(raw)}"
            )
        low, high, log = float(raw["low"]), float(raw["high"]), bool(raw.get("log", False))
        if kind is not float:
            raise ConfigError(f"{where} must be a list of {kind.__name__} values, found a range")
        if not low < high or (log and low <= 0.0):
            raise ConfigError(
                f"{where} must have low < high, and low > 0 for a log scale, "
                f"found low {low:g}, high {high:g}"
            )
        return Range(low, high, log)
    if not isinstance(raw, (list, tuple)) or not raw:
        raise ConfigError(f"{where} must be a list of values or a range, found {raw!r}")
    values = tuple(float(v) if kind is float and type(v) is int else v for v in raw)
    if any(type(v) is not kind for v in values) or len(set(values)) < len(values):
        raise ConfigError(
            f"{where} must be a list of different {kind.__name__} values, found {list(raw)}"
        )
    return Choice(values)


def _with_default(name: str, dimension: Choice | Range, default: Any) -> Choice | Range:
    if isinstance(dimension, Range):
        if dimension.log and default <= 0.0:
            raise ConfigError(
                f"[tuning] space {name} must have a positive default to be on a log scale, found "
                f"{default:g}; leave out log, or the dimension"
            )
        return Range(min(dimension.low, default), max(dimension.high, default), dimension.log)
    if default in dimension.values:
        return dimension
    if isinstance(default, str):
        return Choice((*dimension.values, default))
    return Choice(tuple(sorted((*dimension.values, default))))


def _suggest(trial: "optuna.trial.Trial", name: str, dimension: Choice | Range) -> Any:
    if isinstance(dimension, Range):
        return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
    return trial.suggest_categorical(name, dimension.values)


def _tunes_heads(dimensions: Mapping[str, Choice | Range]) -> bool:
    return bool({"d_hidden", "n_heads"} & set(dimensions))


def _has_weight(loss_mode: str | None) -> bool:
    return loss_mode in _LOSSES_WITH_WEIGHT


def _can_have_weight(dimensions: Mapping[str, Choice | Range], defaults: Mapping[str, Any]) -> bool:
    tuned = dimensions.get("loss_mode")
    modes = tuned.values if isinstance(tuned, Choice) else (defaults.get("loss_mode"),)
    return any(_has_weight(mode) for mode in modes)
