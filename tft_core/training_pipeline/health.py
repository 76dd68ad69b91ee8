"""Is serving healthy today: are the bars fresh, the model young, its inputs as in training?"""

from datetime import UTC, datetime, timedelta

from tft_core.checks.findings import Finding
from tft_core.data.calendar import last_closed_session, sessions
from tft_core.errors import InferenceError
from tft_core.inference import ServingConfig, TFTInferencePipeline
from tft_core.schema import MODEL_TYPE
from tft_core.training_pipeline.config import OperationsConfig
from tft_core.training_pipeline.workspace import Workspace

OLD_SHARE = 0.8
"""Of the age up to which a model is served; from there on it is said, beyond the whole it fails."""


def health_findings(workspace: Workspace, now: datetime | None = None) -> tuple[Finding, ...]:
    """Coded findings: ``data_is_fresh``, ``model_is_young``, ``inputs_have_not_drifted``.

    Args:
        now: The moment to judge at; default now (UTC).

    Raises:
        TftError: The store cannot be read.
    """
    moment = now or datetime.now(UTC)
    serving = workspace.settings.build(ServingConfig, "serving")
    operations = workspace.settings.build(OperationsConfig, "operations")
    closed = last_closed_session(operations.exchange, moment)
    found = []
    with workspace.store() as store:
        newest = store.last_session()
        behind = len(sessions(operations.exchange, newest, closed)) - 1 if newest < closed else 0
        if behind > serving.max_bar_age_sessions:
            found.append(
                Finding(
                    "data_is_fresh",
                    "error",
                    f"the newest bar is of {newest}, {behind} sessions before {closed}; run "
                    "`tft ingest`",
                    {"sessions_behind": behind},
                )
            )
        if not workspace.registry.production_history(MODEL_TYPE):
            found.append(
                Finding("model_is_young", "warn", "no model is in production; run `make run`")
            )
            return tuple(found)
        pipeline = TFTInferencePipeline.from_production(MODEL_TYPE, workspace.settings)
        age = closed - datetime.fromisoformat(pipeline.metadata.trained_through).date()
        limit = timedelta(days=serving.max_model_age_days)
        if age > OLD_SHARE * limit:
            found.append(
                Finding(
                    "model_is_young",
                    "error" if age > limit else "warn",
                    f"the model in production is {age.days} days old, served up to {limit.days}; "
                    "materialize production_checkpoint",
                    {"age_days": age.days},
                )
            )
        try:
            pipeline.refuse_drift(pipeline.inputs(store, newest, newest), newest)
        except InferenceError as error:
            found.append(Finding("inputs_have_not_drifted", "error", str(error)))
    return tuple(found)
