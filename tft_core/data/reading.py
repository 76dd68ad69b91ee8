"""Turns a user's file into a raw frame with this project's column names.

Only shape is decided here: the format, the separator, which column is which. Values stay as
they came; ``parsing`` reads them and ``rules`` judges them.
"""

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from tft_core.errors import DataError

BAR_ALIASES: Mapping[str, tuple[str, ...]] = {
    "date": (
        *("session", "session_date", "trade_date", "tradedate", "trading_date", "day"),
        *("datetime", "date_time", "timestamp", "time", "dt", "traddt"),
    ),
    "symbol": (
        *("ticker", "sym", "instrument", "asset", "tradingsymbol", "ric", "code", "secid"),
        "tckrsymb",
    ),
    "open": ("open_price", "o", "px_open", "opnpric"),
    "high": ("high_price", "h", "px_high", "max", "hghpric"),
    "low": ("low_price", "l", "px_low", "min", "lwpric"),
    "close": (
        "clspric",
        *("close_price", "c", "px_close", "px_last", "settle", "settlement", "settle_price"),
        *("last", "price", "adj_close", "adjusted_close", "adjclose", "close_adj"),
    ),
    "volume": (
        *("vol", "v", "volume_traded", "traded_volume", "total_traded_quantity", "px_volume"),
        "ttltradgvol",
    ),
    "open_interest": ("oi", "openinterest", "open_int", "openint", "opnintrst"),
    "available_at": ("knowledge_date", "known_at", "available", "published_at", "release_date"),
    "asset_class": ("assetclass", "class", "sector_class"),
    "exchange": ("mic", "market", "venue"),
    "currency": ("ccy", "quote_currency"),
}
"""Names under which each column is found; case and spacing don't matter."""

CONTRACT_COLUMNS = frozenset(
    (
        *("strike", "strike_price", "strkpric", "option_type", "optntp", "call_put", "cp_flag"),
        *("expiry", "expiry_date", "expiration", "expiration_date", "xprydt", "maturity"),
        *("contract", "contract_month", "delivery_month"),
    )
)
"""Columns that tell contracts on one underlying apart: with them, a symbol may not be one asset."""

ADJUSTED_CLOSE = ("adj_close", "adjusted_close", "adjclose", "close_adj")
SERIES_ALIASES: Mapping[str, tuple[str, ...]] = {
    "name": ("series", "symbol", "variable", "indicator"),
    "date": BAR_ALIASES["date"],
    "value": ("val", "level", "close", "yield", "par_yield", "rate"),
    "available_at": BAR_ALIASES["available_at"],
}
INSTRUMENT_ALIASES: Mapping[str, tuple[str, ...]] = {
    "symbol": BAR_ALIASES["symbol"],
    "asset_class": BAR_ALIASES["asset_class"],
    "exchange": BAR_ALIASES["exchange"],
    "currency": BAR_ALIASES["currency"],
    "cost_bps": (),
    "cost_vol": (),
    "publication_lag_days": (),
    "description": (),
}
_SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class RawTable:
    """A source with known columns and unread values."""

    source: str
    frame: pd.DataFrame
    """Canonical columns only, one row per source row, plain row numbers as index."""
    ignored: tuple[str, ...]
    contract_columns: tuple[str, ...]
    """Those of the ignored columns that tell contracts on one underlying apart."""
    notes: tuple[str, ...]
    is_text: bool
    """True where every value is text as it stood in the file (CSV)."""
    decimal_comma: bool
    """True where the separator leaves the comma free to be the decimal mark."""


def read_table(
    source: pd.DataFrame | str | os.PathLike[str],
    aliases: Mapping[str, tuple[str, ...]],
    required: Sequence[str],
    *,
    what: str = "bars",
    name: str | None = None,
) -> RawTable:
    """Read a file or take a frame, and find the columns.

    Args:
        source: DataFrame, Parquet or CSV file.
        aliases: Canonical column names with the other names they go by.
        required: Canonical names that must be found.
        what: What the rows are, for messages.
        name: What messages call the source; default its path.

    Raises:
        DataError: The file cannot be read, holds no rows, lacks a required column, or has two
            columns that could both be the same thing.
    """
    notes: list[str] = []
    is_text, decimal_comma = False, False
    if isinstance(source, pd.DataFrame):
        name, frame = name or "DataFrame", source
    else:
        path = Path(source)
        name = name or str(path)
        if not path.is_file():
            raise DataError(f"{name} must be a file, found nothing there; correct the path")
        if path.stat().st_size == 0:
            raise DataError(f"{name} must hold {what}, found an empty file")
        suffixes = [s.lower() for s in path.suffixes]
        if suffixes[-1:] in ([".parquet"], [".pq"]):
            frame = _read_parquet(path)
        elif suffixes[-1:] in ([".csv"], [".txt"], [".tsv"]) or suffixes[-2:-1] == [".csv"]:
            frame, decimal_comma, reading = _read_csv(path)
            is_text = True
            notes += reading
        else:
            raise DataError(
                f"{name} must be Parquet (.parquet) or CSV (.csv, .tsv, .csv.gz), "
                f"found {path.suffix or 'no suffix'}; convert or rename it"
            )
    frame, columns, ignored, naming = _find_columns(name, frame, aliases, required)
    if frame.empty:
        raise DataError(f"{name} must hold {what}, found a header and no rows")
    renamed = frame.reindex(columns=list(columns.values())).set_axis(list(columns), axis=1)
    return RawTable(
        source=name,
        frame=renamed.reset_index(drop=True),
        ignored=tuple(ignored),
        contract_columns=tuple(c for c in ignored if _plain(c) in CONTRACT_COLUMNS),
        notes=(*notes, *naming),
        is_text=is_text,
        decimal_comma=decimal_comma,
    )


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path} must be a readable Parquet file, found: {_first_line(error)}; "
            "copy it again from its source"
        ) from error


def _read_csv(path: Path) -> tuple[pd.DataFrame, bool, list[str]]:
    notes: list[str] = []
    with path.open("rb") as handle:
        is_utf16 = handle.read(2) in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if is_utf16 else ("utf-8-sig", "cp1252"):
        try:
            head = pd.read_csv(
                path, sep="\x00", header=None, nrows=1, dtype=str, encoding=encoding, engine="c"
            )
            line = str(head.iloc[0, 0])
            separator = max(_SEPARATORS, key=line.count)
            with warnings.catch_warnings():  # a row with one field too many only warns
                warnings.simplefilter("error", pd.errors.ParserWarning)
                frame = pd.read_csv(
                    path,
                    sep=separator,
                    dtype=str,
                    encoding=encoding,
                    keep_default_na=False,
                    na_values=[""],
                    index_col=False,
                    skipinitialspace=True,
                )
        except UnicodeError:
            continue
        except (pd.errors.ParserWarning, ValueError, OSError) as error:
            raise DataError(
                f"{path} must be a readable CSV file, found: {_first_line(error)}; "
                "correct the line or export it again"
            ) from error
        names = [cell.strip().strip('"') for cell in line.split(separator)]
        twice = next((n for i, n in enumerate(names) if n and n in names[:i]), None)
        if twice is not None:
            raise DataError(f"{path} must name each column once, found {twice!r} twice; rename one")
        if encoding != "utf-8-sig":
            notes.append(f"text read as {encoding}")
        if separator != ",":
            notes.append(f"columns separated by {separator!r}")
        return frame, separator == ";", notes
    raise DataError(
        f"{path} must be text in UTF-8, UTF-16 or Windows-1252, found other bytes; "
        "export it as UTF-8"
    )


def _find_columns(
    source: str,
    frame: pd.DataFrame,
    aliases: Mapping[str, tuple[str, ...]],
    required: Sequence[str],
) -> tuple[pd.DataFrame, dict[str, str], list[str], list[str]]:
    if frame.columns.nlevels > 1:
        raise DataError(
            f"{source} must have one row of column names, found {frame.columns.nlevels}; "
            "stack it to one row per date and symbol"
        )
    if frame.index.names != [None] or isinstance(frame.index, pd.DatetimeIndex):
        index_names = [str(n) if n is not None else "date" for n in frame.index.names]
        taken = {_plain(str(c)) for c in frame.columns}
        if not taken.intersection(_plain(n) for n in index_names):
            frame = frame.reset_index(names=index_names)
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"{source} must name each column once, found {twice!r} twice; rename one")
    frame = frame.set_axis([str(c) for c in frame.columns], axis=1)
    plain = {column: _plain(column) for column in frame.columns}
    columns: dict[str, str] = {}
    notes: list[str] = []
    for name, others in aliases.items():
        exact = [c for c, p in plain.items() if p == name]
        known = [c for alias in others for c, p in plain.items() if p == alias]
        if name == "close":
            known = _one_close(known, plain)
        found = exact or known
        if len(found) > 1:
            raise DataError(
                f"{source} must have one column for {name}, found {' and '.join(found)}; "
                f"rename the right one to {name!r}"
            )
        if found:
            columns[name] = found[0]
            if found[0] != name:
                notes.append(f"{name} read from column {found[0]!r}")
    missing = [name for name in required if name not in columns]
    values = [c for c, p in plain.items() if p in SERIES_ALIASES["value"]]
    if missing == ["close"] and values:
        raise DataError(
            f"{source} must have a column 'close' to be bars, found values of a series "
            f"({values[0]!r}); a yield or an index level that nobody trades is an input: "
            "load it with `tft ingest PATH --series`"
        )
    facts = [c for c, p in plain.items() if p in INSTRUMENT_ALIASES and p != "symbol"]
    if {"date", "close"} <= set(missing) and "symbol" in columns and facts:
        raise DataError(
            f"{source} must have columns 'date' and 'close' to be bars, found facts about "
            f"instruments ({facts[0]!r}); give it beside the bars: `--instruments {source}`"
        )
    if missing:
        shown = ", ".join(list(frame.columns)[:12]) or "none"
        raise DataError(
            f"{source} must have a column {missing[0]!r}, found {shown}; "
            f"rename the column that holds it to {missing[0]!r}"
        )
    ignored = [c for c in frame.columns if c not in columns.values()]
    return frame, columns, ignored, notes


def _one_close(found: list[str], plain: Mapping[str, str]) -> list[str]:
    """A traded close goes before an adjusted one, which would not fit the other prices."""
    traded = [c for c in found if plain[c] not in ADJUSTED_CLOSE]
    return traded or found


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
