"""The five phases in one process without Dagster: what ``tft run`` calls.

It walks the same graph and stores the same artifacts as Dagster does, builds only what is
missing or stale, and can be stopped and started again at any point.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tft_core.config import Settings, load_settings
from tft_core.errors import ConfigError
from tft_core.schema import LIVE_FOLD, content_hash
from tft_core.training_pipeline.artifacts import Artifact, open_artifacts
from tft_core.training_pipeline.config import TrainingPipelineConfig
from tft_core.training_pipeline.configured import require_usable
from tft_core.training_pipeline.graph import UNPARTITIONED_KEY
from tft_core.training_pipeline.parallel import Pair, build_in_turn, build_side_by_side
from tft_core.training_pipeline.workspace import Workspace

PHASE_OF = {
    "market_data": "1 pre-filter",
    "mega_features": "1 pre-filter",
    "prefiltered_features": "1 pre-filter",
    "exploration_fold": "2 exploration",
    "vsn_stability_report": "3 feature pruning",
    "optuna_study": "4 tuning",
    "production_fold": "5 production",
    "out_of_sample": "5 production",
    "production_checkpoint": "5 production",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What one run of the whole lifecycle produced."""

    checkpoint_path: Path
    promoted: bool
    gate: dict[str, Any]
    """Verdict and reasons of the gate."""
    feature_report: dict[str, Any]
    """The live fold's stability report."""
    tuning_result: dict[str, Any]
    """The live fold's study: best and default parameters, budget."""
    n_features_initial: int
    n_features_prefiltered: int
    n_features_final: int
    sharpe_oos: float | None
    total_return_oos: float | None
    max_drawdown_oos: float | None
    report_path: Path
    elapsed_seconds: float
    phase_seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of the builds of each phase, those of parallel builds added up."""
    built: tuple[str, ...] = ()
    """``asset/key`` of what was missing or stale and therefore built."""


class TrainingPipeline:
    """Runs the lifecycle of one configuration.

    Args:
        config: Toggles of the plan. A run with a toggle keeps its artifacts apart from the
            full lifecycle's, so that neither makes the other stale.
        settings: Default: the ``tft.toml`` that ``load_settings`` finds.
    """

    def __init__(
        self,
        config: TrainingPipelineConfig | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.config = config or TrainingPipelineConfig()
        self.workspace = open_toggled(settings or load_settings(), self.config)

    def pending(self) -> list[tuple[str, str]]:
        """(asset, key) pairs that are missing or stale now, upstream first.

        A pair whose upstream is pending is listed too, though the upstream may turn out the
        same and spare it.
        """
        stale: set[tuple[str, str]] = set()
        for pair in self.workspace.lifecycle():
            upstream = self.workspace.upstream(*pair)
            if not self.workspace.is_fresh(*pair) or any(u in stale for u in upstream):
                stale.add(pair)
        return [pair for pair in self.workspace.lifecycle() if pair in stale]

    def run(
        self,
        progress: Callable[[str, int, int], None] | None = None,
        *,
        workers: int = 1,
        force_reason: str | None = None,
    ) -> TrainingResult:
        """Build what is missing or stale, then gate and promote.

        Args:
            progress: Called with a line, the number of steps done and their total.
            workers: Artifacts built at a time; more than one build in processes of their
                own. The result is the same to the bit.
            force_reason: Promote the candidate although the gate refuses it, for this reason,
                which the registry records.

        Raises:
            ConfigError: A section of the settings cannot be used, whichever phase reads it.
        """
        if force_reason is not None and not force_reason.strip():
            raise ConfigError("a forced promotion must have a reason, found an empty one")
        if workers < 1:
            raise ConfigError(f"workers must be at least 1, found {workers}")
        require_usable(self.workspace.settings)
        log = _RunLog(len(self.workspace.lifecycle()), progress)
        if workers == 1:
            build_in_turn(self.workspace, log)
        else:
            build_side_by_side(self.workspace, log, workers)
        if force_reason is not None:
            self._force(force_reason)
        log.show("done")
        return self._result(log)

    def _force(self, reason: str) -> None:
        """Judge the candidate again, this time promoting it whatever the gate says."""
        checkpoint = self.workspace.artifacts.read("production_checkpoint", UNPARTITIONED_KEY)
        if not checkpoint.json("verdict.json")["promoted"]:
            overrides = {"force_reason": reason}
            self.workspace.build("production_checkpoint", UNPARTITIONED_KEY, overrides)

    def _result(self, log: "_RunLog") -> TrainingResult:
        read = self.workspace.artifacts.read
        checkpoint = read("production_checkpoint", UNPARTITIONED_KEY)
        stability = read("vsn_stability_report", LIVE_FOLD)
        prefiltered = read("prefiltered_features", LIVE_FOLD)
        verdict = checkpoint.json("verdict.json")
        return TrainingResult(
            checkpoint_path=checkpoint_path(self.workspace, checkpoint),
            promoted=bool(verdict["promoted"]),
            gate=verdict["gate"],
            feature_report=stability.json("report.json"),
            tuning_result=read("optuna_study", LIVE_FOLD).json("study.json"),
            n_features_initial=int(prefiltered.summary["n_features"]),
            n_features_prefiltered=int(prefiltered.summary["n_kept"]),
            n_features_final=int(stability.summary["n_recommended"]),
            sharpe_oos=verdict["figures"]["sharpe_net"],
            total_return_oos=verdict["figures"]["return_total"],
            max_drawdown_oos=verdict["figures"]["max_drawdown"],
            report_path=checkpoint.file("tear_sheet.html"),
            elapsed_seconds=time.perf_counter() - log.began,
            phase_seconds=log.seconds,
            built=tuple(log.names),
        )


class _RunLog:
    """Counts what a run builds, and shows it."""

    def __init__(self, total: int, progress: Callable[[str, int, int], None] | None) -> None:
        self.began, self.total, self.progress = time.perf_counter(), total, progress
        self.done = 0
        self.seconds: dict[str, float] = {}
        self.names: list[str] = []

    def show(self, line: str) -> None:
        if self.progress is not None:
            self.progress(line, self.done, self.total)

    def started(self, pair: Pair) -> None:
        self.show(f"{PHASE_OF[pair[0]]}: {'/'.join(pair)}")

    def built(self, pair: Pair, seconds: float) -> None:
        phase = PHASE_OF[pair[0]]
        self.done += 1
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
        self.names.append("/".join(pair))

    def is_fresh(self, pair: Pair) -> None:
        self.done += 1


def checkpoint_path(workspace: Workspace, artifact: Artifact) -> Path:
    """Registry directory of the checkpoint that a ``production_checkpoint`` artifact names."""
    return workspace.registry.root / artifact.json("verdict.json")["checkpoint"]


def open_toggled(settings: Settings, config: TrainingPipelineConfig) -> Workspace:
    """A workspace for a run with the plan's toggles, with artifacts of its own if any is set."""
    if config == TrainingPipelineConfig():
        return Workspace.open(settings)
    if config.start and config.end and config.start >= config.end:
        raise ConfigError(f"start must lie before end, found {config.start} and {config.end}")
    sections = {name: dict(values) for name, values in settings.sections.items()}
    if config.start or config.end:
        store = sections.setdefault("store", {})
        store.update({k: v for k, v in (("start", config.start), ("end", config.end)) if v})
    if config.symbols:
        sections["universe"] = {
            **sections.get("universe", {}),
            "members": [{"symbols": list(config.symbols)}],
        }
    workspace = Workspace.open(replace(settings, sections=sections))
    skip = {
        name
        for name, is_set in (
            ("tuning", config.skip_tuning),
            ("feature_selection", config.skip_feature_selection),
        )
        if is_set
    }
    apart = open_artifacts(settings, toggled=content_hash(config)[:12])
    return replace(workspace, skip=frozenset(skip), artifacts=apart)
