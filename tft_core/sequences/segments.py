"""Causal change-point segments of each asset's returns, with the date of their detection.

A segment's end is known only from later data, so a context made of one may be used from
its *detection* on, never from its end.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from tft_core.sequences.rows import RowTable

LOOKBACK = 21
"""Sessions that a change is looked for in."""
MIN_LENGTH = 5
"""Fewest sessions of a segment, and on either side of a change."""
CALIBRATED = {21: 0.083, 32: 0.35, 42: 0.55, 63: 0.77, 126: 0.94, 252: 0.985}
"""Longest segment → evidence share ν at which segments are half as long on average, on daily
currencies and futures alike (``python -m benchmarks.change_points``)."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Stretches of rows of one regime each, in row order."""

    first_row: Int64[np.ndarray, " segment"]
    last_row: Int64[np.ndarray, " segment"]
    detected_row: Int64[np.ndarray, " segment"]
    """Row at whose close the segment's end was known."""


def evidence_for(max_length: int) -> float:
    """Evidence share ν of "one change" against "no change" that ends a segment.

    Source:
        X-Trend, appendix A: ν is set so that the average segment is about half the longest.
        Below 21 sessions that cannot be reached with a look-back of 21: ν stays that of 21.
    """
    lengths = np.log(np.array(list(CALIBRATED)))
    return float(np.interp(np.log(max_length), lengths, list(CALIBRATED.values())))


def find_segments(
    rows: RowTable, max_length: int, *, lookback: int = LOOKBACK, evidence: float | None = None
) -> Segments:
    """Cut each asset's history where mean or variance of its returns changed.

    At each close, a change is looked for in the last ``lookback`` standardised returns: two
    Gaussians against one. Where the evidence share passes ``evidence``, the running segment
    ends before the change; at ``max_length`` sessions it ends anyway.

    Args:
        max_length: Longest segment in sessions.
        evidence: ν; default ``evidence_for(max_length)``.

    As of:
        ``detected_row`` of each segment: rows after it don't move it.

    Source:
        X-Trend (arXiv 2310.10500v2) Algorithm 1, with a Gaussian likelihood ratio in place of
        its Gaussian processes and walking forward, so that every cut has a detection time.
    """
    threshold = evidence_for(max_length) if evidence is None else evidence
    share, change = change_evidence(rows, lookback)
    firsts, lasts, detections = [], [], []
    for start, stop in zip(rows.asset_start[:-1], rows.asset_start[1:], strict=True):
        begin = int(start)
        for row in range(int(start), int(stop)):
            cut = int(change[row])
            if share[row] >= threshold and cut - begin >= MIN_LENGTH:
                last = cut - 1
            elif row - begin + 1 >= max_length:
                last = row
            else:
                continue
            firsts.append(max(begin, last - max_length + 1))
            lasts.append(last)
            detections.append(row)
            begin = last + 1
    return Segments(*(np.asarray(a, dtype=np.int64) for a in (firsts, lasts, detections)))


def change_evidence(
    rows: RowTable, lookback: int = LOOKBACK
) -> tuple[Float64[np.ndarray, " row"], Int64[np.ndarray, " row"]]:
    """Evidence share of a change in the last returns, and the first row after it.

    Returns:
        ν = 1/(1 + exp(−LLR + 3/2·log n)), BIC-penalised for the second mean, the second
        variance and the place of the change; 0 where the history is short. And the row at
        which the new regime starts.
    """
    returns = standardised_returns(rows)
    share = np.zeros(len(rows))
    change = np.full(len(rows), -1, dtype=np.int64)
    if len(rows) < lookback:
        return share, change
    window = np.lib.stride_tricks.sliding_window_view(returns, lookback)
    ends = np.arange(lookback - 1, len(rows))
    whole = (ends - lookback + 1) >= rows.asset_start[rows.asset_id[ends]]
    whole &= np.isfinite(window).all(axis=1)
    window, ends = window[whole], ends[whole]
    if not len(ends):
        return share, change
    sums, squares = np.cumsum(window, axis=1), np.cumsum(window**2, axis=1)
    cuts = np.arange(MIN_LENGTH, lookback - MIN_LENGTH + 1)  # sessions before the change
    total = _log_variance(sums[:, -1:], squares[:, -1:], np.array([lookback]))
    before = _log_variance(sums[:, cuts - 1], squares[:, cuts - 1], cuts)
    after = _log_variance(
        sums[:, -1:] - sums[:, cuts - 1], squares[:, -1:] - squares[:, cuts - 1], lookback - cuts
    )
    ratio = 0.5 * (lookback * total - cuts * before - (lookback - cuts) * after)
    best = ratio.argmax(axis=1)
    log_odds = ratio[np.arange(len(ends)), best] - 1.5 * np.log(lookback)
    share[ends] = 1.0 / (1.0 + np.exp(-np.clip(log_odds, -50.0, 50.0)))
    change[ends] = ends - lookback + 1 + cuts[best]
    return share, change


def standardised_returns(rows: RowTable) -> Float64[np.ndarray, " row"]:
    """Return of the session that ends at each row, in units of the volatility known before it.

    It is label[t−2]: the label's lag puts r(t−1 → t) there. NaN for an asset's first rows.
    """
    returns = np.full(len(rows), np.nan)
    returns[2:] = rows.label[:-2] / rows.sigma[1:-1]
    head = rows.asset_start[:-1, None] + np.arange(2)
    returns[head[head < rows.asset_start[1:, None]]] = np.nan
    return returns


def _log_variance(total: np.ndarray, square: np.ndarray, count: np.ndarray) -> np.ndarray:
    variance = square / count - (total / count) ** 2
    return np.log(np.maximum(variance, 1e-4))
