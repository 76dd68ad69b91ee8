"""Commands about models: ``run``, ``predict``, ``checkpoints``, ``doctor``."""

from argparse import Namespace
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import tomlkit

from tft_core.checkpoint_manager import CheckpointManager
from tft_core.checkpoint_manager.atomic import replace_file
from tft_core.cli.answer import Answer, table
from tft_core.cli.progress import progress_bar
from tft_core.config import Settings, load_settings
from tft_core.data.calendar import horizon_notice
from tft_core.data.store import MarketDataStore
from tft_core.errors import ConfigError, UnknownSymbolError
from tft_core.folds import FoldConfig, windows_begun
from tft_core.inference import OK, ServingConfig, TFTInferencePipeline
from tft_core.schema import MODEL_TYPE, canonical_json

if TYPE_CHECKING:  # the pipeline takes seconds to import; most commands don't need it
    from tft_core.training_pipeline import Workspace


def run(arguments: Namespace) -> Answer:
    """All phases in this process, with a progress bar on a terminal."""
    from tft_core.training_pipeline import TrainingPipeline, TrainingPipelineConfig

    pipeline = TrainingPipeline(
        TrainingPipelineConfig(
            skip_tuning=arguments.skip_tuning,
            skip_feature_selection=arguments.skip_feature_selection,
            start=arguments.start,
            end=arguments.end,
        )
    )
    if arguments.dry_run:
        pending = [f"{asset}/{key}" for asset, key in pipeline.pending()]
        return Answer({"pending": pending}, "\n".join(pending) or "nothing is missing or stale")
    with progress_bar("tft run", unit="step") as show:
        result = pipeline.run(show, workers=arguments.workers, force_reason=arguments.force)
    data = {
        "checkpoint_path": str(result.checkpoint_path),
        "promoted": result.promoted,
        "gate": result.gate,
        "n_features": [
            result.n_features_initial,
            result.n_features_prefiltered,
            result.n_features_final,
        ],
        "sharpe_oos": result.sharpe_oos,
        "total_return_oos": result.total_return_oos,
        "max_drawdown_oos": result.max_drawdown_oos,
        "report": str(result.report_path),
        "elapsed_seconds": result.elapsed_seconds,
        "phase_seconds": result.phase_seconds,
        "built": list(result.built),
    }
    sharpe = "undefined" if result.sharpe_oos is None else f"{result.sharpe_oos:.2f}"
    text = (
        f"{'promoted' if result.promoted else 'kept, not promoted'}: {result.checkpoint_path}\n"
        f"features {result.n_features_initial} → {result.n_features_prefiltered} → "
        f"{result.n_features_final}; out-of-sample Sharpe net {sharpe}\n"
        f"report: {result.report_path}\n"
        f"built {len(result.built)} artifacts in {result.elapsed_seconds:.0f} s"
    )
    return Answer(data, text)


def predict(arguments: Namespace) -> Answer:
    """A position, or the reason for none, of every symbol on one session."""
    from tft_core.training_pipeline import Workspace
    from tft_core.training_pipeline.phases.serving import previous_held, session_before

    settings = load_settings()
    workspace = Workspace.open(settings)
    pipeline, is_promoted = _pipeline(arguments.checkpoint, arguments.date, workspace)
    with MarketDataStore(settings.store_path, read_only=True) as store:
        known = set(store.symbols()) | set(pipeline.metadata.asset_names)
        unknown = sorted(set(arguments.symbols or ()) - known)
        if unknown:
            raise UnknownSymbolError(
                f"--symbols must be in the store or the model, found {unknown[0]!r}; "
                f"known: {', '.join(sorted(known)[:8])}, …"
            )
        before = session_before(workspace, store, arguments.date, is_promoted)
        previous = previous_held(workspace, before, pipeline.metadata.fold, is_promoted)
        result = pipeline.predict(arguments.date, store, previous=previous)
    wanted = set(arguments.symbols or result.status)
    data = {**result.to_dict(), "is_promoted": is_promoted}
    for name in ("positions", "confidences", "feature_importance", "raw_output", "status"):
        data[name] = {s: v for s, v in data[name].items() if s in wanted}
    frame = pd.DataFrame(
        {
            "position": pd.Series(result.positions, dtype=float),
            "confidence": pd.Series(result.confidences, dtype=float),
            "status": pd.Series(result.status),
        }
    )
    text = table(frame.loc[sorted(wanted & set(frame.index))])
    if any(result.status[s] != OK for s in wanted & set(result.status)):
        text += f"\n{result.why_no_trade(wanted)}"
    if not is_promoted:
        text += "\nnot promoted: this model was not in production on that session"
    return Answer(data, text)


def checkpoints(arguments: Namespace) -> Answer:
    """List, show, verify, promote or roll back versions of the registry."""
    settings = load_settings()
    manager = CheckpointManager(settings.checkpoints_dir)
    if arguments.action == "list":
        rows = manager.list_checkpoints()
        frame = pd.DataFrame(rows)
        return Answer(rows, table(frame) if rows else "no checkpoints yet; run `tft run`")
    if arguments.action == "rollback":
        path = manager.rollback(_reason(arguments))
        return Answer({"production": str(path)}, f"production is now {path}")
    if arguments.version is None:
        raise ConfigError(
            f"`tft checkpoints {arguments.action}` must name a version, found none; see `list`"
        )
    path = manager.path_of(arguments.version, MODEL_TYPE)
    if arguments.action == "promote":
        # a person's decision with a stated reason may overrule the gate; the record says so
        manager.promote(path, _reason(arguments), override=True)
        return Answer({"production": str(path)}, f"production is now {path}")
    if arguments.action == "verify":
        problems = manager.verify(path)
        text = "\n".join(problems) or f"{path}: every file is as it was written"
        return Answer({"problems": problems}, text, exit_code=1 if problems else 0)
    _, metadata = manager.load(path)
    data: dict[str, Any] = asdict(metadata)
    return Answer(data, canonical_json(data))


def doctor(arguments: Namespace) -> Answer:
    """What is missing, stale or due: configuration, store, windows, checkpoint."""
    from tft_core.training_pipeline.configured import require_usable

    settings = load_settings()
    require_usable(settings)
    lines, due = [f"configuration: {settings.path}, profile {settings.profile}"], []
    config = settings.build(FoldConfig, "folds")
    if not settings.store_path.exists():
        due.append("the store is empty: run `tft sample` or `tft ingest PATH`")
    else:
        with MarketDataStore(settings.store_path, read_only=True) as store:
            newest = store.last_session()
            exchanges = sorted(set(store.instruments()["exchange"]) - {""})
        lines.append(f"store: {settings.store_path}, newest session {newest}")
        notices = {horizon_notice(exchange, date.today()) for exchange in exchanges}
        due += sorted(notice for notice in notices if notice is not None)
        begun = windows_begun(config, newest)
        if begun > config.n_windows and arguments.fix:
            _write_windows(settings, begun)
            lines.append(f"folds: n_windows {config.n_windows} → {begun} written")
        elif begun > config.n_windows:
            due.append(
                f"{begun - config.n_windows} test windows have begun since: `tft doctor --fix` "
                f"sets folds.n_windows = {begun}"
            )
        elif begun < config.n_windows:
            due.append(
                f"the running window starts after the newest bar: folds.n_windows must be "
                f"{begun}, found {config.n_windows}"
            )
    manager = CheckpointManager(settings.checkpoints_dir)
    rows = manager.list_checkpoints(MODEL_TYPE)
    if not rows:
        due.append("no checkpoint yet: run `tft run`")
    else:
        lines.append(f"checkpoints: {len(rows)}, newest {rows[-1]['path']}")
    text = "\n".join([*lines, *(f"due: {item}" for item in due)])
    return Answer({"facts": lines, "due": due}, text, exit_code=1 if due else 0)


def _write_windows(settings: Settings, n_windows: int) -> None:
    assert settings.path is not None
    document = tomlkit.parse(settings.path.read_text("utf-8"))
    overlay = document["profile"][settings.profile].get("folds", {})
    section = overlay if "n_windows" in overlay else document["folds"]
    section["n_windows"] = n_windows
    replace_file(settings.path.resolve(), tomlkit.dumps(document).encode("utf-8"))


def _pipeline(
    checkpoint: str | None, session: date, workspace: "Workspace"
) -> tuple[TFTInferencePipeline, bool]:
    """The named checkpoint, else the session's: in production then, or its fold's."""
    settings = workspace.settings
    if checkpoint is None:
        from tft_core.training_pipeline.phases.serving import model_of_session

        path, is_promoted = model_of_session(workspace, session)
    else:
        manager = CheckpointManager(settings.checkpoints_dir)
        is_number = checkpoint.isdigit()
        path = manager.path_of(int(checkpoint), MODEL_TYPE) if is_number else Path(checkpoint)
        is_promoted = manager.production_on(session, MODEL_TYPE) == path
    serving = settings.build(ServingConfig, "serving")
    pipeline = TFTInferencePipeline.from_checkpoint(path, serving=serving, home=settings.home)
    return pipeline, is_promoted


def _reason(arguments: Namespace) -> str:
    if not arguments.reason:
        raise ConfigError(
            f"`tft checkpoints {arguments.action}` must be given a reason, found none; "
            "add --reason TEXT"
        )
    return arguments.reason
