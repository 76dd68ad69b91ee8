"""The data-quality page: what the bars look like, what was found in them, where features are.

One page for the partition's bars (``market_data``), for bars and features (``mega_features``)
and for a whole store (``tft quality``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd

from tft_core.data.history import HISTORY_REASONS
from tft_core.data.panel import MarketPanel
from tft_core.data.profile import (
    field_coverage,
    largest_moves,
    life_spans,
    long_gaps,
    newest_bars,
    presence_by_year,
    volatility_by_year,
)
from tft_core.data.quality import bar_findings, quality_summary
from tft_core.data.rules import reason_of
from tft_core.data.store import MarketDataStore
from tft_core.reports.page import (
    Absent,
    Banner,
    Block,
    Bullets,
    Card,
    Cards,
    Figure,
    Figures,
    Section,
    Table,
    Text,
    cell_text,
    render_page,
)
from tft_core.reports.plots import coverage_png
from tft_core.reports.quality_plots import (
    by_year_png,
    large_moves_png,
    relative_volatility_png,
    timeline_png,
)

_MOST_ROWS = 60
"""Findings of one kind shown at most; a table of thousands is read by nobody."""
_OWN_WORDS = {
    "large_move": "a move beyond 25 robust standard deviations of the year before; may be real",
    "gap": "no bar for longer than a holiday",
    "short_history": "too few sessions for the longest windows",
    "invalid_price": "a close that is no positive number: the store is damaged",
}
_SUSPICIOUS = (
    *("impossible_jump", "decimal_spike", "spike", "unit_switch", "unadjusted_split"),
    "stale_run",
)


@dataclass(frozen=True, slots=True)
class BarsView:
    """Bars as they were read, and what the store knows about them.

    Args:
        panel: The bars.
        findings: ``MarketDataStore.findings`` on the same bars, as of the same day.
        exchanges: Exchange by symbol, for the sessions that were to be expected.
        quarantined: Number of rejected rows by rule, of the whole store.
    """

    panel: MarketPanel
    findings: pd.DataFrame
    exchanges: Mapping[str, str]
    quarantined: Mapping[str, int]

    @classmethod
    def read(
        cls, store: MarketDataStore, symbols: Sequence[str], first: date, last: date
    ) -> "BarsView":
        """The bars of [first, last] as they were known on the last day, and their findings."""
        findings = store.findings(symbols, as_of=last)
        rejected = store.quarantine()["rule"].value_counts()
        return cls(
            panel=store.panel(symbols, first, last, as_of=last),
            findings=findings[findings["date"].between(pd.Timestamp(first), pd.Timestamp(last))],
            exchanges={str(s): e for s, e in store.instruments()["exchange"].items()},
            quarantined={str(rule): int(count) for rule, count in rejected.items()},
        )


def data_quality_page(
    title: str,
    *,
    bars: BarsView | None = None,
    coverage: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    subtitle: str = "",
) -> str:
    """Bars and findings, and the coverage of features by symbol × group, where each is given.

    Beside features the bars come without their portrait (time line, heat maps by year), which is
    the page of the bars alone.

    Args:
        coverage: Share of the symbol's sessions with a value; symbols × feature groups.
        notes: Findings in words that belong to neither.
    """
    sections: list[Section] = []
    banner = None
    if coverage is not None:
        sections.append(_coverage_section(coverage))
    if notes:
        sections.append(Section("Findings in features", [Bullets(list(notes))]))
    if bars is not None:
        told = _told(bars)
        banner = _verdict(bars, told)
        gaps = long_gaps(bars.panel)
        if coverage is None:
            sections.append(_bars_section(bars, told, gaps))
        sections += [
            _findings_section(told, bars.quarantined),
            Section("Gaps", [_gaps_block(gaps)]),
            _outliers_section(bars.panel),
        ]
        if coverage is None:
            sections += [_levels_section(bars.panel), _symbols_section(bars)]
    return render_page(title, sections, subtitle=subtitle, banner=banner)


def _told(bars: BarsView) -> pd.DataFrame:
    """Every finding about the bars, row faults and large moves included: one frame."""
    facts = [
        (f.rule, "noted", f.symbol, pd.Timestamp(f.day) if f.day else pd.NaT, f.value, pd.NaT)
        for f in bar_findings(bars.panel, history=bars.findings)
        if f.rule not in HISTORY_REASONS or f.day is None
    ]
    columns = ["rule", "outcome", "symbol", "date", "value", "known_at"]
    own = pd.DataFrame(facts, columns=columns)
    parts = [frame for frame in (bars.findings[columns], own) if len(frame)]
    if not parts:
        return own
    return pd.concat(parts, ignore_index=True).sort_values(["rule", "symbol", "date"])


def _verdict(bars: BarsView, told: pd.DataFrame) -> Banner:
    suspicious = told[told["rule"].isin(_SUSPICIOUS)]
    if not bars.panel.has_session.any():
        return Banner("No bars", "Nothing to judge; run `tft ingest PATH`.", "bad")
    if (told["rule"] == "invalid_price").any():
        return Banner("The store is damaged", "It holds prices that no rule lets in.", "bad")
    if suspicious.empty:
        text = "No spike, split, unit switch or stale run was found in these bars."
        return Banner("The bars look sound", text, "good")
    symbols = suspicious["symbol"].nunique()
    rules = suspicious["rule"].str.replace("_", " ").value_counts()
    text = ", ".join(f"{name}: {count}" for name, count in rules.items())
    return Banner(f"Look at {symbols} of {len(bars.panel.symbols)} symbols", text, "warn")


def _bars_section(bars: BarsView, told: pd.DataFrame, gaps: pd.DataFrame) -> Section:
    panel = bars.panel
    newest, ended = newest_bars(panel)
    presence = presence_by_year(panel, bars.exchanges)
    withheld = int((told["outcome"] == "withheld").sum())
    quarantined = sum(bars.quarantined.values())
    n_bars = int(panel.has_session.sum())
    cards = [
        Card("symbols", f"{panel.has_session.any(axis=0).sum()}"),
        Card("bars", f"{n_bars:,}"),
        Card("first session", cell_text(panel.dates[0] if n_bars else None, "")),
        Card("newest session", cell_text(newest, "")),
        Card("no longer traded", f"{len(ended)}", "warn" if ended else ""),
        Card("long gaps", f"{len(gaps)}", "warn" if len(gaps) else "good"),
        Card("withheld bars", f"{withheld}", "warn" if withheld else "good"),
        Card("quarantined rows", f"{quarantined:,}", "warn" if quarantined else "good"),
    ]
    low = float(min(0.9, presence.min().min())) if presence.size else 0.0
    figures = [
        Figure(
            timeline_png(life_spans(panel), gaps, told[told["date"].notna()]),
            "A line from the first to the last bar, broken where there is none for long.",
            "Time line of every symbol with its findings",
        ),
        Figure(
            by_year_png(
                presence,
                "Bars on the exchange's sessions",
                bar_label="share of sessions with a bar",
                low=low,
            ),
            "Pale: sessions without a bar. Of an unknown exchange every weekday is a session.",
            "Heat map of the share of sessions with a bar, by symbol and year",
        ),
    ]
    return Section("Bars", [Cards(cards), Figures(figures)])


def _outliers_section(panel: MarketPanel) -> Section:
    moves = largest_moves(panel)
    plot = Figure(
        large_moves_png(moves),
        "Each dot is a move over the robust volatility of the year before it.",
        "Largest moves over time",
    )
    shown = moves.head(25).rename(columns={"return": "return of the session"})
    table = Table(shown.set_index("symbol"), "The 25 largest moves for their symbol", folded=True)
    return Section("Outliers", [Figures([plot]), table])


def _levels_section(panel: MarketPanel) -> Section:
    figures = [
        Figure(
            relative_volatility_png(volatility_by_year(panel), "Volatility by year"),
            "Annualised, in doublings of the symbol's own median year.",
            "Heat map of relative volatility by symbol and year",
        ),
        Figure(
            coverage_png(field_coverage(panel), "Values beside the close"),
            "White: the source has none.",
            "Heat map of the share of bars with a value, by symbol and field",
        ),
    ]
    text = (
        "A year of another colour than its neighbours, in one symbol alone, deserves a look. A "
        "feature whose input is absent is unknown, never zero; the pre-filter drops what is known "
        "too rarely."
    )
    return Section("Volatility and fields", [Text(text), Figures(figures)])


def _symbols_section(bars: BarsView) -> Section:
    table = quality_summary(bars.panel, history=bars.findings).rename_axis("symbol")
    is_long = len(table) > 12
    return Section("Symbols", [Table(table, "One row per symbol", folded=is_long)])


def _findings_section(told: pd.DataFrame, quarantined: Mapping[str, int]) -> Section:
    blocks: list[Block] = []
    if told.empty:
        blocks.append(Absent("Nothing was found in the accepted bars."))
    else:
        groups = told.groupby("rule", sort=True)
        summary = pd.DataFrame(
            {
                "findings": groups.size(),
                "symbols": groups["symbol"].nunique(),
                "outcome": groups["outcome"].first(),
                "what it means": [_words(str(rule)) for rule in groups.groups],
            }
        )
        blocks.append(Table(summary, "Findings in accepted bars, by rule"))
        for rule, own in groups:
            shown = own.drop(columns=["rule", "outcome"]).set_index("symbol").head(_MOST_ROWS)
            shown = shown.dropna(axis=1, how="all")
            more = f", the first {_MOST_ROWS}" if len(own) > _MOST_ROWS else ""
            blocks.append(Table(shown, f"{str(rule).replace('_', ' ')}{more}", folded=True))
    if quarantined:
        rejected = pd.DataFrame(
            {
                "rows": list(quarantined.values()),
                "why": [reason_of(rule) for rule in quarantined],
            },
            index=pd.Index(list(quarantined), name="rule"),
        )
        blocks.append(Table(rejected, "Quarantined rows of the whole store, by rule"))
    return Section("Findings", blocks)


def _words(rule: str) -> str:
    return _OWN_WORDS.get(rule) or reason_of(rule)


def _gaps_block(gaps: pd.DataFrame) -> Block:
    if gaps.empty:
        return Absent("No symbol is without a bar for longer than a holiday.")
    return Table(
        gaps.set_index("symbol").head(_MOST_ROWS),
        f"{len(gaps)} spans of more than 10 calendar days without a bar, longest first",
        folded=len(gaps) > 15,
    )


def _coverage_section(coverage: pd.DataFrame) -> Section:
    by_group = coverage.mean(axis=0).sort_values().rename("coverage").to_frame()
    empty = int((by_group["coverage"] == 0).sum())
    mean = float(pd.Series(coverage.to_numpy().ravel()).mean())
    return Section(
        "Coverage of features",
        [
            Cards(
                [
                    Card("symbols", f"{coverage.shape[0]}"),
                    Card("groups", f"{coverage.shape[1]}"),
                    Card("mean coverage", cell_text(mean, "coverage")),
                    Card("groups without a value", f"{empty}", "warn" if empty else "good"),
                ]
            ),
            Figures(
                [
                    Figure(
                        coverage_png(coverage),
                        "White: never a value. A group needs its inputs (volume, open "
                        "interest, external series) and enough history.",
                        "Heat map of coverage by symbol and feature group",
                    )
                ]
            ),
            Table(by_group.rename_axis("group"), "By group, lowest first", folded=True),
            Table(coverage.rename_axis("symbol"), "By symbol and group", folded=True),
        ],
    )
