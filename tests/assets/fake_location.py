"""A code location over a fake workspace: its home and sections come from the environment."""

import json
import os
from pathlib import Path

from fake_workspace import Home

from tft_assets.build import build_defs

home = Home(Path(os.environ["FAKE_HOME"]), json.loads(os.environ["FAKE_SECTIONS"]))
defs = build_defs(home.resources())
