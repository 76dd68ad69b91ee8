"""``make run``: the main job on the bundled real sample, through Dagster, in one process.

Loads the sample, materializes ``production_checkpoint`` (which builds all that is missing),
runs inference and signals for the sample's newest session, and prints what a person wants
to know next.
"""

import logging
import os
import sys
import time
from datetime import date
from pathlib import Path

import dagster as dg
import pandas as pd

from tft_assets.definitions import defs
from tft_core.cli.answer import table
from tft_core.config import load_settings
from tft_core.data.sample import load_sample
from tft_core.data.store import MarketDataStore
from tft_core.errors import TftError
from tft_core.training_pipeline import Workspace
from tft_core.training_pipeline.graph import UNPARTITIONED_KEY

N_SESSIONS = 5
"""Smoothing starts flat, so no first session can reach the conviction threshold."""


def main() -> int:
    """Run the demonstration; returns the exit code."""
    if not os.environ.get("DAGSTER_HOME"):
        print("demo: $DAGSTER_HOME must be set; use `make run`", file=sys.stderr)
        return 2
    started = time.perf_counter()
    try:
        return _run(started)
    except TftError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def _run(started: float) -> int:
    settings = load_settings()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with MarketDataStore(settings.store_path) as store:
        report = load_sample(store)
        session = store.last_session()
        sessions = [d.date() for d in store.session_dates(None, None, session)[-N_SESSIONS:]]
    print(f"sample: {report.rows_in} rows, newest session {session}", flush=True)
    _quiet()
    with dg.DagsterInstance.get() as instance:
        if not _materialize(instance, ["production_checkpoint"], None):
            print("demo: the build failed; its runs are in the UI (`make ui`)", file=sys.stderr)
            return 1
        print(f"built in {time.perf_counter() - started:.0f} s", flush=True)
        print(f"inference and signals of the last {len(sessions)} sessions", flush=True)
        served = all(
            _materialize(instance, ["inference", "strategy_signals"], day) for day in sessions
        )
    if not served:
        print("demo: inference failed; its run is in the UI (`make ui`)", file=sys.stderr)
        return 1
    _report(Workspace.open(settings), session)
    print(f"\nall of it took {time.perf_counter() - started:.0f} s")
    return 0


def _quiet() -> None:
    """Events of the runs are in the UI; the terminal shows what is being built."""
    logging.getLogger("dagster").setLevel(logging.WARNING)


def _materialize(instance: dg.DagsterInstance, assets: list[str], session: date | None) -> bool:
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey(name) for name in assets],
        partition_key=None if session is None else session.isoformat(),
        instance=instance,
        raise_on_error=False,
    )
    return result.success


def _report(workspace: Workspace, session: date) -> None:
    checkpoint = workspace.artifacts.read("production_checkpoint", UNPARTITIONED_KEY)
    signals = workspace.artifacts.read("strategy_signals", session.isoformat())
    summary = checkpoint.summary
    print(f"\ncheckpoint   {summary['checkpoint']}")
    print(f"gate         {summary['gate']}: {summary['gate_reasons']}")
    print(f"promoted     {'yes' if summary['promoted'] else 'no'}")
    metrics = checkpoint.frame("table_metrics.parquet").set_index("path")
    print("\nout of sample, net of costs (the shipped path against its parts and the baselines)")
    print(table(metrics))
    print(f"\nsignals of {session}" + _mark(bool(signals.summary["published"])))
    frame: pd.DataFrame = signals.frame("table_signals.parquet")
    print(table(frame.set_index("symbol")) if len(frame) else "none: no conviction is large enough")
    print(f"\nreport       {_short(checkpoint.file('tear_sheet.html'))}")
    print("the UI       make ui, then open http://127.0.0.1:3000")


def _mark(published: bool) -> str:
    if published:
        return ""
    return " (preview, not promoted: nothing was written to the ledger)"


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    sys.exit(main())
