"""Runs the ``live_fold`` job of some folds, in turn, under the executor in ``$TFT_EXECUTOR``.

``python run_folds.py KEY... [--assets NAME,NAME]``. A program of its own, since executors start
their processes from its environment; ``$FOLDS_LOCATION`` is a module beside it that has ``defs``.
"""

import argparse
import importlib
import os
import sys

import dagster as dg


def live_fold() -> dg.JobDefinition:
    """The job, as each step's process makes it again."""
    return importlib.import_module(os.environ["FOLDS_LOCATION"]).defs.resolve_job_def("live_fold")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("keys", nargs="+")
    parser.add_argument("--assets", type=lambda text: text.split(","))
    arguments = parser.parse_args()
    chosen = arguments.assets and [dg.AssetKey(name) for name in arguments.assets]
    with dg.DagsterInstance.get() as instance:
        for key in arguments.keys:
            with dg.execute_job(
                dg.reconstructable(live_fold),
                instance,
                tags={"dagster/partition": key},
                asset_selection=chosen,
            ) as result:
                if not result.success:
                    return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
