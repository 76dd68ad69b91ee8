"""Validation: the diversified net Sharpe of positions at given rows."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from tft_core.metrics import sharpe_ann
from tft_core.models.ensemble import RawOutput
from tft_core.positions import PositionConfig, walk_positions
from tft_core.sequences import RowTable


def net_by_row(
    rows: RowTable, at: Int64[np.ndarray, " row"], held: Float64[np.ndarray, " row"]
) -> Float64[np.ndarray, " row"]:
    """p_t·y_t/σ_t − κ·|p_t/σ_t − p_{t−1}/σ_{t−1}| at sorted rows, in daily volatilities.

    The step before is the asset's previous row among ``at``; before its first, it is flat.
    """
    notional = held / rows.sigma[at]
    same_asset = np.append(False, rows.asset_id[at][1:] == rows.asset_id[at][:-1])
    before = np.where(same_asset, np.append(0.0, notional[:-1]), 0.0)
    return held * rows.scaled_label[at] - rows.cost_rate[at] * np.abs(notional - before)


def diversified(
    rows: RowTable, at: Int64[np.ndarray, " row"], values: Float64[np.ndarray, " row"]
) -> Float64[np.ndarray, " time"]:
    """Mean over assets on each date that has any."""
    _, day = np.unique(rows.date_index[at], return_inverse=True)
    return np.bincount(day, weights=values) / np.bincount(day)


def walked(
    rows: RowTable,
    at: Int64[np.ndarray, " row"],
    z: Float64[np.ndarray, " row"],
    positions: PositionConfig | None,
) -> Float64[np.ndarray, " row"]:
    """Positions that outputs at sorted rows lead to, each asset starting flat.

    Args:
        positions: ``None``: the outputs are the positions.
    """
    if positions is None:
        return z
    _, day = np.unique(rows.date_index[at], return_inverse=True)
    raw = np.full((day.max(initial=-1) + 1, len(rows.symbols)), np.nan)
    raw[day, rows.asset_id[at]] = z
    return walk_positions(raw, positions)[day, rows.asset_id[at]]


def diversified_sharpe(
    rows: RowTable,
    at: Int64[np.ndarray, " row"],
    z: Float64[np.ndarray, " row"],
    positions: PositionConfig | None = None,
) -> float:
    """Annualised Sharpe of the per-date mean net return; NaN if it is undefined.

    Args:
        z: Outputs in [−1, 1].
        positions: How outputs become positions (see ``walked``).
    """
    held = walked(rows, at, z, positions)
    return sharpe_ann(diversified(rows, at, net_by_row(rows, at, held)))


def scored_rows(rows: RowTable, chosen: Bool[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
    """Row numbers among the chosen that can be scored."""
    return np.flatnonzero(chosen & rows.can_bear_loss)


def validation_frame(
    rows: RowTable,
    at: Int64[np.ndarray, " row"],
    output: RawOutput,
    positions: PositionConfig | None,
) -> pd.DataFrame:
    """What an ensemble said on validation rows: date, symbol, z, disagreement, scaled_label, net.

    Args:
        at: Sorted row numbers that ``output`` belongs to.
        positions: How outputs become the positions behind ``net`` (see ``walked``).
    """
    return pd.DataFrame(
        {
            "date": rows.row_dates[at],
            "symbol": np.asarray(rows.symbols, dtype=object)[rows.asset_id[at]],
            "z": output.z,
            "disagreement": output.disagreement,
            "scaled_label": rows.scaled_label[at],
            "net": net_by_row(rows, at, walked(rows, at, output.z, positions)),
        }
    )
