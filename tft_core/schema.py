"""Names, constants and stored forms that every part of the system agrees upon.

Only what two or more packages must spell alike belongs here: column names, the trading
year, the model type, and how a value becomes stable text, a hash or a time stamp.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

TRADING_DAYS_PER_YEAR = 252
MODEL_TYPE = "x_trend"
LIVE_FOLD = "live"
"""Key of the fold that is trained on everything up to the newest bar."""

PathName = Literal["tuned", "default"]
"""The two ways of which one ships a fold: with searched hyper-parameters or without."""
SHIPPED = "shipped"
"""Name of the record that chains, window by window, whichever of the two was shipped."""

LABEL_LAG_SESSIONS = 2
"""A decision of session t is entered at the close of t+1, so its label ends at t+2."""

PRICE_COLUMNS = ("open", "high", "low", "close")
FIELDS = (*PRICE_COLUMNS, "volume", "open_interest")
"""The numbers of a bar."""
BAR_COLUMNS = ("date", "symbol", *FIELDS)


def canonical_json(value: Any) -> str:
    """One JSON text per value: sorted keys, ISO dates, no white space, no NaN.

    Raises:
        ValueError: A number is not finite; write ``None`` where a figure is undefined.
    """
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )


def content_hash(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a plain value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def array_hash(*arrays: np.ndarray) -> str:
    """SHA-256 (hex) over dtype, shape and bytes of each array, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def utc_stamp(moment: datetime | None = None) -> str:
    """An instant as stored documents name it, ISO 8601 to the second; default now, in UTC."""
    return (moment or datetime.now(UTC)).isoformat(timespec="seconds")


def finite_or_none(value: float) -> float | None:
    """A float for JSON: NaN and infinities, which mean "undefined", become ``None``."""
    number = float(value)
    return number if math.isfinite(number) else None


def float_or_nan(value: float | None) -> float:
    """A float from JSON, where ``None`` means "undefined": the inverse of ``finite_or_none``."""
    return math.nan if value is None else float(value)


def json_value(value: Any) -> Any:
    """A value in JSON's own types, in which every undefined figure (NaN, infinity) is ``None``."""
    plain = _plain(value)
    if isinstance(plain, dict):
        return {key: json_value(item) for key, item in plain.items()}
    if isinstance(plain, list):
        return [json_value(item) for item in plain]
    return finite_or_none(plain) if isinstance(plain, float) else plain


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return value
