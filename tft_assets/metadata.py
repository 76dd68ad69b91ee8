"""An artifact as a person wants to see it in the UI: figures, plots, tables, report."""

import base64
import math
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from tft_core.training_pipeline.artifacts import Artifact
from tft_core.upkeep.pages import artifact_page_url, docs_url

MAX_INLINE_BYTES = 512 * 1024
"""A larger plot is linked, since inline plots are rows of Dagster's event log."""
MAX_TABLE_ROWS = 100
BUILD_SECONDS = "build_seconds"
DOCS_PAGES = {
    "market_data": "ingestion.md",
    "mega_features": "features.md",
    "prefiltered_features": "concepts.md",
    "exploration_fold": "concepts.md",
    "vsn_stability_report": "concepts.md",
    "optuna_study": "concepts.md",
    "production_fold": "concepts.md",
    "out_of_sample": "concepts.md",
    "production_checkpoint": "runbook.md",
    "inference": "nightly.md",
    "strategy_signals": "nightly.md",
}
"""The page of ``docs/`` that explains an asset."""


def docs_link(asset: str) -> dict[str, dg.MetadataValue]:
    """A link to the asset's page, shown with its definition; none where there are no docs."""
    url = docs_url(DOCS_PAGES[asset])
    return {} if url is None else {"docs": dg.MetadataValue.url(url)}


def metadata_of(artifact: Artifact, *, seconds: float) -> dict[str, dg.MetadataValue]:
    """Figures of an artifact's summary (Dagster plots those over the partitions) and its views.

    Args:
        seconds: Wall time the artifact took to make.
    """
    metadata = {key: figure(value) for key, value in artifact.summary.items()}
    metadata[BUILD_SECONDS] = dg.MetadataValue.float(round(seconds, 2))
    metadata["content_hash"] = dg.MetadataValue.text(artifact.content_hash)
    metadata["artifact"] = dg.MetadataValue.path(str(artifact.path))
    if artifact.findings:
        metadata["findings"] = table(
            pd.DataFrame(
                [(f.severity, f.code, f.message) for f in artifact.findings],
                columns=["severity", "code", "message"],
            )
        )
    for name in sorted(artifact.files):
        stem, _, suffix = name.rpartition(".")
        if suffix == "png":
            metadata[stem] = plot(artifact.file(name), stem, shown_at=str(artifact.path / name))
        elif suffix == "html":
            metadata[f"{stem}_page"] = dg.MetadataValue.url(artifact_page_url(artifact, name))
        elif name.startswith("table_") and suffix == "parquet":
            metadata[stem.removeprefix("table_")] = table(artifact.frame(name))
    return metadata


def figure(value: Any) -> dg.MetadataValue:
    """A number stays a number, so that Dagster can plot it; an undefined one is null."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return dg.MetadataValue.null()
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float):
        return dg.MetadataValue.float(value)
    if isinstance(value, (dict, list, tuple)):
        return dg.MetadataValue.json(list(value) if isinstance(value, tuple) else value)
    return dg.MetadataValue.text(str(value))


def plot(path: Path, name: str, *, shown_at: str) -> dg.MetadataValue:
    """A PNG inside the page, or where it lies if it is too large for the event log."""
    if path.stat().st_size > MAX_INLINE_BYTES:
        return dg.MetadataValue.path(shown_at)
    payload = base64.b64encode(path.read_bytes()).decode("ascii")
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{payload})")


def table(frame: pd.DataFrame) -> dg.MetadataValue:
    """The first rows of a frame; an undefined cell is shown as an empty text."""
    shown = frame.head(MAX_TABLE_ROWS)
    names = [str(column) for column in shown.columns]
    records = [
        dg.TableRecord(dict(zip(names, map(_cell, row), strict=True)))
        for row in shown.itertuples(index=False, name=None)
    ]
    columns = [
        dg.TableColumn(name, type=_column_type(shown.iloc[:, position]))
        for position, name in enumerate(names)
    ]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns=columns))


def _cell(value: Any) -> str | int | float | bool:
    if isinstance(value, float) or value is None or value is pd.NaT:
        return "" if pd.isna(value) else float(value)
    if isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "item"):
        return _cell(value.item())
    if isinstance(value, pd.Timestamp):
        return value.date().isoformat() if value == value.normalize() else value.isoformat()
    return str(value)


def _column_type(column: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(column):
        return "bool"
    if pd.api.types.is_integer_dtype(column):
        return "int"
    return "float" if pd.api.types.is_float_dtype(column) else "string"
