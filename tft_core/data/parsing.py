"""Reads dates, numbers and symbols from whatever a file holds them as.

Each distinct value is read once. What cannot be read is reported per row and left to the
rules; a column in which nothing can be read, or which has two readings, refuses the file.
"""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from tft_core.errors import DataError

EMPTY_TEXTS = frozenset({"", "-", "--", ".", "na", "n/a", "#n/a", "nan", "nat", "null", "none"})
_ISO = re.compile(r"^\d{4}-?\d{2}-?\d{2}([T ]\d.*)?$")
_OFFSET = re.compile(r"\d{2}:\d{2}.*(?:Z|UTC|[+-]\d{2}:?\d{2})$")
_SLASHED = re.compile(r"^(\d{1,2})[/.-](\d{1,2})[/.-](\d{4})(?:[T ].*)?$")
_NAMED_FORMATS = (
    *("%Y/%m/%d", "%Y.%m.%d", "%d-%b-%Y", "%d %b %Y", "%d-%b-%y", "%d-%B-%Y", "%b %d, %Y"),
    "%B %d, %Y",
)
_EpochUnit = tuple[Literal["s", "ms", "us", "ns"], float, float]
_EPOCH_UNITS: tuple[_EpochUnit, ...] = (
    *(("s", 1e8, 1e11), ("ms", 1e11, 1e14), ("us", 1e14, 1e17), ("ns", 1e17, 1e20)),
)
_THOUSANDS = re.compile(r"^[+-]?\d{1,3}(,\d{2,3})*,\d{3}(\.\d*)?$")  # 1,234,567 and 12,34,567
_DECIMAL_COMMA = re.compile(r"^[+-]?\d{1,3}(\.\d{3})*,\d+$|^[+-]?\d+,\d+$")
_SCALED = re.compile(r"^([+-]?[\d.]+)\s*([KMB])$", re.IGNORECASE)
_SCALES = {"K": 1e3, "M": 1e6, "B": 1e9}


@dataclass(frozen=True, slots=True)
class ParsedStamps:
    """Stamps as their own wall clock shows them, and as UTC where they carry a zone."""

    wall: pd.DatetimeIndex
    """NaT where the value is no date."""
    utc: pd.DatetimeIndex
    """NaT where the stamp has no zone."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ParsedNumbers:
    """Numbers of a column; missing ones are NaN and unreadable ones are marked too."""

    numbers: Float[np.ndarray, " row"]
    unreadable: Bool[np.ndarray, " row"]
    notes: tuple[str, ...]


def parse_stamps(column: pd.Series, *, source: str) -> ParsedStamps:
    """Read a column of dates, stamps or texts in one of the usual formats.

    Raises:
        DataError: No value is a date, or day and month can't be told apart.
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        aware = pd.DatetimeIndex(column).as_unit("us")
        parsed = ParsedStamps(aware.tz_localize(None), aware.tz_convert(None), ())
    elif pd.api.types.is_datetime64_dtype(column.dtype):
        nothing = pd.DatetimeIndex(no_stamps(len(column)))
        parsed = ParsedStamps(pd.DatetimeIndex(column).as_unit("us"), nothing, ())
    else:
        codes, distinct = pd.factorize(column, use_na_sentinel=True)
        if pd.api.types.is_numeric_dtype(column.dtype):
            wall, notes = _from_numbers(np.asarray(distinct, dtype=np.float64))
            utc = no_stamps(len(wall))
        else:
            texts = [str(value).strip() for value in distinct]
            wall, utc, notes = _from_texts(texts, name=f"{source} column {column.name!r}")
        parsed = ParsedStamps(_spread(wall, codes), _spread(utc, codes), tuple(notes))
    if parsed.wall.isna().all():
        raise DataError(
            f"{source} column {column.name!r} must hold dates, found {example_of(column)!r} "
            "and no readable date; write them as YYYY-MM-DD"
        )
    return parsed


def parse_numbers(
    column: pd.Series, *, source: str, decimal_comma: bool = False, scaled: bool = False
) -> ParsedNumbers:
    """Read a column of numbers, be they numbers already or text.

    Numbers that can't be read are marked, not raised: ``rules`` judges their rows.

    Args:
        source: What messages call the file.
        decimal_comma: The file leaves the comma free for decimals (separated by semicolons).
        scaled: ``1.2M`` and the like count as numbers (volumes).
    """
    if pd.api.types.is_numeric_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return ParsedNumbers(values, np.zeros(len(values), dtype=bool), ())
    codes, distinct = pd.factorize(column, use_na_sentinel=True)
    texts = pd.Series([str(value).strip() for value in distinct], dtype=object)
    is_empty = texts.str.lower().isin(EMPTY_TEXTS).to_numpy(dtype=bool)
    readable = pd.to_numeric(texts.where(~is_empty), errors="coerce")
    numbers = readable.to_numpy(dtype=np.float64, copy=True)
    notes: list[str] = []
    odd = np.flatnonzero(np.isnan(numbers) & ~is_empty)
    if len(odd):
        bare = [re.sub(r"[\s$€£¥₹'\u00a0]", "", texts.iloc[i]) for i in odd]
        as_decimal = _comma_is_decimal(bare, decimal_comma)
        for i, text in zip(odd, bare, strict=True):
            numbers[i] = _odd_number(text, as_decimal, scaled)
        if any("," in text for text in bare):
            reading = "decimal mark" if as_decimal else "thousands separator"
            notes.append(f"comma in column {column.name!r} read as {reading}")
    unreadable = np.isnan(numbers) & ~is_empty
    missing = codes < 0
    safe = np.where(missing, 0, codes)
    if len(numbers) == 0:
        return ParsedNumbers(np.full(len(column), np.nan), np.zeros(len(column), bool), ())
    return ParsedNumbers(
        np.where(missing, np.nan, numbers[safe]), unreadable[safe] & ~missing, tuple(notes)
    )


def parse_symbols(column: pd.Series) -> np.ndarray:
    """Symbols as trimmed text, ``None`` where there is none; whole numbers lose their ``.0``."""
    codes, distinct = pd.factorize(column, use_na_sentinel=True)
    texts = np.array([None] * (len(distinct) + 1), dtype=object)
    for i, value in enumerate(distinct):
        is_whole = isinstance(value, float) and value.is_integer()
        text = str(int(value) if is_whole else value).strip()
        texts[i] = text or None
    return texts[codes]  # code -1 picks the extra None at the end


def no_stamps(count: int) -> np.ndarray:
    """NaT in microseconds, so many times: the unit of every stamp in the store."""
    return np.full(count, np.datetime64("NaT", "us"))


def example_of(column: pd.Series) -> str:
    """One of a column's values as text, for messages: an early one that is not missing."""
    return next((str(v) for v in column.head(1000) if not pd.isna(v)), "nothing")


def _spread(distinct: np.ndarray, codes: np.ndarray) -> pd.DatetimeIndex:
    padded = np.append(distinct.astype("datetime64[us]"), np.datetime64("NaT", "us"))
    return pd.DatetimeIndex(padded[codes])


def _from_numbers(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    out = no_stamps(len(values))
    whole = np.isfinite(values) & (values == np.floor(values))
    compact = whole & (values >= 19000101) & (values <= 21991231)
    days = pd.to_datetime(
        pd.Series(np.where(compact, values, 0).astype(np.int64).astype(str)),
        format="%Y%m%d",
        errors="coerce",
    )
    out[compact] = days.to_numpy("datetime64[us]")[compact]
    notes = []
    for unit, low, high in _EPOCH_UNITS:
        inside = whole & ~compact & (values >= low) & (values < high)
        if inside.any():
            stamps = pd.to_datetime(values[inside].astype(np.int64), unit=unit, errors="coerce")
            out[inside] = np.asarray(stamps, dtype="datetime64[us]")
            notes.append(f"numbers in the date column read as {unit} since 1970 UTC")
    return out, notes


def _from_texts(texts: list[str], *, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    series = pd.Series(texts, dtype=object)
    wall, utc = no_stamps(len(texts)), no_stamps(len(texts))
    notes: list[str] = []
    iso = series.str.match(_ISO).to_numpy(dtype=bool)
    zoned = iso & series.str.contains(_OFFSET).to_numpy(dtype=bool)
    plain = iso & ~zoned
    wall[plain] = _coerce(series[plain], format="ISO8601")
    if zoned.any():
        stamps = pd.to_datetime(series[zoned], format="ISO8601", errors="coerce", utc=True)
        utc[zoned] = stamps.dt.tz_localize(None).to_numpy("datetime64[us]")
        bare = series[zoned].str.replace(r"\s*(Z|UTC|[+-]\d{2}:?\d{2})$", "", regex=True)
        wall[zoned] = _coerce(bare, format="ISO8601")
    slashed = series.str.extract(_SLASHED)
    is_slashed = slashed[0].notna().to_numpy() & np.isnat(wall)
    if is_slashed.any():
        parts = slashed[is_slashed].astype(int)
        day_first = bool(((parts[0] > 12) & (parts[1] <= 12)).any())
        month_first = bool(((parts[1] > 12) & (parts[0] <= 12)).any())
        if day_first == month_first:
            example = series[is_slashed].iloc[0]
            raise DataError(
                f"{name} must have one reading of day and month, found {example!r} "
                f"{'beside dates in the other order' if day_first else 'and none that tells'}; "
                "write dates as YYYY-MM-DD"
            )
        day, month = (parts[0], parts[1]) if day_first else (parts[1], parts[0])
        text = (
            parts[2].astype(str)
            + "-"
            + month.astype(str).str.zfill(2)
            + "-"
            + day.astype(str).str.zfill(2)
        )
        wall[is_slashed] = _coerce(text, format="%Y-%m-%d")
        notes.append(f"dates read as {'day/month' if day_first else 'month/day'}/year")
    for pattern in _NAMED_FORMATS:
        left = np.isnat(wall)
        if not left.any():
            break
        wall[left] = _coerce(series[left], format=pattern)
    return wall, utc, notes


def _coerce(texts: pd.Series, *, format: str) -> np.ndarray:
    return pd.to_datetime(texts, format=format, errors="coerce").to_numpy("datetime64[us]")


def _comma_is_decimal(texts: list[str], decimal_comma: bool) -> bool:
    """What the commas of a column mean, judged by the texts that allow only one reading."""
    with_comma = [t for t in texts if "," in t]
    only_decimal = any(_DECIMAL_COMMA.match(t) and not _THOUSANDS.match(t) for t in with_comma)
    only_thousands = any(_THOUSANDS.match(t) and not _DECIMAL_COMMA.match(t) for t in with_comma)
    if only_decimal != only_thousands:
        return only_decimal
    return decimal_comma


def _odd_number(text: str, comma_is_decimal: bool, scaled: bool) -> float:
    match = _SCALED.match(text)
    if match and scaled:
        return float(match[1]) * _SCALES[match[2].upper()]
    if comma_is_decimal and _DECIMAL_COMMA.match(text):
        return float(text.replace(".", "").replace(",", "."))
    if not comma_is_decimal and _THOUSANDS.match(text):
        return float(text.replace(",", ""))
    try:
        return float(text)
    except ValueError:
        return float("nan")
