"""The only assembly of the code location; tests call it with another workspace."""

from collections.abc import Mapping
from functools import partial

import dagster as dg

from tft_assets.assets.common import Lifecycle
from tft_assets.assets.exploration import exploration_assets
from tft_assets.assets.features import feature_assets
from tft_assets.assets.market import market_assets
from tft_assets.assets.production import production_assets
from tft_assets.assets.selection import selection_assets
from tft_assets.assets.serving import serving_assets
from tft_assets.assets.tuning import tuning_assets
from tft_assets.executors import executor_name, is_remote, make_executor
from tft_assets.jobs import live_fold_job, nightly_inference_job, refit_job, weekly_health
from tft_assets.resources import WorkspaceFactory, WorkspaceResource
from tft_assets.runs import owned_executor
from tft_assets.schedules import monthly_schedule, nightly_schedule, weekly_schedule
from tft_assets.sensors import alerts_sensor, dead_runs_sensor, new_data_sensor, promotion_sensor
from tft_core.training_pipeline.config import OperationsConfig


def build_defs(overrides: Mapping[str, WorkspaceFactory] | None = None) -> dg.Definitions:
    """Assets, jobs, schedules and resources of the configuration that is in force.

    Args:
        overrides: Resources that replace the standard ones, by name (``workspace``).

    Raises:
        ConfigError: ``tft.toml``, the profile or the executor cannot be used.
    """
    resources: dict[str, WorkspaceFactory] = {
        "workspace": WorkspaceResource(config=None, profile=None, home=None)
    }
    resources |= dict(overrides or {})
    workspace = resources["workspace"].open()
    lifecycle = Lifecycle.of(workspace)
    operations = workspace.settings.build(OperationsConfig, "operations")
    nightly, refit, live_fold = nightly_inference_job(), refit_job(), live_fold_job()
    refitting = live_fold if is_remote(executor_name()) else refit
    return dg.Definitions(
        assets=[
            *market_assets(lifecycle),
            *feature_assets(lifecycle),
            *exploration_assets(lifecycle),
            *selection_assets(lifecycle),
            *tuning_assets(lifecycle),
            *production_assets(lifecycle, partial(build_defs, overrides)),
            *serving_assets(lifecycle),
        ],
        jobs=[nightly, refit, live_fold, weekly_health],
        schedules=[
            nightly_schedule(
                nightly,
                operations,
                workspace.settings.ledger_path,
                lifecycle.partitions.first_session,
            ),
            weekly_schedule(operations),
            monthly_schedule(refitting, operations),
        ],
        sensors=[
            dead_runs_sensor(),
            alerts_sensor(workspace.settings, operations),
            new_data_sensor(refitting, workspace, operations),
            promotion_sensor(live_fold, refit),
        ],
        resources=resources,
        executor=owned_executor(make_executor()),
    )
