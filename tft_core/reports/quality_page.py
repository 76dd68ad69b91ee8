"""The data-quality page: where features have values, and what the bars look like."""

from collections.abc import Sequence

import pandas as pd

from tft_core.reports.page import (
    Absent,
    Block,
    Bullets,
    Card,
    Cards,
    Figure,
    Figures,
    Section,
    Table,
    cell_text,
    render_page,
)
from tft_core.reports.plots import coverage_png


def data_quality_page(
    title: str,
    coverage: pd.DataFrame,
    *,
    quality: pd.DataFrame | None = None,
    findings: Sequence[str] = (),
) -> str:
    """Coverage by symbol × feature group, the bars' quality table, and findings in words.

    Args:
        coverage: Share of the symbol's sessions with a value; symbols × groups.
        quality: One row per symbol, see ``data.quality.quality_summary``.
    """
    by_group = coverage.mean(axis=0).sort_values().rename("coverage").to_frame()
    sections = [
        Section(
            "Coverage",
            [
                Cards(
                    [
                        Card("symbols", f"{coverage.shape[0]}"),
                        Card("groups", f"{coverage.shape[1]}"),
                        Card(
                            "mean coverage",
                            cell_text(float(coverage.stack().mean()), "coverage"),
                        ),
                        Card("findings", f"{len(findings)}", "warn" if findings else "good"),
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
        ),
        Section("Findings", [Bullets(list(findings)) if findings else Absent("No findings.")]),
    ]
    if quality is not None:
        blocks: list[Block] = [Table(quality.rename_axis("symbol"))]
        sections.append(Section("Bars", blocks))
    return render_page(title, sections)
