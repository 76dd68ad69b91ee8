"""Ingests every file of a folder into stores of their own, as a user would, and says what came.

    python -m benchmarks.ingest_shared [FOLDER]

FOLDER is the project's shared data by default. A file `NAME_meta.csv` beside `NAME.parquet` is
given as its instruments. A file that is refused as bars because it holds series is loaded as
series too. Prints a Markdown table and the account of each file.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tft_core.data.report import IngestReport
from tft_core.data.store import MarketDataStore
from tft_core.errors import DataError

SHARED = Path(__file__).parents[2] / "shared" / "data"
SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class Row:
    """What one file came to."""

    name: str
    taken_as: str
    counts: tuple[int, int, int, int, int] | None
    """Rows in, accepted, flagged, quarantined, exact duplicates."""
    told: str
    cpu_s: float

    def __str__(self) -> str:
        counts = [f"{n:,}" for n in self.counts] if self.counts else ["–"] * 5
        cells = [f"`{self.name}`", self.taken_as, *counts, self.told, f"{self.cpu_s:.1f}"]
        return f"| {' | '.join(cells)} |"


def ingest_file(path: Path, scratch: Path) -> tuple[Row, str]:
    """One file into a new store; the row of the table, and the account in words."""
    meta = path.with_name(f"{path.stem}_meta.csv")
    began = time.process_time()
    with MarketDataStore(scratch / f"{path.stem}.duckdb") as store:
        try:
            report = store.ingest(path, instruments=meta if meta.is_file() else None)
        except DataError as refusal:
            said = str(refusal).removeprefix(str(path)).strip()
            if "--series" not in said:
                return Row(path.name, "refused", None, said, time.process_time() - began), said
            new = store.ingest_series(path)
            names = len(set(store.series()["name"]))
            text = f"as bars: refused ({said}); as series: {new:,} values of {names} names"
            row = Row(path.name, "series", None, text, time.process_time() - began)
            return row, text
        cpu_s = time.process_time() - began
        again = store.ingest(path)
        assert (again.new, again.restated) == (0, 0), "a second ingestion must change nothing"
        withheld = store.summary()["withheld"]
    counts = (
        *(report.rows_in, report.accepted, report.flagged, report.quarantined),
        report.exact_duplicates,
    )
    return Row(path.name, _span(report), counts, _findings(report, withheld), cpu_s), str(report)


def _span(report: IngestReport) -> str:
    return f"bars of {len(report.symbols)} symbols, {report.first} to {report.last}"


def _findings(report: IngestReport, withheld: int) -> str:
    told = ", ".join(f"{rule} {count:,}" for rule, count in sorted(report.counts().items()))
    return (told or "nothing found") + (f"; {withheld} withheld" if withheld else "")


def main(folder: Path = SHARED) -> int:
    files = sorted(p for p in folder.glob("*") if p.suffix in SUFFIXES)
    if not files:
        print(f"{folder} must hold Parquet or CSV files, found none", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        results = [ingest_file(path, Path(scratch)) for path in files]
    header = "file | taken as | rows in | accepted | flagged | quarantined | exact duplicates"
    print(f"| {header} | found | CPU s |")
    print("|---|---|--:|--:|--:|--:|--:|---|--:|")
    for row, _ in results:
        print(row)
    for row, account in results:
        print(f"\n## {row.name}\n{account}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
