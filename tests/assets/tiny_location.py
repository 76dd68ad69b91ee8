"""A code location over the tiny lifecycle of ``tests/support/tiny.py``, real phases and all."""

import os
from pathlib import Path

from tests.support.tiny import tiny_settings
from tft_assets.build import build_defs
from tft_assets.resources import WorkspaceFactory
from tft_core.training_pipeline import Workspace


class TinyFactory(WorkspaceFactory):
    home: str

    def open(self) -> Workspace:
        return Workspace.open(tiny_settings(Path(self.home)))


defs = build_defs({"workspace": TinyFactory(home=os.environ["FAKE_HOME"])})
