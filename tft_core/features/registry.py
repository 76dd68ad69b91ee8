"""What a feature and a group of features are, and the registry of all of them.

A group is one module in ``groups/`` (or a user's own module) that exposes ``GROUP``. No
feature is computed here.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pandas as pd

from tft_core.config import find_config
from tft_core.errors import ConfigError, FeatureError
from tft_core.schema import FIELDS, content_hash

BUILT_IN_GROUPS = (
    "returns",
    "paper",
    "volatility",
    "technical",
    "distribution",
    "liquidity",
    "open_interest",
    "ranges",
    "change_points",
    "fractional",
    "cycles",
    "calendar",
    "exogenous",
    "cross_section",
    "random_matrix",
)
"""Modules of ``tft_core.features.groups``, in catalogue order."""

N_EXOGENOUS_SLOTS = 4

INPUTS = (*FIELDS, "date", "series", "table")
"""What a feature may read: a bar's numbers and date, a series of the store, a user's table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature's declaration: what it needs and how far back it looks."""

    name: str
    """Explains itself; the text before the first underscore is the group."""
    group: str
    inputs: tuple[str, ...]
    """Some of ``INPUTS``. If one is absent the feature is NaN."""
    lookback: int
    """Sessions it reads, the current one included; fewer give NaN."""
    unit: str
    description: str
    source: str = ""

    def __post_init__(self) -> None:
        if self.name.split("_", 1)[0] != self.group or "_" not in self.name:
            raise FeatureError(
                f"feature name must start with its group and an underscore, found {self.name!r} "
                f"in group {self.group!r}; call it {self.group}_{self.name}"
            )
        if self.lookback < 1:
            raise FeatureError(
                f"feature {self.name} must look back at least 1 session, found {self.lookback}"
            )
        unknown = sorted(set(self.inputs) - set(INPUTS))
        if unknown:
            raise FeatureError(
                f"feature {self.name} must have inputs among {', '.join(INPUTS)}, "
                f"found {unknown[0]!r}; correct the name"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureGroup:
    """A named set of features and the function that computes them together."""

    name: str
    """Prefix of every feature of the group."""
    title: str
    axis: Literal["own_sessions", "market"]
    """``own_sessions``: ``compute`` takes ``OwnSessions`` and returns (asset, session) arrays.
    ``market``: it takes ``MarketGrid`` and returns (session,) or (session, asset) arrays. The
    sessions are all of the input's, or only its newest ``n_out``, which are asked for."""
    features: tuple[Feature, ...]
    compute: Callable[[Any], Mapping[str, np.ndarray]]
    version: int = 1
    """Raised when a definition changes without changing its declaration."""
    load: Callable[..., pd.DataFrame] | None = None
    """``load(store, start, end, as_of)`` reads a user table (columns ``date, symbol, …``, maybe
    ``available_at``); ``compute`` reads it with ``bars.table_column(name, column)``. What
    became available after ``as_of`` is dropped by the builder, whatever ``load`` returns."""

    def __post_init__(self) -> None:
        if not self.features:
            raise FeatureError(f"feature group {self.name} must declare features, found none")
        foreign = [f.name for f in self.features if f.group != self.name]
        if foreign:
            raise FeatureError(
                f"feature group {self.name} must hold only its own features, found {foreign[0]}"
            )


def definer(group: str) -> Callable[..., Feature]:
    """Shorthand for the declarations of one group.

    Returns:
        ``define(name, inputs, lookback, unit, description, source="")``; ``inputs`` is text,
        names separated by blanks.
    """

    def define(
        name: str, inputs: str, lookback: int, unit: str, description: str, source: str = ""
    ) -> Feature:
        return Feature(
            name=f"{group}_{name}",
            group=group,
            inputs=tuple(inputs.split()),
            lookback=lookback,
            unit=unit,
            description=description,
            source=source,
        )

    return define


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureConfig:
    """The ``[features]`` section of ``tft.toml``."""

    groups: tuple[str, ...] = ()
    """Group names (prefixes) to build; empty means all."""
    plugins: tuple[str, ...] = ()
    """The user's modules that each expose a ``GROUP``: importable names, or files (``….py``),
    absolute or relative to the folder of the configuration file."""
    series: tuple[str, ...] = ()
    """Exogenous series of the store; the i-th one fills the features ``exo_i_…``."""

    def __post_init__(self) -> None:
        if len(self.series) > N_EXOGENOUS_SLOTS:
            raise ConfigError(
                f"features.series must name at most {N_EXOGENOUS_SLOTS} series, "
                f"found {len(self.series)}; add a feature group for more"
            )
        for name in ("groups", "plugins", "series"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ConfigError(f"features.{name} must not repeat a name, found {values}")


@dataclass(frozen=True, slots=True)
class FeatureRegistry:
    """All groups of a configuration, names unique, order fixed."""

    groups: tuple[FeatureGroup, ...]

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        prefixes: set[str] = set()
        for group in self.groups:
            if group.name in prefixes:
                raise FeatureError(
                    f"feature group names must be unique, found {group.name!r} twice; "
                    "rename the plug-in's group"
                )
            prefixes.add(group.name)
            for feature in group.features:
                if feature.name in seen:
                    raise FeatureError(
                        f"feature names must be unique, found {feature.name} twice "
                        f"(groups {seen[feature.name]} and {group.name}); rename one"
                    )
                seen[feature.name] = group.name

    @classmethod
    def from_config(cls, config: FeatureConfig) -> "FeatureRegistry":
        """Built-in groups, then the user's, restricted to the configured names.

        Raises:
            FeatureError: A plug-in has no ``GROUP``, a name clashes, or a group is unknown.
        """
        modules = [f"{__package__}.groups.{name}" for name in BUILT_IN_GROUPS]
        groups = [_load_group(path) for path in (*modules, *config.plugins)]
        every = cls(tuple(groups))
        if not config.groups:
            return every
        known = [group.name for group in groups]
        unknown = [name for name in config.groups if name not in known]
        if unknown:
            raise FeatureError(
                f"features.groups must be among {', '.join(known)}, found {unknown[0]!r}"
            )
        return cls(tuple(group for group in groups if group.name in config.groups))

    @property
    def features(self) -> tuple[Feature, ...]:
        return tuple(feature for group in self.groups for feature in group.features)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    def lookback(self, axis: str) -> int:
        """Longest lookback among the groups of one axis; 1 if there are none."""
        return max(
            (f.lookback for group in self.groups if group.axis == axis for f in group.features),
            default=1,
        )

    def catalogue(self) -> pd.DataFrame:
        """One row per feature: the source of the documentation page."""
        rows = [
            {
                "name": f.name,
                "group": f.group,
                "title": group.title,
                "inputs": " ".join(f.inputs),
                "lookback": f.lookback,
                "unit": f.unit,
                "description": f.description,
                "source": f.source,
                "counted_on": group.axis,
                "version": group.version,
            }
            for group in self.groups
            for f in group.features
        ]
        return pd.DataFrame(rows)

    def catalogue_hash(self) -> str:
        """Changes with any name, order, lookback, definition text or group version."""
        return content_hash(self.catalogue().to_dict(orient="records"))


def plugin_file(path: str) -> Path:
    """The file of a plug-in, as ``FeatureConfig.plugins`` names it.

    Raises:
        FeatureError: There is none.
    """
    if path.endswith(".py"):
        return _file_of(path)
    file = _module_of_name(path).__file__
    if file is None:
        raise FeatureError(
            f"feature plug-in must be a module with a file, found {path!r} without one; "
            "name the module that exposes GROUP"
        )
    return Path(file)


def _load_group(path: str) -> FeatureGroup:
    module = _module_of_file(path) if path.endswith(".py") else _module_of_name(path)
    group = getattr(module, "GROUP", None)
    if not isinstance(group, FeatureGroup):
        raise FeatureError(
            f"feature plug-in {path} must expose GROUP, a FeatureGroup, found {group!r}"
        )
    return group


def _module_of_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise FeatureError(
            f"feature plug-in must be an importable module, found {name!r} ({error}); "
            "correct features.plugins or PYTHONPATH"
        ) from error


def _file_of(path: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_absolute():
        file = _config_folder() / file
    if not file.is_file():
        raise FeatureError(
            f"feature plug-in must be a Python file, found nothing at {file}; correct "
            "features.plugins (files are relative to the configuration file)"
        )
    return file


def _module_of_file(path: str) -> ModuleType:
    file = _file_of(path)
    name = f"tft_plugin_{content_hash([str(file.resolve())])[:8]}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # a .py file has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # what the file defines can say where it comes from
    spec.loader.exec_module(module)
    return module


def _config_folder() -> Path:
    try:
        return find_config().resolve().parent
    except ConfigError:  # settings made in code have no file
        return Path.cwd()


def check_result(
    group: FeatureGroup, result: Mapping[str, np.ndarray], shapes: Iterable[tuple[int, ...]]
) -> None:
    """Refuse a group whose ``compute`` did not return what it declared.

    Raises:
        FeatureError: Names or shapes differ from the declaration.
    """
    declared = {f.name for f in group.features}
    if set(result) != declared:
        odd = sorted(declared.symmetric_difference(result))
        raise FeatureError(
            f"feature group {group.name} must return exactly its declared features, "
            f"found a difference at {odd[0]}"
        )
    allowed = set(shapes)
    for name, values in result.items():
        if values.shape not in allowed:
            raise FeatureError(
                f"feature {name} must have the shape {' or '.join(map(str, sorted(allowed)))}, "
                f"found {values.shape}"
            )
