"""The launchpad of each asset: settings that a person may change for one run.

``None`` means "what ``tft.toml`` says", so a default is decided in one place, the core's
dataclasses; a test compares the fields with theirs.
"""

from enum import Enum
from typing import Any

import dagster as dg
from pydantic import Field


class OnMissing(Enum):
    """What ``production_checkpoint`` does where something upstream is missing or stale."""

    build = "build"
    fail = "fail"


class Overrides(dg.Config):
    """Settings of one run; those left empty stand in ``tft.toml``."""

    def to_core(self) -> dict[str, Any]:
        """The fields that were set, as the core's ``build(..., overrides)`` takes them."""
        return {k: v for k, v in self.model_dump().items() if v is not None}


class TrainingOverrides(Overrides):
    """One run of ``exploration_fold`` or ``production_fold``; mirrors ``TrainingConfig``."""

    seed: int | None = Field(None, description="Seed of the first member.")
    n_seeds: int | None = Field(None, ge=1, description="Members trained, each with its seed.")


class TuningOverrides(Overrides):
    """One run of ``optuna_study``; mirrors ``TunerConfig``."""

    n_trials: int | None = Field(None, ge=1, description="Trials the study has in the end.")
    timeout_seconds: int | None = Field(
        None, ge=1, description="Seconds after which no further trial begins."
    )


class CheckpointOverrides(Overrides):
    """One run of ``production_checkpoint``."""

    on_missing: OnMissing | None = Field(
        None,
        description="What to do where something upstream is missing or stale: `build` it as "
        "ordinary runs, or `fail` and name it. Default `build`; with Ray or Kubernetes `fail`.",
    )
    force_reason: str | None = Field(
        None,
        description="Promote the candidate although the gate refuses it, for this reason, "
        "which is written into the registry.",
    )

    def to_core(self) -> dict[str, Any]:
        values = Overrides.to_core(self)
        values.pop("on_missing", None)
        return values
