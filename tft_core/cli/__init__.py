"""The ``tft`` command: arguments, exit codes, and one place where errors become one line.

Exit code 0: done. 1: refused or failed, with the reason. 2: the command line itself is wrong.
"""

import argparse
import json
import logging
import os
import sys
import uuid
from collections.abc import Sequence
from datetime import date
from typing import Any

from tft_core.cli import (
    ablation_command,
    data_commands,
    model_commands,
    page_commands,
    signal_commands,
    state_commands,
)
from tft_core.errors import ConfigError, FoldError, TftError, UnknownSymbolError
from tft_core.logs import log_context
from tft_core.upkeep.pages import DEFAULT_HOST, DEFAULT_PORT

USAGE_ERRORS = (ConfigError, FoldError, UnknownSymbolError)
"""What the caller asked for does not exist; exit code 2 like a wrong argument."""

EXAMPLES = """examples:
  tft sample                          load the bundled real data into the store
  tft ingest bars.parquet             load your own bars; every row is accounted for
  tft init --data bars.parquet        write a tft.toml whose folds fit your data
  tft run --skip-tuning               all phases in this process, without Dagster
  tft predict 2026-10-30 --json       a position or a reason for every symbol
  tft nightly                         publish every closed session that is due
  tft track                           published signals against the walk-forward band
  tft pages                           serve the reports that the Dagster UI links to
  tft backup state.tar                all state in one file, made while everything runs
  tft checkpoints list                what the registry holds
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.WARNING,
        format="%(asctime)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        with log_context(run=uuid.uuid4().hex):
            answer = arguments.command(arguments)
    except TftError as error:
        if arguments.json:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        print(f"tft: {error}", file=sys.stderr)
        return 2 if isinstance(error, USAGE_ERRORS) else 1
    except KeyboardInterrupt:
        print("tft: stopped; what was finished is kept, run the command again", file=sys.stderr)
        return 130
    _say(json.dumps(answer.data, default=str, allow_nan=False) if arguments.json else answer.text)
    return answer.exit_code


def _say(text: str) -> None:
    """Print an answer; a reader that has seen enough (``tft … | head``) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # what is still buffered has no reader either: Python's exit must not try it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser() -> argparse.ArgumentParser:
    """The command line: each command's arguments, and the function that answers it."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="answer as one JSON value")
    common.add_argument("--verbose", action="store_true", help="log what is being done")
    parser = argparse.ArgumentParser(
        prog="tft",
        description="The lifecycle of a TFT/X-Trend trend-following model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: Any, text: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            parents=[common],
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example: {example}",
        )
        sub.set_defaults(command=function)
        return sub

    sub = add("init", data_commands.init, "write a tft.toml", "tft init --data bars.parquet")
    sub.add_argument("--data", help="propose universe and folds that fit this file")
    sub.add_argument("--instruments", help="CSV: symbol, asset_class, exchange, cost_bps, …")
    sub.add_argument("--output", default="tft.toml", help="file to write (default: tft.toml)")
    sub.add_argument("--force", action="store_true", help="replace an existing file")

    add("sample", data_commands.sample, "load the bundled real data", "tft sample")

    sub = add("ingest", data_commands.ingest, "load bars from a file", "tft ingest bars.csv")
    sub.add_argument("path", help="Parquet or CSV in long form")
    sub.add_argument(
        "--series",
        action="store_true",
        help="values of exogenous series (name, date, value, available_at), not bars",
    )
    sub.add_argument("--instruments", help="CSV: symbol, asset_class, exchange, cost_bps, …")

    sub = add("quality", data_commands.quality, "write a page about the bars", "tft quality")
    sub.add_argument("--symbols", nargs="+", help="these symbols only")
    sub.add_argument("--output", help="file to write (default: reports/data_quality.html)")

    sub = add("run", model_commands.run, "run all phases without Dagster", "tft run --skip-tuning")
    sub.add_argument("--skip-tuning", action="store_true", help="ship the default parameters")
    sub.add_argument(
        "--workers", type=int, default=1, metavar="N", help="artifacts built at a time (default 1)"
    )
    sub.add_argument(
        "--skip-feature-selection", action="store_true", help="train on the pre-filtered features"
    )
    sub.add_argument("--start", type=_day, help="first day of history to use")
    sub.add_argument("--end", type=_day, help="newest day to use")
    sub.add_argument("--dry-run", action="store_true", help="list what would be built")
    sub.add_argument(
        "--force", metavar="REASON", help="promote though the gate refuses; the reason is recorded"
    )

    sub = add(
        "ablation",
        ablation_command.ablation,
        "compare top, random and all features on inner folds",
        "tft ablation live --sizes 60 80",
    )
    sub.add_argument("fold", nargs="?", help="fold whose training window is used (default: live)")
    sub.add_argument(
        "--sizes", type=_count, nargs="+", default=[60, 80], help="numbers of features to cut to"
    )
    sub.add_argument("--draws", type=_count, default=3, help="random sets of each size (default 3)")
    sub.add_argument("--seeds", type=_count, default=2, help="seeds of every set (default 2)")

    sub = add("predict", model_commands.predict, "predict one session", "tft predict 2026-10-30")
    sub.add_argument("date", type=_day, help="the session, e.g. 2026-10-30")
    sub.add_argument("--checkpoint", help="directory or version; default: the session's own")
    sub.add_argument("--symbols", nargs="+", help="answer for these symbols only")

    sub = add(
        "checkpoints", model_commands.checkpoints, "look after the registry", "tft checkpoints list"
    )
    sub.add_argument("action", choices=("list", "show", "verify", "promote", "rollback"))
    sub.add_argument("version", nargs="?", type=int, help="version number")
    sub.add_argument("--reason", help="why (promote, rollback)")

    sub = add("pages", page_commands.pages, "serve the reports that the UI links to", "tft pages")
    sub.add_argument("--host", default=DEFAULT_HOST, help=f"address (default: {DEFAULT_HOST})")
    sub.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"port (default: {DEFAULT_PORT})"
    )

    sub = add("backup", state_commands.backup, "write all state into one file", "tft backup b.tar")
    sub.add_argument("path", help="file to write; it must not exist")
    sub.add_argument("--dagster-home", help="Dagster's storage (default: $DAGSTER_HOME)")

    sub = add("restore", state_commands.restored, "put a backup back", "tft restore b.tar")
    sub.add_argument("path", help="file that `tft backup` wrote")
    sub.add_argument("--dagster-home", help="Dagster's storage (default: $DAGSTER_HOME)")
    sub.add_argument("--dry-run", action="store_true", help="verify it, restore nothing")

    sub = add("gc", state_commands.gc, "remove what nothing refers to any more", "tft gc --dry-run")
    sub.add_argument("--days", type=float, default=7.0, help="artifacts older than this (7)")
    sub.add_argument("--keep", type=int, default=3, help="checkpoints of each fold to keep (3)")
    sub.add_argument("--dry-run", action="store_true", help="list, remove nothing")

    sub = add(
        "migrate",
        state_commands.migrated,
        "bring state of older code up to date",
        "tft migrate --dry-run",
    )
    sub.add_argument("--dry-run", action="store_true", help="list, change nothing")

    add(
        "nightly",
        signal_commands.nightly,
        "publish every closed session that is due",
        "tft nightly",
    )

    sub = add(
        "signals", signal_commands.signals, "look into the ledger", "tft signals export s.parquet"
    )
    sub.add_argument("action", choices=("list", "export", "verify"))
    sub.add_argument("path", nargs="?", help="file to write (export): .csv or .parquet")
    sub.add_argument("--revision", choices=("latest", "first", "all"), default="latest")
    sub.add_argument("--start", type=_day, help="first session (list)")
    sub.add_argument("--end", type=_day, help="last session (list)")

    sub = add(
        "track", signal_commands.track, "hold published signals against the record", "tft track"
    )
    sub.add_argument("--sessions", type=_count, help="newest published sessions (default: all)")
    sub.add_argument("--fills", help="CSV: session, symbol, price of your own trades")
    sub.add_argument("--level", type=float, default=0.99, help="width of the band (default: 0.99)")

    sub = add("audit", data_commands.audit, "audit every feature for look-ahead", "tft audit")
    sub.add_argument("--symbols", nargs="+", help="sample from these symbols (default: all)")
    sub.add_argument("--cuts", type=int, default=20, help="dates to cut history at (default: 20)")
    sub.add_argument("--assets", type=int, default=10, help="symbols at each cut (default: 10)")

    sub = add("doctor", model_commands.doctor, "say what is missing or due", "tft doctor --fix")
    sub.add_argument("--fix", action="store_true", help="append windows that have begun")
    return parser


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be an ISO date such as 2026-10-30, found {text!r}"
        ) from error


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number of at least 1, found {text!r}")
    return int(text)
