"""The code location: ``dagster ... -m tft_assets.definitions`` and ``dg`` load ``defs``."""

from tft_assets.build import build_defs

defs = build_defs()
