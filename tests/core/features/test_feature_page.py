"""``docs/features.md`` says what the registry says."""

import re
from pathlib import Path

from tft_core.features.builder import MegaFeatureBuilder
from tft_core.features.catalogue_page import page

PAGE = Path(__file__).parents[3] / "docs" / "features.md"


def test_the_page_is_what_the_registry_writes():
    assert PAGE.read_text("utf-8") == page(), "run `make docs`"


def test_the_page_has_a_row_in_full_for_each_of_the_292_features():
    rows = re.findall(r"^\| `(\w+)` \| (.+)$", PAGE.read_text("utf-8"), re.M)
    assert [name for name, _ in rows] == list(MegaFeatureBuilder().feature_names)
    assert len(rows) == 292
    for name, rest in rows:
        formula, inputs, lookback, unit, *_ = re.split(r" (?<!\\)\| ", rest)
        assert formula and inputs and unit and int(lookback) >= 1, name


def test_what_a_formula_refers_to_is_on_the_page():
    """A formula may name another feature; it must exist."""
    text = PAGE.read_text("utf-8")
    names = set(MegaFeatureBuilder().feature_names)
    groups = "|".join(MegaFeatureBuilder().groups)
    named = set(re.findall(rf"\b(?:{groups})_[a-z0-9_]+\b", text))
    assert named <= names
