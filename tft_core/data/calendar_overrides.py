"""What the override files add to exchange_calendars: other names, sessions, days without one.

``calendar_overrides.toml`` is ours; ``$TFT_CALENDAR_OVERRIDES`` names the user's, which is laid
over it.
"""

import tomllib
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from tft_core.errors import ConfigError

OVERRIDES_ENV = "TFT_CALENDAR_OVERRIDES"


@dataclass(frozen=True, slots=True)
class Overrides:
    """Names and dates that the override files add to or take from the calendars."""

    aliases: dict[str, str] = field(default_factory=dict)
    """Code of an exchange → name of its calendar."""
    added: dict[str, frozenset[date]] = field(default_factory=dict)
    """Calendar → days that are sessions though it says otherwise."""
    removed: dict[str, frozenset[date]] = field(default_factory=dict)
    """Calendar → days that are none."""
    until: dict[str, date] = field(default_factory=dict)
    """Last day that ``added`` and ``removed`` cover beyond the end of the calendar itself."""


def read_overrides(path: Path, base: Overrides) -> Overrides:
    """What a file says on top of ``base``.

    Raises:
        ConfigError: It is no TOML file, or holds something else than aliases and calendars of
            the kinds below.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"calendar overrides {path} must be a TOML file, found: {error}; "
            f"correct it or ${OVERRIDES_ENV}"
        ) from error
    unknown = sorted(set(raw) - {"aliases", "calendars"})
    if unknown:
        raise ConfigError(
            f"calendar overrides {path} must hold only aliases and calendars, "
            f"found {unknown[0]!r}; remove it or correct the name"
        )
    aliases = {**base.aliases, **_names(raw.get("aliases", {}), path)}
    added, removed, until = dict(base.added), dict(base.removed), dict(base.until)
    for name, value in _table(raw.get("calendars", {}), "[calendars]", path).items():
        table = _table(value, f"[calendars.{name}]", path)
        unknown = sorted(set(table) - {"added", "removed", "until"})
        if unknown:
            raise ConfigError(
                f"calendar overrides {path} [calendars.{name}] must hold only added, removed and "
                f"until, found {unknown[0]!r}; remove it or correct the name"
            )
        added[name] = added.get(name, frozenset()) | _dates(table.get("added", []), path)
        removed[name] = removed.get(name, frozenset()) | _dates(table.get("removed", []), path)
        if "until" in table:
            (until[name],) = _dates([table["until"]], path)
    return Overrides(aliases, added, removed, until)


def _table(value: Any, what: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(
            f"{what} of calendar overrides {path} must be a table, found {value!r}; "
            f"write {what} on a line of its own and its entries below"
        )
    return value


def _names(value: Any, path: Path) -> dict[str, str]:
    aliases = _table(value, "[aliases]", path)
    for code, name in aliases.items():
        if not isinstance(name, str):
            raise ConfigError(
                f"[aliases] of calendar overrides {path} must name a calendar for each code, "
                f'found {code} = {name!r}; write {code} = "XNSE", for example'
            )
    return aliases


def _dates(values: Any, path: Path) -> frozenset[date]:
    if not isinstance(values, list):
        raise ConfigError(
            f"calendar overrides {path} must give lists of dates, found {values!r}; "
            "write [2024-11-01]"
        )
    for value in values:
        if not isinstance(value, date) or isinstance(value, datetime):
            raise ConfigError(
                f"calendar overrides {path} must list plain dates, found {value!r}; "
                "write 2024-11-01 without quotes"
            )
    return frozenset(values)
