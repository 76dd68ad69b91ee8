"""Reads ``tft.toml`` and hands each section to the frozen dataclass it configures.

The dataclasses live beside the classes they configure; this file knows only how to
find the file, lay a profile over it, and refuse what nobody would read.
"""

import dataclasses
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from tft_core.errors import ConfigError

CONFIG_ENV, PROFILE_ENV, HOME_ENV = "TFT_CONFIG", "TFT_PROFILE", "TFT_HOME"
ARTIFACTS_ENV, CACHE_ENV = "TFT_ARTIFACTS_URL", "TFT_ARTIFACT_CACHE"
STUDIES_ENV = "TFT_STUDIES_URL"
DEFAULT_CONFIG_NAME = "tft.toml"

SECTIONS = (
    "store",
    "universe",
    "costs",
    "folds",
    "features",
    "selection",
    "exploration",
    "model",
    "training",
    "positions",
    "tuning",
    "gate",
    "serving",
    "operations",
)
"""Every section a ``tft.toml`` may hold; ``[profile.<name>.<section>]`` overlays it."""


class _Dataclass(Protocol):
    """Any instance of a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


T = TypeVar("T", bound=_Dataclass)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One resolved configuration: the file's sections with a profile laid over them."""

    path: Path | None
    """The file read; ``None`` for settings made in code (tests, notebooks)."""
    profile: str
    home: Path
    """Directory of all state: store, artifacts, checkpoints, studies, ledger, reports."""
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def build(self, cls: type[T], section: str, **overrides: Any) -> T:
        """Make ``cls`` from a section; ``overrides`` go before what the file says.

        Raises:
            ConfigError: No such section, or a key or value that ``cls`` refuses.
        """
        if section not in SECTIONS:
            raise ConfigError(
                f"config section must be one of {', '.join(SECTIONS)}, found {section!r}"
            )
        values = {**self.sections.get(section, {}), **overrides}
        return build_dataclass(cls, values, where=f"[{section}]")

    @property
    def store_path(self) -> Path:
        """The market store's DuckDB file."""
        return self.home / "market.duckdb"

    @property
    def artifacts_url(self) -> str | None:
        """Object store of the artifacts: ``$TFT_ARTIFACTS_URL``, else ``None``: under the home."""
        return os.environ.get(ARTIFACTS_ENV) or None

    @property
    def artifact_cache(self) -> Path:
        """Copies of what lies in that object store: ``$TFT_ARTIFACT_CACHE``, else in the home.

        A name with a dot is no state: backups leave it out.
        """
        named = os.environ.get(CACHE_ENV)
        return Path(named).expanduser() if named else self.home / ".artifact-cache"

    @property
    def checkpoints_dir(self) -> Path:
        """The registry of trained models."""
        return self.home / "checkpoints"

    @property
    def studies_url(self) -> str:
        """Optuna storage: ``$TFT_STUDIES_URL`` (Postgres), else SQLite under the home."""
        return os.environ.get(STUDIES_ENV) or f"sqlite:///{self.home / 'studies.db'}"

    @property
    def ledger_path(self) -> Path:
        """The SQLite file of published signals and positions."""
        return self.home / "signals.sqlite"

    @property
    def alerts_path(self) -> Path:
        """The SQLite file of what a person must be told."""
        return self.home / "alerts.sqlite"

    @property
    def reports_dir(self) -> Path:
        """Pages that commands write, beside those of the artifacts."""
        return self.home / "reports"


def load_settings(
    path: str | os.PathLike[str] | None = None,
    profile: str | None = None,
    home: str | os.PathLike[str] | None = None,
) -> Settings:
    """Read the configuration file and lay the chosen profile over it.

    Args:
        path: The file; default ``$TFT_CONFIG``, else ``tft.toml`` in this or a parent folder.
        profile: Name of a ``[profile.<name>]``; default ``$TFT_PROFILE``, else the file's
            ``default_profile``.
        home: State directory; default ``$TFT_HOME``, else ``var`` beside the file.

    Raises:
        ConfigError: The file is missing or malformed, or names an unknown section or profile.
    """
    file = find_config(path)
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} must be valid TOML, found: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} must be UTF-8 text, found: {error}") from error
    profiles = raw.pop("profile", {})
    _require_table(profiles, "profile.<name>", file)
    default = raw.pop("default_profile", "demo")
    name = profile or os.environ.get(PROFILE_ENV) or default
    if name not in profiles:
        raise ConfigError(
            f"profile must be one of {', '.join(sorted(profiles)) or '(none)'} in {file}, "
            f"found {name!r}; set ${PROFILE_ENV} or add [profile.{name}]"
        )
    for profile_name, tables in profiles.items():
        _require_table(tables, f"profile.{profile_name}", file)
    for level, tables in (("", raw), *((f"profile.{p}.", t) for p, t in profiles.items())):
        unknown = sorted(set(tables) - set(SECTIONS))
        if unknown:
            raise ConfigError(
                f"{file} must hold only the sections {', '.join(SECTIONS)}, "
                f"found [{level}{unknown[0]}]; remove it or correct the name"
            )
        for section, values in tables.items():
            _require_table(values, f"{level}{section}", file)
    overlay = profiles[name]
    sections = {
        section: {**raw.get(section, {}), **overlay.get(section, {})}
        for section in SECTIONS
        if section in raw or section in overlay
    }
    state = home or os.environ.get(HOME_ENV) or file.parent / "var"
    return Settings(path=file, profile=name, home=local_directory(state), sections=sections)


def _require_table(value: Any, heading: str, file: Path) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"[{heading}] must be a table of {file}, found {value!r}; write its settings below "
            "that heading"
        )


def local_directory(named: str | os.PathLike[str]) -> Path:
    """The state directory, resolved.

    Raises:
        ConfigError: It is a URL. Locks, renames and data bases need a POSIX file system.
    """
    if "://" in os.fspath(named):
        raise ConfigError(
            f"${HOME_ENV} must be a directory of a POSIX file system, found {named}; only "
            f"artifacts can lie in an object store (${ARTIFACTS_ENV})"
        )
    return Path(named).expanduser().resolve()


def find_config(path: str | os.PathLike[str] | None = None) -> Path:
    """The configuration file that ``load_settings`` reads.

    Raises:
        ConfigError: There is none where it is named, or in this folder and those above it.
    """
    named = path or os.environ.get(CONFIG_ENV)
    if named:
        file = Path(named).expanduser().resolve()
        if not file.is_file():
            raise ConfigError(
                f"configuration must be a file, found nothing at {file}; "
                f"correct ${CONFIG_ENV} or run `tft init`"
            )
        return file
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / DEFAULT_CONFIG_NAME).is_file():
            return folder / DEFAULT_CONFIG_NAME
    raise ConfigError(
        f"{DEFAULT_CONFIG_NAME} must lie in {here} or a folder above it, found none; "
        f"run `tft init` or set ${CONFIG_ENV}"
    )


def build_dataclass(cls: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """Make a config dataclass from plain TOML values, coercing lists, dates and nested tables.

    Raises:
        ConfigError: A key is unknown, a value has the wrong type, or validation refuses it.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(
            f"{where} must hold only {', '.join(fields)}, found {unknown[0]!r}; "
            "remove it or correct the name"
        )
    coerced = {
        key: _coerce(value, hints[key], where=f"{where} {key}") for key, value in values.items()
    }
    try:
        return cls(**coerced)
    except TypeError as error:
        raise ConfigError(f"{where} must give every required key: {error}") from error


def _coerce(value: Any, hint: Any, *, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        errors = []
        for option in (a for a in args if a is not type(None)):
            try:
                return _coerce(value, option, where=where)
            except ConfigError as error:
                errors.append(str(error))
        raise ConfigError(errors[0])
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where} must be one of {list(args)}, found {value!r}")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(inner) != len(value):
            raise ConfigError(f"{where} must hold {len(inner)} values, found {len(value)}")
        return tuple(_coerce(v, h, where=where) for v, h in zip(value, inner, strict=True))
    if origin is tuple:  # a text is a sequence too, of letters
        raise ConfigError(f"{where} must be a list, found {value!r}; write it in brackets")
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a table, found {value!r}")
        return {k: _coerce(v, args[1], where=f"{where}.{k}") for k, v in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build_dataclass(hint, value, where=where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is date and isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError as error:
            raise ConfigError(
                f"{where} must be an ISO date, found {value!r}; write it as 2024-01-31"
            ) from error
    if hint is date and isinstance(value, datetime):  # which is a date too, but compares with none
        raise ConfigError(f"{where} must be a date without time, found {value}; leave the time out")
    if hint is Any or origin is not None:
        return value
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(
            f"{where} must be of type {hint.__name__}, found {value!r} ({type(value).__name__})"
        )
    return value
