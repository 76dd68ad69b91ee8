"""What a checkpoint says of itself: typed, finite and complete, or not accepted at all."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tft_core.checkpoint_manager.atomic import (
    MAX_JSON_DEPTH,
    StrictJsonError,
    dump_json,
    load_json,
)
from tft_core.errors import CheckpointError

SCHEMA_VERSION = 1
MODEL_TYPE_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,63}")
PATHS = ("tuned", "default")
STATUSES = ("candidate", "refused")

NOT_CONTENT = frozenset(
    {"version", "created_at", "git_commit", "library_versions", "run_info", "status", "gate"}
)
"""Fields that say how and when a model was made, or what was thought of it; the rest, and the
weights, are what it *is* and make its content hash."""


@dataclass(frozen=True, kw_only=True)
class CheckpointMetadata:
    """Everything that serving needs beside the weights, and where it all came from.

    Values are validated and copied into plain JSON types when the object is made, so that
    ``from_json(to_json())`` is the same object and later changes to the caller's dicts don't
    reach it.

    Raises:
        CheckpointError: A field has the wrong type, is not finite, or contradicts another one;
            all such fields are named at once.
    """

    version: int = 0
    """Number within the model type; 0 lets ``CheckpointManager.save`` give the next one."""
    model_type: str
    created_at: str = ""
    """UTC, ISO 8601; ``save`` fills it in."""
    git_commit: str | None = None
    feature_names: tuple[str, ...]
    n_features: int
    n_assets: int
    asset_names: tuple[str, ...]
    config: Mapping[str, Any]
    """The full XTrendConfig."""
    normalization: Mapping[str, Any]
    """``mean`` and ``std`` per feature (``None`` where undefined) and ``clip``."""
    training_info: Mapping[str, Any]
    """Fold ranges, epochs, per-fold metrics; only what is the same when training is redone."""
    feature_selection: Mapping[str, Any] = field(default_factory=dict)
    optuna_best_params: Mapping[str, Any] | None = None
    sharpe_oos: float | None = None
    total_return_oos: float | None = None
    max_drawdown_oos: float | None = None

    schema_version: int = SCHEMA_VERSION
    fold: str
    """Key of the fold whose training rows made the weights."""
    path: Literal["tuned", "default"]
    trained_through: str
    """ISO date of the newest session whose label or bar any weight has seen."""
    data_hash: str
    catalogue_hash: str
    fold_spec: Mapping[str, Any]
    universe: Mapping[str, Any]
    cost_model: Mapping[str, Any]
    position_config: Mapping[str, Any]
    calendar: Mapping[str, Any] = field(default_factory=dict)
    context_bank: Mapping[str, Any] = field(default_factory=dict)
    feature_quantiles: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """Training quantiles of every feature, for the drift guard; empty: unknown."""
    seeds: tuple[int, ...]
    threads: int
    library_versions: Mapping[str, str] = field(default_factory=dict)
    gate: Mapping[str, Any] | None = None
    """Verdict of the promotion gate, with a boolean ``passed``; ``None``: not judged."""
    status: Literal["candidate", "refused"] = "candidate"
    run_info: Mapping[str, Any] = field(default_factory=dict)
    """Of the making and not of the result: wall time, host, run id."""

    def __post_init__(self) -> None:
        problems: list[str] = []
        for spec in dataclasses.fields(self):
            try:
                value = _CHECKS[spec.name](getattr(self, spec.name))
            except _Refused as refused:
                problems.append(f"{spec.name}{refused.where} {refused}")
            else:
                object.__setattr__(self, spec.name, value)
        if not problems:
            problems = _contradictions(self)
        if problems:
            raise CheckpointError("checkpoint metadata: " + "; ".join(problems))

    def replace(self, **changes: Any) -> "CheckpointMetadata":
        """A copy with some fields changed, validated anew."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}

    def to_json(self) -> str:
        return dump_json(self.to_dict()).decode("utf-8")

    def content(self) -> dict[str, Any]:
        """The fields that make two checkpoints the same model (see ``NOT_CONTENT``)."""
        return {key: value for key, value in self.to_dict().items() if key not in NOT_CONTENT}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CheckpointMetadata":
        """Make metadata from a complete table.

        Raises:
            CheckpointError: Missing and unknown keys (all listed), or a value refused.
        """
        names = [spec.name for spec in dataclasses.fields(cls)]
        missing = [name for name in names if name not in values]
        unknown = sorted(str(key) for key in values if key not in names)
        if missing or unknown:
            found = [f"no {', '.join(missing)}"] if missing else []
            found += [f"unknown {', '.join(unknown[:20])}"] if unknown else []
            raise CheckpointError(
                f"checkpoint metadata must hold exactly its {len(names)} fields, found "
                f"{' and '.join(found)}; save it again with this version"
            )
        return cls(**values)

    @classmethod
    def from_json(cls, text: str | bytes) -> "CheckpointMetadata":
        """Parse metadata that may be damaged or hostile.

        Raises:
            CheckpointError: It isn't strict JSON, or see ``from_dict``.
        """
        try:
            data = text.encode("utf-8") if isinstance(text, str) else text
            values = load_json(data)
        except (StrictJsonError, UnicodeEncodeError) as error:
            raise CheckpointError(f"checkpoint metadata: {error}") from error
        if not isinstance(values, dict):
            raise CheckpointError(
                f"checkpoint metadata must be a JSON object, found {type(values).__name__}"
            )
        return cls.from_dict(values)


class _Refused(Exception):
    """A value breaks its field's rule; ``where`` is the place inside the field."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _whole(low: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, np.integer):
            value = int(value)
        if type(value) is not int or value < low:
            raise _Refused(f"must be a whole number of at least {low}, found {_shown(value)}")
        return value

    return check


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > 1000:
        raise _Refused(f"must be a text of 1 to 1000 characters, found {_shown(value)}")
    return value


def _optional_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _model_type(value: Any) -> str:
    if not isinstance(value, str) or not MODEL_TYPE_PATTERN.fullmatch(value):
        raise _Refused(f"must be lower-case letters, digits and _, found {_shown(value)}")
    return value


def _one_of(options: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in options:
            raise _Refused(f"must be one of {', '.join(options)}, found {_shown(value)}")
        return value

    return check


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) and v for v in value):
        raise _Refused(f"must be a list of names, found {_shown(value)}")
    if len(set(value)) != len(value):
        twice = sorted({name for name in value if list(value).count(name) > 1})
        raise _Refused(f"must not repeat a name, found {twice[0]!r} twice")
    if not value:
        raise _Refused("must hold at least one name, found none")
    return tuple(value)


def _seeds(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise _Refused(f"must be a list of at least one seed, found {_shown(value)}")
    return tuple(_whole(0)(seed) for seed in value)


def _figure(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, (np.floating, np.integer)):
        value = value.item()
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _Refused(
            f"must be a finite number or None, found {_shown(value)}; None says undefined"
        )
    return float(value)


def _iso_date(value: Any) -> str:
    text = value.isoformat()[:10] if isinstance(value, date) else value
    try:
        valid = isinstance(text, str) and date.fromisoformat(text).isoformat() == text
    except ValueError:
        valid = False
    if not valid:
        raise _Refused(f"must be an ISO date (YYYY-MM-DD), found {_shown(value)}")
    return text


def _instant(value: Any) -> str:
    if value == "":
        return ""
    try:
        valid = isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        valid = False
    if not valid:
        raise _Refused(f"must be an ISO time with a zone, found {_shown(value)}")
    return value


def _table(value: Any) -> dict[str, Any]:
    plain = _plain(value, "", 1)
    if not isinstance(plain, dict):
        raise _Refused(f"must be a table, found {_shown(value)}")
    return plain


def _optional_table(value: Any) -> dict[str, Any] | None:
    return None if value is None else _table(value)


def _gate(value: Any) -> dict[str, Any] | None:
    verdict = _optional_table(value)
    if verdict is not None and not isinstance(verdict.get("passed"), bool):
        raise _Refused(f"must hold a boolean 'passed', found {_shown(verdict.get('passed'))}")
    return verdict


def _versions(value: Any) -> dict[str, str]:
    table = _table(value)
    for name, version in table.items():
        if not isinstance(version, str):
            raise _Refused(f"must be a text, found {_shown(version)}", f".{name}")
    return table


def _plain(value: Any, where: str, depth: int) -> Any:
    """The JSON value of a plain Python value; anything else is refused by its place."""
    if depth > MAX_JSON_DEPTH - 2:
        raise _Refused(f"must nest at most {MAX_JSON_DEPTH - 2} deep", where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (bool, int):
        return value
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _Refused("must be valid Unicode, found a lone surrogate", where) from None
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _Refused(f"must be finite, found {value}; write None where undefined", where)
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise _Refused(f"must have text keys, found {_shown(key)}", where)
        return {key: _plain(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise _Refused(f"must be plain data, found {type(value).__name__}", where)


def _contradictions(meta: CheckpointMetadata) -> list[str]:
    """Rules that tie fields to each other."""
    problems: list[str] = []
    if meta.schema_version != SCHEMA_VERSION:
        problems.append(
            f"schema_version must be {SCHEMA_VERSION}, found {meta.schema_version}; "
            "load it with the version of the code that wrote it"
        )
    for count, names in (("n_features", meta.feature_names), ("n_assets", meta.asset_names)):
        if getattr(meta, count) != len(names):
            problems.append(
                f"{count} must be the number of names, {len(names)}, found {getattr(meta, count)}"
            )
        told = meta.config.get(count)
        if told is not None and told != len(names):
            problems.append(f"config.{count} must be {len(names)}, found {_shown(told)}")
    problems += _scaler_problems(meta.normalization, len(meta.feature_names))
    problems += _quantile_problems(meta.feature_quantiles, meta.feature_names)
    return problems


def _scaler_problems(scaler: Mapping[str, Any], n_features: int) -> list[str]:
    problems: list[str] = []
    for key in ("mean", "std"):
        column = scaler.get(key)
        if not isinstance(column, list) or len(column) != n_features:
            size = len(column) if isinstance(column, list) else "none"
            problems.append(f"normalization.{key} must hold {n_features} numbers, found {size}")
            continue
        for i, number in enumerate(column):
            if number is not None and (type(number) not in (int, float)):
                problems.append(f"normalization.{key}[{i}] must be a number, found {number!r}")
            elif key == "std" and number is not None and number <= 0:
                problems.append(f"normalization.std[{i}] must be above 0, found {number:g}")
    clip = scaler.get("clip")
    if type(clip) not in (int, float) or not clip > 0:
        problems.append(f"normalization.clip must be above 0, found {_shown(clip)}")
    return problems


def _quantile_problems(quantiles: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    if not quantiles:
        return []
    missing = [name for name in names if name not in quantiles]
    unknown = sorted(set(quantiles) - set(names))
    if missing or unknown:
        odd = [f"no {missing[0]}"] if missing else [f"unknown {unknown[0]}"]
        return [f"feature_quantiles must hold every feature and nothing else, found {odd[0]}"]
    problems = []
    for name, column in quantiles.items():
        numbers = column if isinstance(column, list) else [column]
        if not isinstance(column, list) or any(
            q is not None and type(q) not in (int, float) for q in numbers
        ):
            problems.append(f"feature_quantiles.{name} must be numbers, found {_shown(column)}")
            continue
        known = [q for q in column if q is not None]
        if known != sorted(known):
            problems.append(f"feature_quantiles.{name} must ascend, found {_shown(column)}")
    return problems


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "version": _whole(0),
    "model_type": _model_type,
    "created_at": _instant,
    "git_commit": _optional_text,
    "feature_names": _names,
    "n_features": _whole(1),
    "n_assets": _whole(1),
    "asset_names": _names,
    "config": _table,
    "normalization": _table,
    "training_info": _table,
    "feature_selection": _table,
    "optuna_best_params": _optional_table,
    "sharpe_oos": _figure,
    "total_return_oos": _figure,
    "max_drawdown_oos": _figure,
    "schema_version": _whole(1),
    "fold": _text,
    "path": _one_of(PATHS),
    "trained_through": _iso_date,
    "data_hash": _text,
    "catalogue_hash": _text,
    "fold_spec": _table,
    "universe": _table,
    "cost_model": _table,
    "position_config": _table,
    "calendar": _table,
    "context_bank": _table,
    "feature_quantiles": _table,
    "seeds": _seeds,
    "threads": _whole(1),
    "library_versions": _versions,
    "gate": _gate,
    "status": _one_of(STATUSES),
    "run_info": _table,
}
