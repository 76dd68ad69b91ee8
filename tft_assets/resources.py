"""The one resource: a workspace of the core, opened from ``tft.toml`` in each process."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import dagster as dg
from pydantic import Field

from tft_core.checks import Finding
from tft_core.config import Settings, load_settings
from tft_core.folds import WalkForward
from tft_core.training_pipeline.arrivals import Arrivals
from tft_core.training_pipeline.artifacts import Artifact, ArtifactStore


class LifecycleWorkspace(Protocol):
    """What the assets use of ``tft_core.training_pipeline.Workspace``."""

    @property
    def settings(self) -> Settings: ...
    @property
    def plan(self) -> WalkForward: ...
    @property
    def artifacts(self) -> ArtifactStore: ...
    @property
    def retune_every(self) -> int: ...

    def build(
        self,
        asset: str,
        key: str,
        overrides: Mapping[str, Any] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Artifact: ...
    def is_fresh(self, asset: str, key: str) -> bool: ...
    def arrivals_stamp(self) -> str: ...
    def arrivals(self) -> Arrivals: ...
    def health(self) -> tuple[Finding, ...]: ...


class WorkspaceFactory(dg.ConfigurableResource[LifecycleWorkspace], ABC):
    """Opens a workspace, when the definitions are assembled and again in each step."""

    @abstractmethod
    def open(self) -> LifecycleWorkspace: ...

    def create_resource(self, context: dg.InitResourceContext) -> LifecycleWorkspace:
        return self.open()


class WorkspaceResource(WorkspaceFactory):
    """The workspace of a configuration file and profile."""

    config: str | None = Field(
        None, description="Path of the configuration; default `$TFT_CONFIG`, else `tft.toml`."
    )
    profile: str | None = Field(
        None, description="`demo`, `standard`, `paper` or your own; default `$TFT_PROFILE`."
    )
    home: str | None = Field(
        None, description="State directory; default `$TFT_HOME`, else `var` beside the file."
    )

    def open(self) -> LifecycleWorkspace:
        from tft_core.training_pipeline import Workspace

        return Workspace.open(load_settings(self.config, self.profile, self.home))
