"""The page skeleton: self-contained, escaped, readable numbers."""

import re
import struct
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from tft_core.reports.page import (
    Banner,
    Bullets,
    Card,
    Cards,
    Figure,
    Figures,
    Pairs,
    Section,
    Table,
    Text,
    cell_text,
    render_page,
)
from tft_core.reports.plots import largest_bars


class Outline(HTMLParser):
    """Tags opened and closed, ids, links and image sources of a page."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_self_contained(text: str) -> Outline:
    """Well nested, no script, no address but data URIs and anchors that exist."""
    outline = Outline(text)
    assert outline.open == []
    assert "script" not in outline.tags
    ids = {value for name, value in outline.attributes if name == "id"}
    for name, value in outline.attributes:
        if name in ("src", "href"):
            assert value.startswith(("data:", "#")), value
        if name == "href" and value.startswith("#"):
            assert value[1:] in ids
    assert not re.search(r"https?://|url\(|@import", text)
    return outline


def page_of(*blocks: object) -> str:
    return render_page("A title", [Section("One", list(blocks))])  # type: ignore[arg-type]


def test_everything_a_page_may_hold_stays_inside_it() -> None:
    png = largest_bars(pd.Series({"a": 1.0}), "Weights")
    text = render_page(
        "T",
        [
            Section(f"S{i}", [Figures([Figure(png, "caption", "alt")]), Text("t"), Bullets(["b"])])
            for i in range(4)
        ],
        banner=Banner("h", "t", "good"),
    )
    outline = assert_self_contained(text)
    assert outline.tags.count("img") == 4
    assert "nav" in outline.tags
    assert "default-src 'none'" in text


@pytest.mark.parametrize("block", [Text, lambda t: Bullets([t]), lambda t: Pairs({t: t})])
def test_text_from_outside_is_escaped(block) -> None:
    assert_self_contained(page_of(block("<script>alert(1)</script>\"'&")))


def test_table_cells_headers_titles_and_cards_are_escaped() -> None:
    evil = "<img src=x onerror=alert(1)>"
    frame = pd.DataFrame({evil: [evil]}, index=pd.Index([evil], name=evil))
    text = render_page(
        evil,
        [Section(evil, [Table(frame, evil, folded=True), Cards([Card(evil, evil)])])],
        subtitle=evil,
        banner=Banner(evil, evil),
        footer=evil,
    )
    assert "img" not in assert_self_contained(text).tags


@pytest.mark.parametrize(
    ("value", "column", "expected"),
    [
        (float("nan"), "sharpe_net", "–"),
        (None, "x", "–"),
        (pd.NaT, "x", "–"),
        (np.float64(0.4567), "sharpe_net", "0.46"),
        (-0.00831, "sharpe_net", "-0.0083"),
        (0.1234, "max_drawdown", "12.3%"),
        (0.5, "fold_frequency", "50.0%"),
        (12345.6, "x", "12,346"),
        (42.0, "x", "42"),
        (0.0, "x", "0"),
        (1234567, "n_rows", "1,234,567"),
        (True, "passed", "yes"),
        (np.bool_(False), "passed", "no"),
        (pd.Timestamp("2020-03-01"), "first", "2020-03-01"),
        (pd.Timestamp("2020-03-01 18:30"), "at", "2020-03-01 18:30"),
        ({"lr": 0.001, "d": 64}, "best", "lr: 0.001, d: 64"),
        (["a", "b"], "x", "a, b"),
        (float("inf"), "x", "–"),
    ],
)
def test_numbers_read_well_and_undefined_ones_are_dashes(value, column, expected) -> None:
    assert cell_text(value, column) == expected


def test_a_figure_knows_its_size() -> None:
    png = largest_bars(pd.Series({"a": 1.0}), "Weights")
    figure = Figure(png, "", "")
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert (figure.width, figure.height) == struct.unpack(">II", png[16:24])
    assert f'width="{figure.width}"' in page_of(Figures([figure]))
