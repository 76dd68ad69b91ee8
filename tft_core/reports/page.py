"""The skeleton of every HTML report: blocks, number formats, one self-contained page.

A page is one file: style inline, plots as data URIs, no script, and a policy that forbids
the browser every request. All text is escaped by the template engine. What a report says is
not decided here.
"""

import base64
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from importlib import resources
from typing import Any, Literal

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

Tone = Literal["", "good", "warn", "bad"]

UNDEFINED = "–"
_PERCENT = re.compile(
    r"share|coverage|drawdown|^return|return_total|^vol|frequency|contribution|hit_rate|exposure"
)
_LABELS = {
    "sharpe_net": "Sharpe net",
    "sharpe_se": "± s.e.",
    "sharpe_gross": "Sharpe gross",
    "return_total": "total return",
    "vol_ann": "volatility p.a.",
    "max_drawdown": "max drawdown",
    "turnover_ann": "turnover p.a.",
    "n_days": "days",
    "n_folds": "folds",
    "n_symbols": "symbols",
    "n_rows": "rows",
    "n_findings": "findings",
    "n_assets": "assets",
    "break_even_bps": "break-even cost (bps)",
    "n_missing": "missing",
    "perm_excess": "Δposition over shadows",
    "q_value": "q (false discoveries)",
    "perm_dsharpe": "ΔSharpe",
    "fold_frequency": "folds above shadows",
    "stand_in": "said by",
    "ic": "rank IC",
    "mi": "mutual information",
}


@dataclass(frozen=True, slots=True)
class Banner:
    """The one thing to read first."""

    headline: str
    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Absent:
    """Says that something was not recorded, where a reader would look for it."""

    text: str
    kind: str = "absent"


@dataclass(frozen=True, slots=True)
class Bullets:
    items_: Sequence[str]
    kind: str = "bullets"


@dataclass(frozen=True, slots=True)
class Link:
    href: str
    text: str
    note: str = ""
    """Shown behind it."""


@dataclass(frozen=True, slots=True)
class Links:
    """Other pages of the same server; a report, which has to stand alone, has none."""

    links: Sequence[Link]
    kind: str = "links"


@dataclass(frozen=True, slots=True)
class Card:
    label: str
    value: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Cards:
    cards: Sequence[Card]
    kind: str = "cards"


@dataclass(frozen=True, slots=True)
class Figure:
    """A PNG with a caption; ``alt`` says in words what can be seen."""

    png: bytes
    caption: str
    alt: str

    @property
    def uri(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"

    @property
    def width(self) -> int:
        return struct.unpack(">I", self.png[16:20])[0]

    @property
    def height(self) -> int:
        return struct.unpack(">I", self.png[20:24])[0]


@dataclass(frozen=True, slots=True)
class Figures:
    """Plots side by side where there is room."""

    figures: Sequence[Figure]
    kind: str = "figures"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Names and values; an undefined value is a dash."""

    values: Mapping[str, Any]
    kind: str = "pairs"

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(label(str(name)), cell_text(v, "")) for name, v in self.values.items()]


@dataclass(frozen=True, slots=True)
class _Column:
    label: str
    is_number: bool


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    css: str


@dataclass(frozen=True, slots=True)
class Table:
    """A frame; its index is the first column. ``folded`` hides it behind its caption."""

    frame: pd.DataFrame
    caption: str = ""
    folded: bool = False
    kind: str = "table"

    @property
    def columns(self) -> list[_Column]:
        index_name = str(self.frame.index.name or "")
        return [
            _Column(label(index_name), False),
            *(
                _Column(label(str(name)), _is_number(self.frame.iloc[:, i]))
                for i, name in enumerate(self.frame.columns)
            ),
        ]

    @property
    def rows(self) -> list[list[_Cell]]:
        names = [str(name) for name in self.frame.columns]
        numeric = [column.is_number for column in self.columns[1:]]
        return [
            [
                _Cell(text := cell_text(key, ""), "long" if len(text) > 28 else ""),
                *(
                    _Cell(text := cell_text(value, name), _css(value, text, is_number))
                    for value, name, is_number in zip(row, names, numeric, strict=True)
                ),
            ]
            for key, row in zip(
                self.frame.index, self.frame.itertuples(index=False, name=None), strict=True
            )
        ]


Block = Text | Absent | Bullets | Links | Cards | Figures | Pairs | Table


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def render_page(
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    banner: Banner | None = None,
    footer: str = "",
) -> str:
    """One self-contained HTML page."""
    return _template().render(
        title=title,
        subtitle=subtitle,
        banner=banner,
        sections=sections,
        footer=footer,
        # the package's own file; escaping would break its quotes
        css=Markup(_asset("page.css")),
    )


def label(name: str) -> str:
    """A column name as a person reads it."""
    return _LABELS.get(name, name.replace("_", " "))


def cell_text(value: Any, column: str) -> str:
    """One value as text: dates in ISO, shares in percent by column name, undefined as a dash."""
    if value is None or value is pd.NaT:
        return UNDEFINED
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    if isinstance(value, (float, np.floating)):
        return _number_text(float(value), column)
    if isinstance(value, (pd.Timestamp, datetime)):
        return value.strftime(
            "%Y-%m-%d" if value.time() == datetime.min.time() else "%Y-%m-%d %H:%M"
        )
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {cell_text(item, '')}" for name, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(cell_text(item, "") for item in value)
    return str(value)


def _number_text(value: float, column: str) -> str:
    if not math.isfinite(value):
        return UNDEFINED
    if _PERCENT.search(column):
        return f"{value:.1%}"
    if value == 0.0 or (value.is_integer() and abs(value) >= 10):
        return f"{value:,.0f}"
    if abs(value) >= 1000.0:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(
        column.dtype
    )


def _css(value: Any, text: str, is_number: bool) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if is_number:
        return "number"
    return "long" if len(text) > 40 else ""


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("page.html"))


@cache
def _asset(name: str) -> str:
    return resources.files("tft_core.reports").joinpath("templates", name).read_text("utf-8")
