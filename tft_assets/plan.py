"""``python -m tft_assets.plan``: the runs to come, with the time each is expected to take.

What ``production_checkpoint`` would build now, and why. Times are those of each asset's newest
materialization in this Dagster instance. Nothing is run.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

import dagster as dg
import pandas as pd

from tft_assets.missing import durations_so_far, needs_and_below
from tft_assets.progress import Durations
from tft_assets.resources import LifecycleWorkspace
from tft_core.cli.answer import table
from tft_core.errors import TftError
from tft_core.training_pipeline.graph import UNPARTITIONED_KEY

CHECKPOINT = "production_checkpoint"


def planned(
    instance: dg.DagsterInstance, defs: dg.Definitions, workspace: LifecycleWorkspace
) -> tuple[pd.DataFrame, Durations]:
    """One row a run: asset, partition, why, whether it is certain, expected seconds (or NaN).

    The checkpoint itself, which is always made, is the last row.
    """
    direct, below = needs_and_below(instance, defs, workspace)
    durations = durations_so_far(instance, (CHECKPOINT,))
    rows = [
        (need.asset, need.key, need.reason, need in direct, durations.expected(need.asset))
        for need in (*direct, *below)
    ]
    rows.append((CHECKPOINT, UNPARTITIONED_KEY, "asked for", True, durations.expected(CHECKPOINT)))
    columns = ["asset", "partition", "why", "certain", "seconds"]
    return pd.DataFrame(rows, columns=columns).astype({"seconds": float}), durations


def main(argv: Sequence[str] | None = None) -> int:
    """Print the plan of the configuration that is in force; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tft_assets.plan", description=__doc__)
    parser.add_argument("--json", action="store_true", help="answer as one JSON value")
    arguments = parser.parse_args(argv)
    if not os.environ.get("DAGSTER_HOME"):
        print("plan: $DAGSTER_HOME must be set, found nothing", file=sys.stderr)
        return 2
    try:
        from tft_assets.build import build_defs
        from tft_core.training_pipeline import Workspace

        with dg.DagsterInstance.get() as instance:
            frame, durations = planned(instance, build_defs(), Workspace.open())
    except TftError as error:
        print(f"plan: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        frame["seconds"] = frame["seconds"].astype(object).where(frame["seconds"].notna(), None)
        print(json.dumps(frame.to_dict("records"), allow_nan=False))
        return 0
    print(table(frame.set_index("asset"), digits=1))
    certain, all_runs = frame.loc[frame["certain"], "asset"], frame["asset"]
    print(f"{len(certain)} runs are certain: {durations.left(certain)}")
    if len(all_runs) > len(certain):
        print(f"at most {len(all_runs)} runs: {durations.left(all_runs)}")
    untimed = sorted(set(frame.loc[frame["seconds"].isna(), "asset"]))
    if untimed:
        print(f"never timed here: {', '.join(untimed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
