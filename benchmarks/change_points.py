"""The fast change-point detector against the paper's Gaussian processes, on real windows.

``python -m benchmarks.change_points`` prints one table per data set: the bundled sample, and the
futures of ``../shared/data`` where they are present. About three CPU minutes.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr

from tests.oracles import gp_change_points as gp
from tft_core.data.panel import label_returns
from tft_core.data.sample import sample_bars
from tft_core.features.kernels import daily_volatility
from tft_core.sequences import RowTable, find_segments
from tft_core.sequences.segments import LOOKBACK, MIN_LENGTH, change_evidence, evidence_for

FUTURES = Path(__file__).parents[2] / "shared" / "data" / "futures.parquet"
PAPER = ((21, 0.9), (63, 0.95))
"""The paper's (longest segment, severity)."""
CLOSES = ["date", "symbol", "close"]
STRICTER = (0.99, 0.999, 0.9999)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=250, help="windows compared per data set")
    parser.add_argument("--sessions", type=int, default=300, help="history cut by Algorithm 1")
    parser.add_argument("--futures", type=Path, default=FUTURES, help="daily closes, Parquet")
    options = parser.parse_args()
    noise_windows(options.windows // 2)
    sets = {"bundled sample": sample_bars}
    if options.futures.is_file():
        sets["futures"] = partial(pd.read_parquet, options.futures, columns=CLOSES)
    else:
        print("futures: not present, left out")
    for name, read in sets.items():
        compare(name, read(), options.windows, options.sessions)


def noise_windows(n: int) -> None:
    """How often the paper's severities are passed where nothing changes."""
    rng = np.random.default_rng(0)
    walks = np.exp(0.01 * rng.standard_normal((n, LOOKBACK + 1)).cumsum(axis=1))
    severity = np.array([gp.change(walk).severity for walk in walks])
    print(f"\n{n} Gaussian random walks: " + passed(severity))


def compare(name: str, bars: pd.DataFrame, n_windows: int, n_sessions: int) -> None:
    """One data set's figures."""
    rows, price = table(bars)
    started = time.process_time()
    share, change = change_evidence(rows)
    fast_seconds = (time.process_time() - started) / len(rows)
    rng = np.random.default_rng(0)
    windows = price_windows(rows, price)
    whole = np.flatnonzero((windows.std(axis=1) > 0) & (share > 0))
    at = np.sort(rng.choice(whole, size=n_windows, replace=False))
    started = time.process_time()
    found = [gp.change(windows[row]) for row in at]
    slow_seconds = (time.process_time() - started) / len(at)
    severity = np.array([one.severity for one in found])
    print(f"\n{name}: {len(at)} windows of {LOOKBACK} returns, {len(rows)} rows in all")
    print("  Gaussian processes: " + passed(severity))
    print(f"  fast detector: share at or above ν(21) = {evidence_for(21):.3f}: "
          f"{(share[at] >= evidence_for(21)).mean():.2f}, above ν(63) = {evidence_for(63):.3f}: "
          f"{(share[at] >= evidence_for(63)).mean():.2f}")  # fmt: skip
    print(f"  rank correlation of the two scores: {spearmanr(severity, share[at])[0]:.2f}")
    place = np.array([one.location for one in found])
    ours = (change[at] - (at - LOOKBACK + 1)).astype(float)
    for rate in (0.5, 0.2):
        both = agreement(severity, share[at], rate)
        gap = np.abs(place - ours)[both["both"]]
        chance = np.abs(np.subtract.outer(place[both["both"]], ours[both["both"]]))
        by_chance = rate**2 + (1 - rate) ** 2
        print(f"  strongest {rate:.0%} of each: agreement {both['agree']:.2f} (chance "
              f"{by_chance:.2f}), kappa {both['kappa']:.2f}; where both: location error, median "
              f"{np.median(gap):.1f} sessions, shuffled {np.median(chance):.1f}")  # fmt: skip
    print(f"  CPU per window: {slow_seconds * 1e3:.1f} ms against {fast_seconds * 1e6:.2f} µs, "
          f"ratio {slow_seconds / fast_seconds:,.0f}")  # fmt: skip
    lengths(rows, price, n_sessions)


def passed(severity: np.ndarray) -> str:
    """Detection rates at the paper's severities, and the distribution."""
    rates = ", ".join(f"{(severity >= nu).mean():.0%} at ν = {nu}" for _, nu in PAPER)
    low, middle, high = np.quantile(severity, [0.1, 0.5, 0.9])
    return f"{rates}; deciles 1/5/9 of the severity {low:.2f}/{middle:.2f}/{high:.3f}"


def agreement(a: np.ndarray, b: np.ndarray, rate: float) -> dict:
    """Detection by two scores, each at the threshold that passes the same share of windows."""
    hits = [rankdata(score, method="ordinal") > len(score) * (1 - rate) for score in (a, b)]
    agree = float((hits[0] == hits[1]).mean())
    chance = sum(np.mean(hits[0] == value) * np.mean(hits[1] == value) for value in (True, False))
    return {"agree": agree, "kappa": (agree - chance) / (1 - chance), "both": hits[0] & hits[1]}


def lengths(rows: RowTable, price: np.ndarray, n_sessions: int) -> None:
    """Average segments: Algorithm 1 on part of one history, the fast detector on it and on all."""
    longest_asset = int(np.diff(rows.asset_start).argmax())
    stop = int(rows.asset_start[longest_asset + 1]) - LOOKBACK
    history = price[stop - n_sessions : stop]
    known: dict[bytes, gp.Change] = {}

    def detect(window: np.ndarray) -> gp.Change:
        key = window.tobytes()
        if key not in known:
            known[key] = gp.change(window)
        return known[key]

    for longest, nu in PAPER:
        middle = {}
        for severity in (nu, *STRICTER):
            cut = gp.segments(
                history,
                lookback=LOOKBACK,
                longest=longest,
                shortest=MIN_LENGTH,
                severity=severity,
                detect=detect,
            )
            middle[severity] = np.mean([last - first + 1 for first, last in cut])
        found = find_segments(rows, longest)
        ours = found.last_row - found.first_row + 1
        here = (found.first_row >= stop - n_sessions) & (found.last_row < stop)
        slow = ", ".join(f"{length:.1f} at ν = {s:g}" for s, length in middle.items())
        symbol = rows.symbols[longest_asset]
        print(f"  longest {longest}, average length:")
        print(f"    Algorithm 1 on {n_sessions} sessions of {symbol}: {slow}")
        print(f"    fast detector: {ours[here].mean():.1f} there, {ours.mean():.1f} on all rows "
              f"({(ours == longest).mean():.0%} as long as allowed)")  # fmt: skip


def table(bars: pd.DataFrame) -> tuple[RowTable, np.ndarray]:
    """Rows with labels and volatilities but no features, and each row's close."""
    wide = bars.pivot(index="date", columns="symbol", values="close").sort_index()
    close = wide.to_numpy(dtype=np.float64)
    asset_id, date_index = (axis.astype(np.int64) for axis in np.nonzero(np.isfinite(close).T))
    sigma = daily_volatility(close)[date_index, asset_id]
    n = len(asset_id)
    rows = RowTable(
        features=np.zeros((n, 1), dtype=np.float32),
        coverage=np.ones(n, dtype=np.float32),
        asset_id=asset_id,
        date_index=date_index,
        label=label_returns(close)[date_index, asset_id],
        sigma=np.where(sigma > 0, sigma, np.nan),
        cost_rate=np.zeros(n),
        dates=pd.DatetimeIndex(wide.index),
        symbols=tuple(wide.columns),
        feature_names=("none",),
        asset_start=np.concatenate([[0], np.cumsum(np.isfinite(close).sum(axis=0))]),
    )
    return rows, close[date_index, asset_id]


def price_windows(rows: RowTable, price: np.ndarray) -> np.ndarray:
    """The ``LOOKBACK + 1`` closes up to each row; constant where the asset has fewer."""
    windows = np.ones((len(rows), LOOKBACK + 1))
    ends = np.arange(LOOKBACK, len(rows))
    ends = ends[ends - LOOKBACK >= rows.asset_start[rows.asset_id[ends]]]
    windows[ends] = np.lib.stride_tricks.sliding_window_view(price, LOOKBACK + 1)[ends - LOOKBACK]
    return windows


if __name__ == "__main__":
    main()
