import sys

import pytest
from strategy_support import Scripted

from tft_core.errors import StrategyError
from tft_core.strategy import StrategyRegistry

GOOD = """
from strategy_support import Scripted
def create_strategy():
    return Scripted("found", {})
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    names = {
        "plug_good": GOOD,
        "plug_import": "import a_module_that_is_not_there",
        "plug_raises": "def create_strategy():\n    raise RuntimeError('no licence')",
        "plug_exits": "import sys\nsys.exit('no licence')",
        "plug_empty": "",
        "plug_wrong": "def create_strategy():\n    return 42",
        "plug_same_id": GOOD,
    }
    for name, text in names.items():
        (tmp_path / f"{name}.py").write_text(text)
    yield list(names)
    for name in names:
        sys.modules.pop(name, None)


def test_strategies_are_kept_by_id(tmp_path):
    registry = StrategyRegistry()
    b, a = Scripted("b", {}, tmp_path), Scripted("a", {}, tmp_path)
    registry.register(b)
    registry.register(a)
    registry.register(a)
    assert registry.list_ids() == ["a", "b"]
    assert registry.all() == list(registry) == [a, b]
    assert registry.get("a") is a
    assert registry.get("c") is None
    assert (len(registry), "a" in registry, "c" in registry) == (2, True, False)


def test_an_id_belongs_to_one_strategy(tmp_path):
    registry = StrategyRegistry()
    registry.register(Scripted("a", {}, tmp_path))
    with pytest.raises(StrategyError, match="must be unique, found 'a' registered already"):
        registry.register(Scripted("a", {}, tmp_path))


def test_broken_strategies_are_reported_and_the_others_load(modules):
    registry = StrategyRegistry()
    added = registry.discover(modules)
    assert added == ["s_tft_x_trend_v1", "found"]
    errors = {problem.source: problem.error for problem in registry.problems}
    assert set(errors) == set(modules) - {"plug_good"}
    assert (
        "ModuleNotFoundError: No module named 'a_module_that_is_not_there'" in errors["plug_import"]
    )
    assert errors["plug_raises"] == "RuntimeError: no licence"
    assert errors["plug_exits"] == "SystemExit: no licence"
    assert "must define create_strategy(), found none" in errors["plug_empty"]
    assert "must be unique" in errors["plug_same_id"]


def test_discovering_twice_adds_nothing_twice(modules):
    registry = StrategyRegistry()
    registry.discover(["plug_good"])
    before = registry.get("found")
    assert registry.discover(["plug_good"]) == []
    assert registry.problems == []
    assert registry.get("found") is before
