"""Speed and memory of the 292 features: ``python -m benchmarks.features``.

Prints Markdown tables: the whole build, the last day, the same definitions in plain pandas
(values compared too), and rolling kernels against rival engines. One process, synthetic bars
unless ``--data`` names a Parquet file of bars; each figure with its CPU time, so that a busy
machine shows. polars takes part where it is installed (``pip install '.[bench]'``).
"""

import argparse
import importlib.util
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from benchmarks import pandas_features
from tft_core.data.panel import FIELDS, MarketPanel
from tft_core.data.synthetic import synthetic_market
from tft_core.features import kernels as k
from tft_core.features.builder import N_THREADS, MegaFeatureBuilder

SESSIONS = 7_560
"""Thirty years."""
ASSETS, LAST_DAY_ASSETS = 77, 50
RIVAL_ASSETS, RIVAL_SESSIONS = 10, 2_520
ROLLING_ASSETS, ROLLING_SESSIONS = 50, 2_520
WINDOWS = tuple(range(5, 250, 5))
"""49 windows × 6 statistics: 294 columns."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", help="Parquet file of bars (default: synthetic ones)")
    parser.add_argument("--only", choices=("build", "pandas", "rolling"), help="one table only")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        whole_build(arguments.data)
        return
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}, NumPy {np.__version__}, pandas {pd.__version__}, "
        f"{N_THREADS} threads\n"
    )
    if arguments.only in (None, "build"):
        print(
            "| what | wall s | CPU s | peak GB | cells | M cells / s |\n|---|---|---|---|---|---|"
        )
        # a process of its own: its peak memory is the build's
        command = [sys.executable, "-m", "benchmarks.features", "--peak"]
        command += ["--data", arguments.data] if arguments.data else []
        subprocess.run(command, check=True)
        last_day(arguments.data)
    if arguments.only in (None, "pandas"):
        against_pandas()
    if arguments.only in (None, "rolling"):
        against_engines()


def clock(work: Callable[[], object], repeats: int = 1) -> tuple[float, float]:
    """Least wall and CPU seconds of a few repeats."""
    figures = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        figures.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(wall for wall, _ in figures), min(cpu for _, cpu in figures)


def market(data: str | None, n_assets: int, n_sessions: int) -> MarketPanel:
    """The newest sessions of the assets that trade most."""
    if data is None:
        bars = synthetic_market(n_assets, n_sessions, seed=1, start="1991-01-02", holidays=False)
        return MarketPanel.from_bars(bars, sorted(bars["symbol"].unique()))
    bars = pd.read_parquet(data)
    panel = MarketPanel.from_bars(bars, sorted(bars["symbol"].unique()))
    newest = slice(max(len(panel.dates) - n_sessions, 0), None)
    trading = panel.has_session[newest][-250:].sum(axis=0) * 10_000
    order = np.argsort(-(trading + panel.has_session[newest].sum(axis=0)), kind="stable")
    chosen = np.sort(order[:n_assets])
    return replace(
        panel,
        dates=panel.dates[newest],
        symbols=tuple(panel.symbols[i] for i in chosen),
        **{name: getattr(panel, name)[newest][:, chosen] for name in FIELDS},
    )


def whole_build(data: str | None) -> None:
    panel, builder = market(data, ASSETS, SESSIONS), MegaFeatureBuilder()
    built = []
    wall, cpu = clock(lambda: built.append(builder.build_panel(panel)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    # cells of sessions that were traded: what there is to compute
    cells = int(panel.has_session.sum()) * len(builder.feature_names)
    print(
        f"| all of {len(panel.symbols)} assets × {len(panel.dates)} dates | {wall:.1f} | "
        f"{cpu:.1f} | {peak:.2f} | {cells / 1e6:.0f} M | {cells / wall / 1e6:.1f} |"
    )


def last_day(data: str | None) -> None:
    builder = MegaFeatureBuilder()
    panel = market(data, LAST_DAY_ASSETS, int(1.3 * builder.required_lookback()))
    last = len(panel.dates) - 1
    wall, cpu = clock(lambda: builder.build_panel(panel, first_row=last), repeats=15)
    cells = len(panel.symbols) * len(builder.feature_names)
    print(
        f"| last day of {len(panel.symbols)} assets (best of 15) | {wall:.3f} | {cpu:.3f} | – | "
        f"{cells / 1e3:.1f} k | {cells / wall / 1e6:.2f} |"
    )


def against_pandas() -> None:
    """Time per cell of the same definitions, after checking that the numbers are the same."""
    bars = synthetic_market(
        RIVAL_ASSETS, RIVAL_SESSIONS, seed=2, start="2010-01-04", holidays=False
    )
    panel = MarketPanel.from_bars(bars, sorted(bars["symbol"].unique()))
    builder, built = MegaFeatureBuilder(), []
    wall, cpu = clock(lambda: built.append(builder.build_panel(panel)), repeats=2)
    ours = built[-1]
    n_rows = int(panel.has_session.sum())
    per_cell = cpu / (n_rows * len(builder.feature_names)) * 1e6
    print(
        f"\nThe same definitions, {RIVAL_ASSETS} assets × {RIVAL_SESSIONS} sessions, CPU "
        f"microseconds per cell. Here, all 292 features: {per_cell:.3f} ({wall:.1f} s wall, "
        f"{cpu:.1f} s CPU).\n"
    )
    frames: list[pandas_features.Bars] = []
    _, shared = clock(lambda: frames.append(pandas_features.Bars(bars)))
    position = {name: i for i, name in enumerate(ours.feature_names)}
    rows = []
    for kind, formulas in (
        ("groupby and rolling", pandas_features.ROLLING),
        ("rolling apply", pandas_features.APPLIED),
    ):
        for name, formula in formulas.items():
            made: list[pd.Series] = []
            _, seconds = clock(lambda f=formula, m=made: m.append(f(frames[0])))
            theirs = made[0].unstack(level=0).to_numpy()[1_000:]
            mine = ours.values[1_000:, :, position[name]]
            assert np.allclose(theirs, mine, rtol=1e-3, atol=1e-5, equal_nan=True), name
            rows.append((kind, name, name.split("_")[0], seconds / n_rows * 1e6))
    table = pd.DataFrame(rows, columns=["kind", "feature", "group", "us"])
    print("| plain pandas | features | µs per cell | times ours |\n|---|---|---|---|")
    for kind, part in table.groupby("kind", sort=False):
        mean = part["us"].mean()
        print(f"| {kind} | {len(part)} | {mean:.2f} | {mean / per_cell:.0f} |")
    # each group weighs as much as it has features in the catalogue
    sizes = {name: len(f) for name, f in builder.groups.items() if name in set(table["group"])}
    by_group = table.groupby("group")["us"].mean()
    weighted = sum(by_group[g] * n for g, n in sizes.items()) / sum(sizes.values())
    print(
        f"| all, groups weighed by their size | {len(table)} of {sum(sizes.values())} | "
        f"{weighted:.2f} | {weighted / per_cell:.0f} |"
    )
    print(
        f"\nNot counted for pandas: {shared:.1f} s for σ and z, which its features share. Left "
        "out: calendar and exogenous features.\nCompared (values agree within 1e-3): "
        + ", ".join(table["feature"])
    )


def against_engines() -> None:
    """Mean, sum, deviation, z-score, lowest and highest of 49 windows: 294 columns."""
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((ROLLING_ASSETS, ROLLING_SESSIONS))
    dates = pd.bdate_range("2010-01-04", periods=ROLLING_SESSIONS)
    columns = [f"S{i:02d}" for i in range(ROLLING_ASSETS)]
    frame = pd.DataFrame(wide.T, index=dates, columns=columns)
    long = frame.T.stack()
    long.index.names = ["symbol", "date"]
    engines: dict[str, Callable[[], object]] = {
        "here (`kernels`, exact sums)": lambda: _kernels(wide),
        "pandas, wide": lambda: _pandas(frame),
        "pandas, `groupby().rolling()`": lambda: _pandas(long.groupby(level=0)),
    }
    if importlib.util.find_spec("polars") is not None:
        engines |= _polars_engines(frame)
    cells = wide.size * 6 * len(WINDOWS)
    print(
        f"\n294 rolling columns, {ROLLING_ASSETS} assets × {ROLLING_SESSIONS} sessions.\n\n"
        "| engine | wall s | CPU s | M cells / s |\n|---|---|---|---|"
    )
    for name, work in engines.items():
        wall, cpu = clock(work)
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {cells / wall / 1e6:.0f} |")


def _kernels(wide: np.ndarray) -> None:
    for w in WINDOWS:
        mean, deviation = k.move_mean_std(wide, w)
        (wide - mean) / deviation
        k.move_sum(wide, w), k.move_min(wide, w), k.move_max(wide, w)


def _pandas(frame: pd.DataFrame | pd.api.typing.SeriesGroupBy) -> None:
    values = frame if isinstance(frame, pd.DataFrame) else frame.obj
    for w in WINDOWS:
        rolling = frame.rolling(w)
        mean, deviation = rolling.mean(), rolling.std(ddof=0)
        (values.to_numpy() - mean.to_numpy()) / deviation.to_numpy()
        rolling.sum(), rolling.min(), rolling.max()


def _polars_engines(frame: pd.DataFrame) -> dict[str, Callable[[], object]]:
    import polars as pl

    wide = pl.DataFrame({name: frame[name].to_numpy() for name in frame})
    long = wide.unpivot(variable_name="symbol", value_name="x")

    def columns(name: str, suffix: str) -> list["pl.Expr"]:
        x, made = pl.col(name), []
        for w in WINDOWS:
            mean, deviation = x.rolling_mean(w), x.rolling_std(w, ddof=0)
            every = (mean, x.rolling_sum(w), deviation, (x - mean) / deviation,
                     x.rolling_min(w), x.rolling_max(w))  # fmt: skip
            made += [e.alias(f"{suffix}{w}_{i}") for i, e in enumerate(every)]
        return made

    grouped = [column.over("symbol") for column in columns("x", "c")]
    return {
        f"polars {pl.__version__}, wide": lambda: wide.select(
            [column for name in wide.columns for column in columns(name, f"{name}_")]
        ),
        f"polars {pl.__version__}, long, `.over(symbol)`": lambda: long.select(grouped),
    }


if __name__ == "__main__":
    main()
