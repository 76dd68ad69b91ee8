"""Commands about what was published: ``nightly``, ``signals``, ``track``."""

from argparse import Namespace
from dataclasses import asdict

import pandas as pd

from tft_core.cli.answer import Answer, table
from tft_core.config import load_settings
from tft_core.errors import ConfigError, DataError, first_few
from tft_core.schema import finite_or_none
from tft_core.strategy.ledger import Ledger


def nightly(arguments: Namespace) -> Answer:
    """Infer and publish every closed session that is due; exit code 1 while bars are missing."""
    from tft_core.training_pipeline import Workspace
    from tft_core.training_pipeline.nightly import run_nightly

    report = run_nightly(Workspace.open(load_settings()))
    data = {
        "closed": report.closed.isoformat(),
        "done": list(report.done),
        "without_bars": [d.isoformat() for d in report.without_bars],
    }
    return Answer(data, report.text(), exit_code=1 if report.is_waiting else 0)


def signals(arguments: Namespace) -> Answer:
    """Show, export or verify the ledger."""
    settings = load_settings()
    if not settings.ledger_path.exists():
        raise DataError(
            f"a ledger must exist, found none at {settings.ledger_path}; run `tft nightly`"
        )
    with Ledger(settings.ledger_path) as ledger:
        if arguments.action == "export":
            if arguments.path is None:
                raise ConfigError(
                    "`tft signals export` must be given a file, found none; "
                    "name a .csv or .parquet path"
                )
            target = ledger.export(arguments.path, revision=arguments.revision)
            return Answer({"path": str(target)}, f"wrote {target}")
        if arguments.action == "verify":
            problems = ledger.verify()
            text = "\n".join(problems) or f"{ledger.path}: every publication is as it was written"
            return Answer({"problems": problems}, text, exit_code=1 if problems else 0)
        frame = ledger.signals(
            start=arguments.start, end=arguments.end, revision=arguments.revision
        )
    shown = frame.drop(columns=["metadata", "strike", "expiry"])
    text = table(shown) if len(shown) else "no signals in that span"
    return Answer(frame.to_dict(orient="records"), text)


def track(arguments: Namespace) -> Answer:
    """Published signals against the walk-forward band; exit code 1 outside of it."""
    from tft_core.training_pipeline import Workspace
    from tft_core.training_pipeline.tracking import track_published

    report = track_published(
        Workspace.open(load_settings()),
        n_sessions=arguments.sessions,
        fills=_fills(arguments.fills),
        level=arguments.level,
    )
    rows = [{**asdict(t), "verdict": t.verdict} for t in report.tracked]
    frame = pd.DataFrame(rows).set_index("name")
    span = f"{report.first} to {report.last}" if report.first else "nothing published live yet"
    slippage = finite_or_none(report.fill_slippage_bps)
    text = (
        f"published sessions: {span}, {len(report.daily)} of them realised\n"
        f"{table(frame, digits=6)}\n"
        "fill slippage: "
        + ("unknown (give --fills)" if slippage is None else f"{slippage:.2f} bps of traded size")
    )
    if report.late:
        named = first_few([day.isoformat() for day in report.late])
        text += (
            f"\nlate: {len(report.late)} sessions ({named}) were published after the close at "
            "which they count as entered; nobody can have traded them so"
        )
    for alarm in report.alarms:
        text += f"\nALARM: {alarm.name} {alarm.value:.2e} lies outside its band"
    data = {
        "figures": [
            {k: finite_or_none(v) if isinstance(v, float) else v for k, v in row.items()}
            for row in rows
        ],
        "fill_slippage_bps": slippage,
        "first": report.first,
        "last": report.last,
        "late": list(report.late),
    }
    return Answer(data, text, exit_code=1 if report.alarms else 0)


def _fills(path: str | None) -> pd.DataFrame | None:
    if path is None:
        return None
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' own and bad UTF-8 are ValueErrors
        raise DataError(
            f"--fills must be a CSV file, found {path}: {error}; correct the path or the file"
        ) from error
