"""The settings of operations: what is refused, and that the documented ones are real."""

import re
import tomllib
from pathlib import Path

import pytest

from tft_core.config import build_dataclass
from tft_core.errors import ConfigError
from tft_core.training_pipeline.config import OperationsConfig

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nightly_hour": 24}, r"operations\.nightly_hour must lie in 0 … 23, found 24"),
        ({"publish_within_hours": 0}, r"publish_within_hours must be at least 1, found 0"),
        ({"refit_after_sessions": 0}, r"refit_after_sessions must be at least 1, found 0"),
        ({"refit_after_restated": -1}, r"refit_after_restated must be at least 1, found -1"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OperationsConfig(**values)


def test_no_refit_is_asked_for_unless_the_configuration_does() -> None:
    config = OperationsConfig()
    assert (config.refit_after_sessions, config.refit_after_restated) == (None, None)


def test_the_settings_that_the_docs_show_can_be_used() -> None:
    page = (ROOT / "docs" / "nightly.md").read_text("utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    values = tomllib.loads(block)["operations"]
    made = build_dataclass(OperationsConfig, values, where="[operations]")
    assert (made.refit_after_sessions, made.refit_after_restated) == (21, 50)
