"""What a source says beside bars: facts of instruments, exogenous series, instants of knowledge."""

import difflib
import os

import numpy as np
import pandas as pd

from tft_core.data.moments import DAY_END
from tft_core.data.parsing import no_stamps, parse_numbers, parse_stamps, parse_symbols
from tft_core.data.reading import INSTRUMENT_ALIASES, SERIES_ALIASES, RawTable, read_table
from tft_core.errors import DataError

FACT_COLUMNS = ("asset_class", "exchange", "currency")
TEXT_FACTS = (*FACT_COLUMNS, "description")


def prepare_instruments(source: pd.DataFrame | str | os.PathLike[str]) -> pd.DataFrame:
    """Read facts about symbols: ``symbol`` and those other columns that the source has.

    Raises:
        DataError: No symbol column, a symbol twice, a number out of its range, or a column whose
            name is nearly one of ours.
    """
    if isinstance(source, pd.DataFrame) and source.index.name == "symbol":
        source = source.reset_index()
    table = read_table(source, INSTRUMENT_ALIASES, ("symbol",), what="instruments")
    for column in table.ignored:
        near = difflib.get_close_matches(column.strip().lower(), INSTRUMENT_ALIASES, 1, cutoff=0.8)
        if near:  # passed over, its costs would silently be the default ones
            raise DataError(
                f"{table.source} must name its columns exactly, found {column!r}; rename it to "
                f"{near[0]!r}, or take it out"
            )
    out = pd.DataFrame({"symbol": parse_symbols(table.frame["symbol"])})
    if out["symbol"].isna().any():
        row = int(np.flatnonzero(out["symbol"].isna())[0])
        raise DataError(f"{table.source} must name every symbol, found none in row {row}")
    if out["symbol"].duplicated().any():
        twice = out.loc[out["symbol"].duplicated(), "symbol"].iloc[0]
        raise DataError(f"{table.source} must describe each symbol once, found {twice} twice")
    for name in (c for c in table.frame.columns if c != "symbol"):
        column = table.frame[name]
        if name in TEXT_FACTS:
            out[name] = parse_symbols(column)
            continue
        parsed = parse_numbers(column, source=table.source, decimal_comma=table.decimal_comma)
        bad = parsed.unreadable | (parsed.numbers < 0) | np.isinf(parsed.numbers)
        if name == "publication_lag_days":
            bad |= np.isfinite(parsed.numbers) & (parsed.numbers != np.floor(parsed.numbers))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{table.source} column {name} must hold "
                f"{'whole ' if name == 'publication_lag_days' else ''}numbers of at least 0, "
                f"found {column.iloc[row]} for {out['symbol'].iloc[row]}"
            )
        out[name] = parsed.numbers
    return out


def prepare_series(source: pd.DataFrame | str | os.PathLike[str]) -> pd.DataFrame:
    """Read exogenous values: ``name, date, value, available_at, is_given``, each once.

    ``is_given`` tells whether the source says when a value was known.

    Raises:
        DataError: A column is missing, or a row has no name, date, value or instant.
    """
    table = read_table(source, SERIES_ALIASES, ("name", "date", "value"), what="series values")
    frame = table.frame
    name = parse_symbols(frame["name"])
    stamps = parse_stamps(frame["date"], source=table.source)
    value = parse_numbers(frame["value"], source=table.source, decimal_comma=table.decimal_comma)
    available, bad_available, _ = given_instants(table, stamps.wall)
    day = stamps.wall.normalize()
    is_given = "available_at" in frame
    if not is_given:
        available = day + pd.Timedelta(DAY_END)
    faults = {
        "name": pd.isna(name),
        "date": day.isna(),
        "value": ~np.isfinite(value.numbers),
        "available_at": bad_available,
    }
    for column, bad in faults.items():
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{table.source} column {column} must be filled in every row, "
                f"found {frame[column].iloc[row]!r} in row {row}; correct or remove the row"
            )
    out = pd.DataFrame({"name": name, "date": day, "value": value.numbers})
    out["available_at"] = available
    keys = ["name", "date", "available_at"]
    out = out.drop_duplicates(ignore_index=True)
    if out.duplicated(keys).any():
        twice = out[out.duplicated(keys)].iloc[0]
        raise DataError(
            f"{table.source} must give one value per name, date and available_at, found two for "
            f"{twice['name']} on {twice['date'].date()}; remove one"
        )
    return out.assign(is_given=is_given)


def given_instants(
    table: RawTable, wall: pd.DatetimeIndex
) -> tuple[pd.DatetimeIndex, np.ndarray, list[str]]:
    """Given instants of knowledge in UTC; a bare date means the end of that day."""
    if "available_at" not in table.frame:
        return pd.DatetimeIndex(no_stamps(len(wall))), np.zeros(len(wall), dtype=bool), []
    stamps = parse_stamps(table.frame["available_at"], source=table.source)
    instants = stamps.wall.where(stamps.utc.isna(), stamps.utc)
    if (instants == instants.normalize())[instants.notna()].all():
        instants = instants + pd.Timedelta(DAY_END)
    late = float((instants.normalize() > wall.normalize()).mean())
    notes = []
    if late > 0:
        notes.append(
            f"{late:.0%} of the rows became known after their session day: "
            "features of that session are built without them"
        )
    return instants.as_unit("us"), np.asarray(instants.isna()), notes
