"""X-Trend against its rivals on long futures history: who earns anything, net, with what error.

Three steps, so that the middle one can run on another machine:

    python -m benchmarks.futures prepare BARS.parquet INSTRUMENTS.csv panel.npz
    python -m benchmarks.futures train panel.npz RESULTS.parquet --variants paper --device cuda
    python -m benchmarks.futures report panel.npz RESULTS.parquet [RESULTS.parquet …]

Expanding windows from 1990, five-year tests from 1995 on, entry at the close of t+1 (label
r(t+1 → t+2)), validation = the newest 10 % of the training dates, causal contexts. Nothing
is tuned, and nothing here reads a test window before its fold is trained.
"""

import argparse
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from tft_core.baselines import BASELINES
from tft_core.data.panel import label_returns
from tft_core.features.normalization import Scaler
from tft_core.metrics import max_drawdown, sharpe_ann, sharpe_se_ann, vol_ann
from tft_core.models.config import XTrendConfig
from tft_core.models.rivals import rival
from tft_core.positions import PositionConfig, portfolio_returns, portfolio_weights, walk_positions
from tft_core.schema import LABEL_LAG_SESSIONS, TRADING_DAYS_PER_YEAR
from tft_core.sequences import RowTable
from tft_core.training.config import TrainingConfig
from tft_core.training.progress import ConsoleProgress
from tft_core.training.walk_forward import train_ensemble

FIRST_DAY, TESTS = "1990-01-01", ("1995", "2000", "2005", "2010", "2015", "2020")
VALIDATION_SHARE, PURGE_DATES = 0.1, 5
ACTIVE_SESSIONS = 21
"""An asset counts in N while it traded within so many dates."""
BPS = (0.0, 1.0, 3.0, 5.0)
PERIODS = {
    "1995–2021": (1995, 2021),
    "1995–2004": (1995, 2004),
    "2005–2014": (2005, 2014),
    "2015–2021": (2015, 2021),
}
"""First and last year; a run that has not walked all windows of a period shows no figure."""
VOLATILITY_SHOWN = 0.15
"""Ex-post portfolio volatility of returns and drawdowns, as in the paper's plots."""
RAW = PositionConfig(max_position=1.0, position_smooth=1.0, max_daily_turnover=2.0)
SMOOTH = PositionConfig(max_position=1.0, position_smooth=0.3, max_daily_turnover=2.0)
SLOW = replace(SMOOTH, position_smooth=0.1)
WIDE = "ret_"
"""Features with this prefix are added to the paper's eight in a variant that is wide."""


SHRUNK = {"d_hidden": 32, "n_context": 10}
"""What ``--shrunk`` changes in ``paper()`` (64 and 20). With one seed, six epochs at most and
minibatches of 64, ``slow``, ``portfolio`` and the rivals take two cores less than an hour."""


@dataclass(frozen=True)
class Variant:
    """One model and the way it is trained and traded."""

    what: str
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    positions: PositionConfig = SMOOTH
    is_rival: str = ""
    is_wide: bool = False


COSTS = {"cost_factor": 0.5}
LINEAR_LR = 1e-2
"""A step of Adam moves a weight by the learning rate: at the networks' 1e-3 some hundred steps
don't take ten weights from a random start to where they belong (docs/EXPERIMENTS.md)."""
VARIANTS = {
    "paper": Variant("as published: gross Sharpe loss, raw outputs traded", positions=RAW,
                     training={"cost_factor": 0.0}),
    "costs": Variant("costs in the loss (γ = .5), outputs smoothed (.3) in loss and trading",
                     training=COSTS),
    "slow": Variant("as costs, smoothed with .1", training=COSTS, positions=SLOW),
    "portfolio": Variant("as slow, portfolio-level Sharpe + .1 SoftMin", positions=SLOW,
                         training={**COSTS, "sharpe_level": "portfolio", "softmin_weight": 0.1}),
    "gaussian": Variant("as slow, joint Gaussian likelihood (α = 1)", positions=SLOW,
                        training=COSTS, model={"loss_mode": "joint_mle"}),
    "random": Variant("as slow, random contexts in place of change-point segments",
                      positions=SLOW, training=COSTS, model={"context_mode": "random"}),
    "identified": Variant("as slow, the identified VSN", positions=SLOW, training=COSTS,
                          model={"vsn": "identified", "vsn_hidden": 8}),
    "wide": Variant("as identified, 36 features", positions=SLOW, training=COSTS, is_wide=True,
                    model={"vsn": "identified", "vsn_hidden": 8}),
    "vsn_lstm": Variant("as slow, without contexts", positions=SLOW, training=COSTS,
                        is_rival="vsn_lstm"),
    "lstm": Variant("as slow, without contexts and VSN", positions=SLOW, training=COSTS,
                    is_rival="lstm"),
    "linear": Variant("as slow, linear in today's features", positions=SLOW, is_rival="linear",
                      training={**COSTS, "lr": LINEAR_LR}),
}  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """Everything the runs read, on one grid [date, asset]."""

    features: np.ndarray
    """float16 [date, asset, feature], unscaled."""
    names: tuple[str, ...]
    close: np.ndarray
    sigma: np.ndarray
    cost_rate: np.ndarray
    dates: pd.DatetimeIndex
    symbols: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "Panel":
        with np.load(path, allow_pickle=False) as stored:
            return cls(
                features=stored["features"],
                names=tuple(stored["names"].tolist()),
                close=stored["close"],
                sigma=stored["sigma"],
                cost_rate=stored["cost_rate"],
                dates=pd.DatetimeIndex(stored["dates"]),
                symbols=tuple(stored["symbols"].tolist()),
            )


def prepare(bars: Path, instruments: Path, target: Path) -> None:
    """Features as known, closes and volatilities of the whole history, through the store."""
    import tempfile

    from tft_core.config import load_settings
    from tft_core.data.store import MarketDataStore
    from tft_core.features.as_known import session_risk, wealth
    from tft_core.features.builder import FeatureConfig, MegaFeatureBuilder
    from tft_core.positions import CostConfig, cost_rates
    from tft_core.training_pipeline.phases.market import instrument_costs

    costs = load_settings(profile="demo").build(CostConfig, "costs")
    with tempfile.TemporaryDirectory() as home, MarketDataStore(Path(home) / "m.duckdb") as store:
        taken = store.ingest(bars, instruments=instruments)
        print(f"{taken.rows_in} rows: {taken.accepted} accepted, {taken.quarantined} quarantined")
        symbols = store.symbols()
        start = pd.Timestamp(FIRST_DAY).date()
        builder = MegaFeatureBuilder(FeatureConfig(groups=("ret", "paper")))
        panel = builder.build(store, symbols, start=start)
        risk = session_risk(store, symbols, start, store.last_session())
        in_bps, in_vol = instrument_costs(store.instruments().reindex(list(symbols)), costs)
    own = risk.dates.get_indexer(panel.dates)
    np.savez_compressed(
        target,
        features=panel.values.astype(np.float16),
        names=np.array(panel.feature_names),
        close=wealth(risk.returns)[own],
        sigma=risk.sigma_daily[own],
        cost_rate=cost_rates(risk.sigma_daily[own], in_bps, in_vol),
        dates=panel.dates.to_numpy(),
        symbols=np.array(symbols),
    )
    print(f"{target}: {panel.values.shape}, {target.stat().st_size / 2**20:.1f} MiB")


def train(
    panel: Panel, names: list[str], target: Path, *, device: str, epochs: int, seeds: int,
    threads: int, changes: dict[str, Any], tests: tuple[str, ...], model: dict[str, Any],
) -> None:  # fmt: skip
    """Walk each variant through the windows; rewrites ``target`` after every window."""
    done: list[pd.DataFrame] = []
    for name in names:
        for test in tests:
            started = time.perf_counter()
            z, info = walk(
                panel, VARIANTS[name], test_dates(panel, test), device, epochs, seeds, threads,
                changes, f"{VARIANTS[name].what[:20]} {test}", size=model,
            )  # fmt: skip
            frame = pd.DataFrame(z, columns=list(panel.symbols)).melt(
                var_name="symbol", value_name="z", ignore_index=False
            )
            frame["date"] = panel.dates[test_dates(panel, test)][frame.index]
            frame = frame.dropna().assign(variant=name, test=test, **info)
            frame["seconds"] = time.perf_counter() - started
            done.append(frame.astype({"z": np.float32}))
            pd.concat(done, ignore_index=True).to_parquet(target, compression="zstd")
            print(name, test, info, f"{time.perf_counter() - started:.0f} s", flush=True)


def walk(
    panel: Panel, variant: Variant, inside: np.ndarray, device: str, epochs: int, seeds: int,
    threads: int, changes: dict[str, Any], label: str, first_seed: int = 42,
    size: dict[str, Any] | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:  # fmt: skip
    """Raw outputs [date of ``inside``, asset] of one window, and how the training went.

    Everything before the window less a purge is trained on, nothing else is read.
    """
    chosen = [i for i, n in enumerate(panel.names) if variant.is_wide or not n.startswith(WIDE)]
    stop = int(inside[-1]) + 1
    grid = SimpleNamespace(
        values=panel.features[:stop, :, chosen].astype(np.float32),
        dates=panel.dates[:stop],
        symbols=panel.symbols,
        feature_names=tuple(panel.names[i] for i in chosen),
    )
    boundary = int(inside[0]) - PURGE_DATES
    first_val = int(boundary * (1 - VALIDATION_SHARE))
    close = panel.close[:stop]
    fit_cells = grid.values[: first_val - PURGE_DATES][
        np.isfinite(close[: first_val - PURGE_DATES])
    ]
    rows = RowTable.build(
        grid, close, panel.sigma[:stop], panel.cost_rate[:stop], Scaler.fit(fit_cells)
    )
    # a row needs a year of history of its own before it teaches anything
    knows = rows.can_bear_loss & (rows.coverage > 0.9)
    fit = knows & (rows.label_end < first_val)
    validation = knows & (rows.date_index >= first_val) & (rows.label_end < inside[0])
    model = XTrendConfig.paper(
        **{
            "n_features": rows.n_features, "n_assets": len(rows.symbols),
            **(size or {}), **variant.model,
        }
    )  # fmt: skip
    if variant.is_rival:
        model = rival(variant.is_rival, model)
    training = TrainingConfig(
        **{
            "pretrain_epochs": 0, "finetune_epochs": epochs, "patience": 5, "batch_size": 64,
            "n_seeds": seeds, "seed": first_seed, "threads": threads, "device": device,
            **changes, **variant.training,
        }
    )  # fmt: skip
    result = train_ensemble(
        rows, fit, validation, fit | validation, model, training,
        positions=variant.positions, refit=False, progress=ConsoleProgress(label, bar=False),
    )  # fmt: skip
    end_rows = np.flatnonzero((rows.date_index >= inside[0]) & (rows.coverage > 0.9))
    z = rows.to_panel(result.ensemble.predict(rows, end_rows).z, end_rows)[inside]
    info = {
        "val_sharpe": round(result.val_sharpe, 3),
        "best_epochs": str(result.best_epochs),
        "steps": result.optimiser_steps,
        "fit_rows": int(fit.sum()),
    }
    return z, info


def test_dates(panel: Panel, test: str) -> np.ndarray:
    """Positions of the dates of a five-year window."""
    years = panel.dates.year
    return np.flatnonzero((years >= int(test)) & (years < int(test) + 5))


def report(panel: Panel, results: list[Path]) -> str:
    """Markdown: Sharpe ratios with errors of every variant and rule, by cost and period."""
    frames = pd.concat([pd.read_parquet(path) for path in results], ignore_index=True)
    start = int(np.flatnonzero(panel.dates.year >= int(TESTS[0]))[0])
    dates = panel.dates[start:]
    paths: dict[str, tuple[np.ndarray, PositionConfig]] = {
        name: (rule(panel.close)[start:], RAW) for name, rule in BASELINES.items()
    }
    for name, frame in frames.groupby("variant", sort=False):
        wide = frame.pivot(index="date", columns="symbol", values="z")
        raw = wide.reindex(index=dates, columns=list(panel.symbols)).to_numpy(dtype=float)
        paths[str(name)] = (raw, VARIANTS[str(name)].positions)
    parts = {n: _table(panel, raw, config, start) for n, (raw, config) in paths.items()}
    runs = frames.drop_duplicates(["variant", "test"]).groupby("variant", sort=False)
    return "\n\n".join(
        [
            "Sharpe at 0 / 1 / 3 / 5 bps of traded weight, ± its error at 0",
            pd.DataFrame({n: part[0] for n, part in parts.items()}).T.to_markdown(),
            "All windows, costs by instrument, scaled ex post to 15 % volatility",
            pd.DataFrame({n: part[1] for n, part in parts.items() if part[1]}).T.to_markdown(),
            "\n".join(f"- `{n}`: {VARIANTS[n].what}" for n in paths if n in VARIANTS),
            runs.agg(windows=("test", "count"), steps=("steps", "sum"), seconds=("seconds", "sum"))
            .round(0)
            .to_markdown(),
        ]
    )


def traded(
    panel: Panel, raw: np.ndarray, config: PositionConfig, start: int, stop: int | None = None
) -> tuple[np.ndarray, np.ndarray, slice]:
    """Weights and labels [date, asset] of the dates from ``start`` on, and which those are.

    The newest decisions, which have no label yet, are left out.
    """
    close = panel.close[:stop]
    active = pd.DataFrame(np.isfinite(close)).rolling(ACTIVE_SESSIONS, min_periods=1).max()
    inside = slice(start, len(close) - LABEL_LAG_SESSIONS)
    n = inside.stop - start
    weights = portfolio_weights(
        walk_positions(raw, config)[:n], panel.sigma[inside],
        active.sum(axis=1).to_numpy()[inside], config,
    )  # fmt: skip
    return weights, label_returns(close)[inside], inside


def _table(
    panel: Panel, raw: np.ndarray, config: PositionConfig, start: int
) -> tuple[dict[str, str], dict[str, str]]:
    """Figures by period and flat cost; figures of all windows, or nothing if some are missing."""
    weights, labels, inside = traded(panel, raw, config, start)
    dates = panel.dates[inside]
    answered = dates[np.isfinite(raw[: len(dates)]).any(axis=1)].year

    def net(rate: np.ndarray) -> np.ndarray:
        return portfolio_returns(weights, labels, np.nan_to_num(rate)).net

    by_bps = [net(np.full_like(labels, bps / 1e4)) for bps in BPS]
    by_period = {}
    for name, (first, last) in PERIODS.items():
        period = (dates.year >= first) & (dates.year <= last)
        ratios = " / ".join(f"{sharpe_ann(r[period]):.2f}" for r in by_bps)
        walked = answered.min() <= first and answered.max() >= last
        by_period[name] = f"{ratios} ± {sharpe_se_ann(by_bps[0][period]):.2f}" if walked else "–"
    if by_period["1995–2021"] == "–":
        return by_period, {}
    own = net(panel.cost_rate[inside])
    scaled = own * VOLATILITY_SHOWN / vol_ann(own)
    turnover = portfolio_returns(weights, labels, np.zeros_like(labels)).turnover
    return by_period, {
        "Sharpe ± SE": f"{sharpe_ann(own):.2f} ± {sharpe_se_ann(own):.2f}",
        "return a year": f"{scaled.mean() * TRADING_DAYS_PER_YEAR:.1%}",
        "largest drawdown": f"{max_drawdown(scaled):.0%}",
        "turnover a day": f"{turnover.mean():.3f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sub = parser.add_subparsers(dest="action", required=True)
    step = sub.add_parser("prepare")
    for name in ("bars", "instruments", "target"):
        step.add_argument(name, type=Path)
    step = sub.add_parser("train")
    step.add_argument("panel", type=Path)
    step.add_argument("target", type=Path)
    step.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    step.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    step.add_argument("--epochs", type=int, default=30)
    step.add_argument("--seeds", type=int, default=3)
    step.add_argument("--threads", type=int, default=2)
    step.add_argument("--tests", nargs="+", choices=TESTS, default=list(TESTS))
    step.add_argument("--batch-size", type=int, default=64)
    step.add_argument("--shrunk", action="store_true", help=f"paper() with {SHRUNK}")
    step = sub.add_parser("report")
    step.add_argument("panel", type=Path)
    step.add_argument("results", type=Path, nargs="+")
    given = parser.parse_args()
    if given.action == "prepare":
        prepare(given.bars, given.instruments, given.target)
    elif given.action == "train":
        train(
            Panel.read(given.panel), given.variants, given.target, device=given.device,
            epochs=given.epochs, seeds=given.seeds, threads=given.threads,
            changes={"batch_size": given.batch_size}, tests=tuple(given.tests),
            model=SHRUNK if given.shrunk else {},
        )  # fmt: skip
    else:
        print(report(Panel.read(given.panel), given.results))


if __name__ == "__main__":
    main()
