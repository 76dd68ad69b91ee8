"""What an ingestion or a quality check has to say: coded findings and the report that adds up.

A ``BarFinding`` is one fact with a rule's code; ``IngestReport`` is the account of one ingestion.
Neither decides anything: rules live in ``rules``, checks in ``quality``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

import pandas as pd

from tft_core.errors import DataError
from tft_core.schema import finite_or_none

Severity = Literal["error", "warning", "info"]

FINDING_COLUMNS = ("rule", "outcome", "symbol", "date", "value", "known_at", "row")
"""Columns of ``IngestReport.findings``; ``outcome`` is ``quarantined``, ``flagged`` or
``withheld`` (accepted, and hidden from reads as of ``known_at`` or later)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarFinding:
    """One coded fact about the bars of a symbol; a check's verdict is ``checks.Finding``."""

    rule: str
    """Stable code of the rule, e.g. ``stale_run``."""
    severity: Severity
    """``error``: its bars can't be used, ``warning`` is shown, ``info`` explains."""
    message: str
    symbol: str
    day: date | None = None
    """Session that the finding is about."""
    value: float | None = None
    known_at: date | None = None
    """First day on which it could be seen, where that needs later bars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """The account of one ingestion: every row that came in is in exactly one count.

    ``rows_in == accepted + quarantined + exact_duplicates``; ``flagged`` rows are accepted ones;
    ``accepted == new + restated + unchanged``.
    """

    source: str
    """Path of the file, or ``DataFrame``."""
    ingestion_id: int
    ingested_at: datetime
    rows_in: int
    accepted: int
    flagged: int
    quarantined: int
    exact_duplicates: int
    new: int
    """Accepted rows of a (symbol, date) that the store did not hold."""
    restated: int
    """Accepted rows that differ from what was known: kept beside the old vintage."""
    unchanged: int
    """Accepted rows that say what the store already knew."""
    symbols: tuple[str, ...]
    first: date | None
    last: date | None
    findings: pd.DataFrame = field(compare=False)
    """One row per fault: ``rule, outcome, symbol, date, value, known_at, row``. ``row`` counts
    the source's rows from 0; faults that only the history shows have ``known_at`` in its place."""
    notes: tuple[str, ...] = ()
    """How the source was read: ignored columns, number and date formats."""
    ignored_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        total = self.accepted + self.quarantined + self.exact_duplicates
        if self.rows_in != total:
            raise DataError(
                f"ingestion of {self.source} must account for every row, found {self.rows_in} in "
                f"and {total} accounted for; report this as a fault of the ingestion rules"
            )

    def counts(self) -> dict[str, int]:
        """Number of findings of each rule."""
        return {str(k): int(v) for k, v in self.findings["rule"].value_counts().items()}

    def to_dict(self, max_findings: int = 20) -> Mapping[str, Any]:
        """Plain values for JSON and asset metadata, with the first findings of each rule."""
        shown = self.findings.groupby("rule", sort=True).head(max_findings)
        return {
            "source": self.source,
            "ingestion_id": self.ingestion_id,
            "ingested_at": self.ingested_at.isoformat(timespec="seconds"),
            "rows_in": self.rows_in,
            "accepted": self.accepted,
            "flagged": self.flagged,
            "quarantined": self.quarantined,
            "exact_duplicates": self.exact_duplicates,
            "new": self.new,
            "restated": self.restated,
            "unchanged": self.unchanged,
            "symbols": len(self.symbols),
            "first": self.first.isoformat() if self.first else None,
            "last": self.last.isoformat() if self.last else None,
            "rules": self.counts(),
            "findings": [
                {
                    "rule": row["rule"],
                    "outcome": row["outcome"],
                    "symbol": None if pd.isna(row["symbol"]) else row["symbol"],
                    "date": None if pd.isna(row["date"]) else str(row["date"])[:10],
                    "value": None if pd.isna(row["value"]) else finite_or_none(row["value"]),
                    "known_at": None if pd.isna(row["known_at"]) else str(row["known_at"])[:19],
                    "row": None if pd.isna(row["row"]) else int(row["row"]),
                }
                for row in shown.to_dict("records")
            ],
            "notes": list(self.notes),
            "ignored_columns": list(self.ignored_columns),
        }

    def __str__(self) -> str:
        span = f"{self.first} to {self.last}" if self.first else "no dates"
        lines = [
            f"{self.source}: {self.rows_in:,} rows in = {self.accepted:,} accepted + "
            f"{self.quarantined:,} quarantined + {self.exact_duplicates:,} exact duplicates",
            f"  {len(self.symbols)} symbols, {span}; {self.new:,} new, {self.restated:,} restated, "
            f"{self.unchanged:,} unchanged, {self.flagged:,} flagged",
        ]
        lines += [f"  {rule}: {count:,}" for rule, count in sorted(self.counts().items())]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)
