"""The fake code location, whose steps take a while and note where and when they ran."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fake_workspace import FakeWorkspace, FakeWorkspaceFactory

from tft_assets.build import build_defs
from tft_core.training_pipeline.artifacts import Artifact
from tft_core.training_pipeline.graph import SPECS

NODE_ENV = "FAKE_NODE"
TRAINING_S = 3.0
STEPS = "steps.jsonl"


class RecordedWorkspace(FakeWorkspace):
    """A fake workspace that trains for seconds and writes a line about each build."""

    def build(
        self,
        asset: str,
        key: str,
        overrides: Mapping[str, Any] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Artifact:
        began = time.time()
        if SPECS[asset].trains:
            time.sleep(TRAINING_S)
        made = super().build(asset, key, overrides, progress)
        step = {
            "asset": asset,
            "key": key,
            "node": os.environ.get(NODE_ENV, ""),
            "executor": os.environ.get("TFT_EXECUTOR", ""),
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            "began": began,
            "ended": time.time(),
        }
        with (self.settings.home / STEPS).open("a") as lines:
            lines.write(json.dumps(step) + "\n")
        return made


class RecordedFactory(FakeWorkspaceFactory):
    def open(self) -> RecordedWorkspace:
        return RecordedWorkspace(Path(self.home), json.loads(self.sections))


defs = build_defs(
    {
        "workspace": RecordedFactory(
            home=os.environ["FAKE_HOME"], sections=os.environ["FAKE_SECTIONS"]
        )
    }
)
