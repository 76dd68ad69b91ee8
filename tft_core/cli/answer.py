"""What a command answers: data for programs, text for people, and an exit code."""

from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True, slots=True)
class Answer:
    """``data`` is what ``--json`` prints, ``text`` what a terminal shows."""

    data: Any
    text: str
    exit_code: int = 0


def table(frame: pd.DataFrame, digits: int = 3) -> str:
    """A frame as plain aligned text; undefined figures as a dash."""
    return frame.to_string(float_format=lambda v: f"{v:.{digits}f}", na_rep="–")
