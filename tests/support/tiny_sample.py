"""The tiny lifecycle of ``tiny.py`` as a ``tft.toml`` over four series of the bundled sample."""

from datetime import date
from pathlib import Path
from typing import Any

import tomlkit

from tests.support.tiny import SECTIONS

SYMBOLS = ("EURUSD", "GBPUSD", "JPYUSD", "CHFUSD")
START, END = date(2015, 1, 1), date(2018, 7, 20)


def tiny_sample_sections() -> dict[str, dict[str, Any]]:
    """``tiny.SECTIONS`` with the sample's symbols, on the part of its history that they need."""
    sections = {name: dict(values) for name, values in SECTIONS.items()}
    sections["universe"] = {"members": [{"symbols": list(SYMBOLS)}]}
    sections["store"] = {"start": START, "end": END}
    return sections


def write_tiny_sample_config(path: Path) -> Path:
    """Write those sections, with an empty profile ``tiny``; returns the file."""
    document = {"default_profile": "tiny", **tiny_sample_sections(), "profile": {"tiny": {}}}
    path.write_text(tomlkit.dumps(document), encoding="utf-8")
    return path
