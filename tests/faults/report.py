"""One row of the fault table, and how rows become a table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Row:
    """One fault, how often it was injected, and how often something went wrong."""

    fault: str
    n: int
    bad: int
    """Damaged versions served, acknowledged changes lost, files accepted, errors without a type:
    0 or the run fails."""
    target_n: int
    outcome: str
    """What happened, in words with figures."""
    problems: tuple[str, ...] = field(default=())
    not_run: str = ""
    """Why the fault could not be injected here; "" where it was."""

    @property
    def passed(self) -> bool:
        return not self.not_run and self.bad == 0 and self.n >= self.target_n

    def to_dict(self) -> dict:
        return {**asdict(self), "passed": self.passed}


def markdown(rows: Sequence[Row]) -> str:
    lines = ["| fault | injected | wanted | lost or accepted | outcome |", "|---|---|---|---|---|"]
    for row in rows:
        n = "**not run**" if row.not_run else f"{row.n:,}"
        bad = "–" if row.not_run else f"**{row.bad}**"
        outcome = row.not_run or row.outcome
        lines.append(f"| {row.fault} | {n} | ≥ {row.target_n:,} | {bad} | {outcome} |")
    return "\n".join(lines) + "\n"
