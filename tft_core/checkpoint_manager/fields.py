"""Rules for single values that come from a caller or a file: each gives the plain JSON value.

A rule takes anything and returns the value in its stored form, or raises ``Refused`` with the
sentence that follows the field's name. What fields there are, ``metadata`` says.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tft_core.checkpoint_manager.atomic import MAX_INTEGER, MAX_JSON_DEPTH
from tft_core.errors import CheckpointError

MODEL_TYPE_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,63}")
MAX_VERSION = 999_999_999
_FIRST_YEAR = 1970
_MAX_SEEDS = 1000


def plain_json(value: Any, what: str) -> Any:
    """The JSON value of plain Python data: dicts, lists, texts, finite numbers, dates, arrays.

    Raises:
        CheckpointError: Something in it is none of these; the place is named.
    """
    try:
        return _plain(value, "", 1)
    except Refused as refused:
        raise CheckpointError(f"{what}{refused.where} {refused}") from refused


class Refused(Exception):
    """A value breaks its field's rule; ``where`` is the place inside the field."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where


def shown(value: Any) -> str:
    """A value for a message: its text, cut where it is long."""
    if isinstance(value, (str, bytes, list, tuple, dict)) and len(value) > 1000:
        return f"{type(value).__name__} of {len(value)}"  # its text could be as long as a file
    words = repr(value)
    return words if len(words) <= 60 else words[:57] + "..."


def _encodable(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value)


def whole(low: int, high: int = MAX_INTEGER) -> Callable[[Any], int]:
    """A rule: an integer in [low, high]; NumPy's become plain, a bool is none."""

    def check(value: Any) -> int:
        if isinstance(value, np.integer):
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise Refused(f"must be a whole number from {low} to {high}, found {shown(value)}")
        return value

    return check


def text(value: Any) -> str:
    """A text that is not empty, of at most 1000 characters."""
    if not isinstance(value, str) or not 0 < len(value) <= 1000 or not _encodable(value):
        raise Refused(f"must be a text of 1 to 1000 characters, found {shown(value)}")
    return value


def optional_text(value: Any) -> str | None:
    """As ``text``, or ``None``."""
    return None if value is None else text(value)


def model_type(value: Any) -> str:
    """A name that is a folder's too."""
    if not isinstance(value, str) or not MODEL_TYPE_PATTERN.fullmatch(value):
        raise Refused(f"must be lower-case letters, digits and _, found {shown(value)}")
    return value


def one_of(options: tuple[str, ...]) -> Callable[[Any], str]:
    """A rule: one of these texts."""

    def check(value: Any) -> str:
        if value not in options:
            raise Refused(f"must be one of {', '.join(options)}, found {shown(value)}")
        return value

    return check


def names(value: Any) -> tuple[str, ...]:
    """Different texts, at least one."""
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(v, str) and v and _encodable(v) for v in value
    ):
        raise Refused(f"must be a list of names, found {shown(value)}")
    if len(set(value)) != len(value):
        twice = Counter(value).most_common(1)[0][0]
        raise Refused(f"must not repeat a name, found {shown(twice)} twice")
    if not value:
        raise Refused("must hold at least one name, found none")
    return tuple(value)


def seeds(value: Any) -> tuple[int, ...]:
    """One seed of each member of an ensemble."""
    if not isinstance(value, (list, tuple)) or not 0 < len(value) <= _MAX_SEEDS:
        raise Refused(f"must be a list of 1 to {_MAX_SEEDS} seeds, found {shown(value)}")
    return tuple(whole(0)(seed) for seed in value)


def figure(value: Any) -> float | None:
    """A finite number; ``None`` where it is undefined."""
    if value is None:
        return None
    if isinstance(value, (np.floating, np.integer)):
        value = value.item()
    if not is_number(value):
        raise Refused(f"must be a finite number or None, found {shown(value)}; None says undefined")
    return float(value)


def is_number(value: Any) -> bool:
    """True for a finite float or an integer of at most 64 bits; a bool is no number."""
    if type(value) is int:
        return abs(value) <= MAX_INTEGER
    return isinstance(value, float) and math.isfinite(value)


def iso_date(value: Any) -> str:
    """A date as ISO text."""
    day = value.isoformat()[:10] if isinstance(value, date) else value
    try:
        valid = isinstance(day, str) and date.fromisoformat(day).isoformat() == day
    except ValueError:
        valid = False
    if not valid:
        raise Refused(f"must be an ISO date (YYYY-MM-DD), found {shown(value)}")
    return day


def instant(value: Any) -> str:
    """A time with a zone as ISO text; "" where it is not known yet."""
    if value == "":
        return ""
    try:
        moment = datetime.fromisoformat(value)
        valid = moment.tzinfo is not None and moment.astimezone(UTC).year >= _FIRST_YEAR
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid:
        raise Refused(
            f"must be an ISO time with a zone, from {_FIRST_YEAR} on, found {shown(value)}"
        )
    return value


def table(value: Any) -> dict[str, Any]:
    """Plain data by text keys, copied."""
    plain = _plain(value, "", 1)
    if not isinstance(plain, dict):
        raise Refused(f"must be a table, found {shown(value)}")
    return plain


def optional_table(value: Any) -> dict[str, Any] | None:
    """As ``table``, or ``None``."""
    return None if value is None else table(value)


def gate(value: Any) -> dict[str, Any] | None:
    """A verdict of the promotion gate; ``None`` where it has not judged."""
    verdict = optional_table(value)
    if verdict is not None and not isinstance(verdict.get("passed"), bool):
        raise Refused(f"must hold a boolean 'passed', found {shown(verdict.get('passed'))}")
    return verdict


def versions(value: Any) -> dict[str, str]:
    """Library → version."""
    found = table(value)
    for name, version in found.items():
        if not isinstance(version, str):
            raise Refused(f"must be a text, found {shown(version)}", f".{name}")
    return found


def quantiles(value: Any) -> dict[str, list[float | None]]:
    """Feature → numbers, ``None`` where undefined."""
    found: dict[str, list[float | None]] = {}
    for name, column in table(value).items():
        if not isinstance(column, list) or not all(q is None or is_number(q) for q in column):
            raise Refused(f"must be a list of numbers, found {shown(column)}", f".{name}")
        found[name] = [None if q is None else float(q) for q in column]
    return found


def _plain(value: Any, where: str, depth: int) -> Any:
    """The JSON value of a plain Python value; anything else is refused by its place."""
    if depth > MAX_JSON_DEPTH - 2:
        raise Refused(f"must nest at most {MAX_JSON_DEPTH - 2} deep", where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise Refused("must fit 64 bits, found a larger integer", where)
        return int(value)
    if isinstance(value, str):
        if not _encodable(value):
            raise Refused("must be valid Unicode, found a lone surrogate", where)
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Refused(f"must be finite, found {value}; write None where undefined", where)
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise Refused(f"must have text keys, found {shown(key)}", where)
        return {key: _plain(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise Refused(f"must be plain data, found {type(value).__name__}", where)
