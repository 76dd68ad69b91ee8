"""A workspace says what it is at while it builds."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tft_core.config import Settings
from tft_core.logs import known_context
from tft_core.training_pipeline import Workspace
from tft_core.training_pipeline.phases import PHASES, Phase

FOLDS = {"anchor": date(2020, 1, 1), "test_length": "12M", "n_windows": 3}


@pytest.mark.parametrize(
    ("asset", "key", "name"),
    [("market_data", "2021-01-01", "fold"), ("inference", "2021-03-01", "session")],
)
def test_lines_of_a_build_carry_its_asset_and_its_fold_or_session(
    asset: str, key: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    def run(workspace: Any, key: str, draft: Any, overrides: Any, progress: Any) -> None:
        seen.append(known_context())

    monkeypatch.setitem(PHASES, asset, Phase(run))
    settings = Settings(path=None, profile="test", home=tmp_path, sections={"folds": FOLDS})
    Workspace.open(settings).build(asset, key)
    assert seen == [{"asset": asset, name: key}]
    assert known_context() == {}
