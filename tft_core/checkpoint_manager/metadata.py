"""What a checkpoint says of itself: typed, finite and complete, or not accepted at all."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

from tft_core.checkpoint_manager import fields
from tft_core.checkpoint_manager.atomic import StrictJsonError, dump_json, load_json
from tft_core.errors import CheckpointError
from tft_core.schema import PathName

SCHEMA_VERSION = 2
"""2: the identified VSN reads its weights as w/√V; schema 1 read the same numbers as w/‖w‖."""
PATHS = ("tuned", "default")
STATUSES = ("candidate", "refused")

NOT_CONTENT = frozenset(
    {"version", "created_at", "git_commit", "library_versions", "run_info"}
    | {"status", "gate", "sharpe_oos", "total_return_oos", "max_drawdown_oos"}
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
    """Net, annualised, of the out-of-sample record that the gate judged; ``None`` before that."""
    total_return_oos: float | None = None
    max_drawdown_oos: float | None = None

    schema_version: int = SCHEMA_VERSION
    fold: str
    """Key of the fold whose training rows made the weights."""
    path: PathName
    trained_through: str
    """ISO date of the newest session whose label or bar any weight has seen."""
    data_hash: str
    catalogue_hash: str
    fold_spec: Mapping[str, Any]
    universe: Mapping[str, Any]
    cost_model: Mapping[str, Any]
    position_config: Mapping[str, Any]
    calendar: Mapping[str, Any] = field(default_factory=dict)
    """Sessions of the training rows: first, last, number, hash."""
    context_bank: Mapping[str, Any] = field(default_factory=dict)
    """What the bank among the weights holds, and the date from which all of it is known."""
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
        given = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        for name, value in _checked(given).items():
            object.__setattr__(self, name, value)
        problems = _contradictions(self)
        if problems:
            raise CheckpointError("checkpoint metadata: " + "; ".join(problems))

    def replace(self, **changes: Any) -> "CheckpointMetadata":
        """A copy with some fields changed, validated anew."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """A copy of every field in plain types (tuples stay tuples)."""
        return {spec.name: deepcopy(getattr(self, spec.name)) for spec in dataclasses.fields(self)}

    def to_json(self) -> str:
        """Strict JSON of every field; ``from_json`` gives the same object back."""
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
            schema = values.get("schema_version")
            raise CheckpointError(
                f"checkpoint metadata must hold exactly the {len(names)} fields of schema "
                f"{SCHEMA_VERSION}, found {' and '.join(found)} (it says schema "
                f"{fields.shown(schema)}); load it with the version of the code that wrote it"
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


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Every value in its stored form; all that break their rule are named at once."""
    checked: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in values.items():
        try:
            checked[name] = _CHECKS[name](value)
        except fields.Refused as refused:
            problems.append(f"{name}{refused.where} {refused}")
    if problems:
        raise CheckpointError("checkpoint metadata: " + "; ".join(problems))
    return checked


def _contradictions(meta: CheckpointMetadata) -> list[str]:
    """Rules that tie fields to each other."""
    problems: list[str] = []
    if meta.schema_version != SCHEMA_VERSION:
        problems.append(
            f"schema_version must be {SCHEMA_VERSION}, found {meta.schema_version}; "
            "`tft migrate --dry-run` tells what to do"
        )
    for count, names in (("n_features", meta.feature_names), ("n_assets", meta.asset_names)):
        if getattr(meta, count) != len(names):
            problems.append(
                f"{count} must be the number of names, {len(names)}, found {getattr(meta, count)}"
            )
        told = meta.config.get(count)
        if told is not None and told != len(names):
            problems.append(f"config.{count} must be {len(names)}, found {fields.shown(told)}")
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
            if number is not None and not fields.is_number(number):
                problems.append(
                    f"normalization.{key}[{i}] must be a number, found {fields.shown(number)}"
                )
            elif key == "std" and number is not None and number <= 0:
                problems.append(f"normalization.std[{i}] must be above 0, found {number}")
    clip = scaler.get("clip")
    if clip is None or not fields.is_number(clip) or clip <= 0:
        problems.append(f"normalization.clip must be above 0, found {fields.shown(clip)}")
    return problems


def _quantile_problems(quantiles: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    if not quantiles:
        return []
    missing = [name for name in names if name not in quantiles]
    unknown = sorted(set(quantiles) - set(names))
    if missing or unknown:
        odd = [f"no {missing[0]}"] if missing else [f"unknown {unknown[0]}"]
        return [f"feature_quantiles must hold every feature and nothing else, found {odd[0]}"]
    return [
        f"feature_quantiles.{name} must ascend, found {fields.shown(column)}"
        for name, column in quantiles.items()
        if (known := [q for q in column if q is not None]) != sorted(known)
    ]


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "version": fields.whole(0, fields.MAX_VERSION),
    "model_type": fields.model_type,
    "created_at": fields.instant,
    "git_commit": fields.optional_text,
    "feature_names": fields.names,
    "n_features": fields.whole(1),
    "n_assets": fields.whole(1),
    "asset_names": fields.names,
    "config": fields.table,
    "normalization": fields.table,
    "training_info": fields.table,
    "feature_selection": fields.table,
    "optuna_best_params": fields.optional_table,
    "sharpe_oos": fields.figure,
    "total_return_oos": fields.figure,
    "max_drawdown_oos": fields.figure,
    "schema_version": fields.whole(1),
    "fold": fields.text,
    "path": fields.one_of(PATHS),
    "trained_through": fields.iso_date,
    "data_hash": fields.text,
    "catalogue_hash": fields.text,
    "fold_spec": fields.table,
    "universe": fields.table,
    "cost_model": fields.table,
    "position_config": fields.table,
    "calendar": fields.table,
    "context_bank": fields.table,
    "feature_quantiles": fields.quantiles,
    "seeds": fields.seeds,
    "threads": fields.whole(1),
    "library_versions": fields.versions,
    "gate": fields.gate,
    "status": fields.one_of(STATUSES),
    "run_info": fields.table,
}
