"""How values become JSON and hashes, and come back."""

import json
import math
from dataclasses import dataclass
from datetime import date

import numpy as np
import pytest

from tft_core.schema import canonical_json, finite_or_none, float_or_nan, json_value


@dataclass
class Figures:
    sharpe: float
    days: tuple[date, ...]


def test_an_undefined_figure_is_null_wherever_it_stands() -> None:
    told = json_value(
        {
            "figures": Figures(math.nan, (date(2024, 3, 1),)),
            7: [np.float64(1.5), -math.inf, np.int64(3), np.array([0.5, np.nan])],
            "kept": (True, None, "x"),
        }
    )
    assert told == {
        "figures": {"sharpe": None, "days": ["2024-03-01"]},
        "7": [1.5, None, 3, [0.5, None]],
        "kept": [True, None, "x"],
    }
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_what_is_hashed_must_say_none_where_a_figure_is_undefined() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        canonical_json({"sharpe": math.nan})


@pytest.mark.parametrize("value", [0.0, -2.5, math.nan])
def test_a_figure_comes_back_from_json(value: float) -> None:
    assert float_or_nan(finite_or_none(value)) == pytest.approx(value, nan_ok=True)
