"""A home with a small market, and a Dagster instance that lives as long as one test."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from fake_workspace import Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("TFT_EXECUTOR", raising=False)
    made = Home(tmp_path)
    made.set_market("2021-06-01", "2022-06-01", "2023-06-01", "2024-06-01", "2025-02-03")
    return made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made
