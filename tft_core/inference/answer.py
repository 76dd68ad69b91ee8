"""From a walk to what is said of each asset: the reason it has no output, or what made it."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64

from tft_core.inference.config import ServingConfig
from tft_core.inference.guards import asset_codes
from tft_core.inference.inputs import MarketInputs
from tft_core.inference.reasons import OK
from tft_core.models.attribution import Attribution
from tft_core.models.ensemble import Ensemble, RawOutput
from tft_core.sequences import RowTable


@dataclass(frozen=True, slots=True)
class Walk:
    """Positions over consecutive sessions."""

    dates: pd.DatetimeIndex
    symbols: tuple[str, ...]
    raw: Float[np.ndarray, "time asset"]
    """Ensemble mean output; NaN where the asset has no session or must not be answered for."""
    disagreement: Float[np.ndarray, "time asset"]
    positions: Float[np.ndarray, "time asset"]
    codes: np.ndarray
    """[time, asset] why an asset with a session has no output; "" where there is nothing to say."""
    end_rows: Int64[np.ndarray, " row"]
    """Rows of the table that were put to the network."""
    output: RawOutput | None
    """What it said of them; ``None`` where there was none to ask for."""


def row_codes(
    inputs: MarketInputs,
    rows: RowTable,
    inside: Int64[np.ndarray, " time"],
    clip: float,
    limits: ServingConfig,
) -> np.ndarray:
    """Why assets with a session on the dates ``inside`` get no output, before it is made."""
    n_dates, symbols = len(inputs.panel.dates), tuple(inputs.panel.symbols)
    faults = inputs.judged(limits)
    place = np.full(n_dates, -1)
    place[inside] = np.arange(len(inside))
    chosen = np.flatnonzero(place[rows.date_index] >= 0)
    column_of = pd.Index(symbols).get_indexer(pd.Index(rows.symbols))
    cell = place[rows.date_index[chosen]], column_of[rows.asset_id[chosen]]
    shape = (len(inside), len(symbols))
    coverage, sigma, clipped = (np.full(shape, np.nan) for _ in range(3))
    coverage[cell], sigma[cell] = rows.coverage[chosen], rows.sigma[chosen]
    known = np.maximum(rows.coverage[chosen] * rows.n_features, 1.0)
    at_clip = np.abs(rows.features[chosen]) >= clip
    clipped[cell] = at_clip.sum(axis=1) / known
    codes = asset_codes(coverage, sigma, clipped, faults.take(inside), limits)
    codes[~np.isfinite(inputs.close[inside])] = ""  # no session: there is nothing to judge
    return codes


def session_status(
    index: int,
    inputs: MarketInputs,
    walk: Walk,
    is_active: Bool[np.ndarray, " asset"],
    is_known: Bool[np.ndarray, " asset"],
    limits: ServingConfig,
) -> tuple[dict[str, str], dict[str, str]]:
    """(code, detail) per symbol; the detail is given where there is more than the code."""
    stamp = walk.dates[index]
    row = cast(int, inputs.panel.dates.get_loc(stamp))  # dates are unique
    codes: dict[str, str] = {}
    details: dict[str, str] = {}
    for column, symbol in enumerate(walk.symbols):
        bars = np.flatnonzero(np.isfinite(inputs.close[: row + 1, column]))
        last = inputs.panel.dates[bars[-1]].date() if len(bars) else None
        if not is_active[column]:
            code = "not_in_universe"
        elif not is_known[column]:
            code = "unknown_asset"
        elif last is None or row - bars[-1] > limits.max_bar_age_sessions:
            code = "stale_data"
            details[symbol] = f"last bar {last}" if last else "no bar in the model's window"
        elif bars[-1] != row:
            code, details[symbol] = "no_session", f"last bar {last}"
        else:
            code = str(walk.codes[index, column]) or OK
        codes[symbol] = code
        if code == "input_outlier" and inputs.faults is not None:
            day = inputs.faults.outlier_day[row, column]
            if not np.isnat(day):
                details[symbol] = (
                    f"moved by more than {limits.max_return_sigmas:g} daily volatilities on {day}"
                )
        if code == "members_disagree":
            details[symbol] = f"standard deviation {walk.disagreement[index, column]:.2f}"
    return codes, details


def explain_sessions(
    ensemble: Ensemble,
    rows: RowTable,
    walk: Walk,
    at: Int64[np.ndarray, " session"],
    workers: int,
) -> dict[tuple[pd.Timestamp, str], tuple[Attribution, int]]:
    """(session, symbol) → the attribution it stands in, and its row there."""
    if walk.output is None or not len(at):
        return {}
    stamps = rows.row_dates[walk.end_rows]
    chosen = np.flatnonzero(stamps.isin(walk.dates[at]))
    if not len(chosen):
        return {}
    end_rows = walk.end_rows[chosen]
    made = ensemble.attribute(rows, end_rows, walk.output.member_z[:, chosen], workers=workers)
    return {
        (stamps[place], rows.symbols[rows.asset_id[row]]): (made, i)
        for i, (place, row) in enumerate(zip(chosen.tolist(), end_rows, strict=True))
    }
