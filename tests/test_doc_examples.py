"""A page that walks through an example shows it as it is."""

from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_shows_the_whole_strategy_of_the_example() -> None:
    code = (DOCS / "examples" / "twelve_month_sign.py").read_text("utf-8")
    assert f"```python\n{code}```" in (DOCS / "own-strategy.md").read_text("utf-8")
