"""The tuner: one resumable study per fold, named after everything that gives it its meaning."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from optuna.trial import TrialState

from tft_core.errors import TuningError
from tft_core.hp_tuner.config import TunerConfig
from tft_core.hp_tuner.objective import Evaluate
from tft_core.hp_tuner.queue import TrialQueue
from tft_core.hp_tuner.result import TuningResult, collect
from tft_core.hp_tuner.space import SearchSpace
from tft_core.hp_tuner.storage import sqlite_file
from tft_core.hp_tuner.workers import Job, open_study, supervise, work
from tft_core.schema import content_hash

Progress = Callable[[int, int | float, float, float], None]
"""``progress(trial_number, n_trials, value, best)``; NaN where pruned or none is complete."""


class HPTuner:
    """Searches for hyper-parameters on inner walk-forward folds.

    One worker and one seed give the same trials, resumed or not, also after a kill. With more
    workers the draws depend on which trials had finished, so the trials differ from run to run.

    Args:
        objective_builder: Makes ``evaluate(params, inner_fold_index, seed)``; called once in
            each worker. With ``n_jobs > 1`` it must be importable.
        storage_url: SQLAlchemy URL, e.g. ``Settings.studies_url``.
        study_name: Readable part of the name, e.g. ``"x_trend-2020-01-01"``.
        defaults: The default configuration, a value for every tunable setting
            (see ``SearchSpace.from_table``).
        identity: What else gives a trial's value its meaning: feature names, data hash, the
            configurations that are not tuned. A change opens a new study.
    """

    def __init__(
        self,
        config: TunerConfig,
        objective_builder: Callable[[], Evaluate],
        storage_url: str,
        study_name: str,
        *,
        defaults: Mapping[str, Any],
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.space = SearchSpace.from_table(config.space, defaults)
        self.storage_url = storage_url
        self.identity = dict(identity or {})
        self.study_name = f"{study_name}-{self._identity_hash()}"
        self._builder = objective_builder

    def tune(self, progress: Progress | None = None) -> TuningResult:
        """Run, or resume, the study until its trials or its time are spent.

        Raises:
            TuningError: No trial came to an end, or a worker failed.
        """
        started = time.monotonic()
        job = self._job(started + self.config.time_limit)
        opened = open_study(job, create=True)
        teller = _Teller(opened.queue, self.config.n_trials, progress)
        if self.config.n_jobs == 1:
            work(job, opened, on_trial=teller.tell)
        else:
            supervise(job, opened.queue, on_poll=teller.tell)
        teller.tell()
        elapsed = time.monotonic() - started
        return collect(opened.study, opened.queue.owners(), self.config, self.space, elapsed)

    def result(self) -> TuningResult:
        """The study as it stands, without running a trial.

        Raises:
            TuningError: The study does not exist or has no complete trial.
        """
        file = sqlite_file(self.storage_url)
        if file is not None and not file.exists():
            raise TuningError(f"study {self.study_name} must exist, found no database at {file}")
        try:
            opened = open_study(self._job(0.0))
        except KeyError as error:
            raise TuningError(
                f"study {self.study_name} must exist in {self.storage_url}, found none; run tune()"
            ) from error
        return collect(opened.study, opened.queue.owners(), self.config, self.space)

    def _job(self, deadline: float) -> Job:
        return Job(
            config=self.config,
            space=self.space,
            builder=self._builder,
            url=self.storage_url,
            study_name=self.study_name,
            deadline=deadline,
        )

    def _identity_hash(self) -> str:
        meaning = {
            "space": self.space.to_dict(),
            "tuning": self.config.identity(),
            "identity": self.identity,
        }
        return content_hash(meaning)[:12]


class _Teller:
    """Calls ``progress`` once for every trial that finished since it last looked."""

    def __init__(self, queue: TrialQueue, n_trials: int | float, progress: Progress | None) -> None:
        self._queue, self._n_trials, self._progress = queue, n_trials, progress
        self._told = {slot for slot, t in queue.owners().items() if t.state.is_finished()}

    def tell(self) -> None:
        if self._progress is None:
            return
        owners = self._queue.owners()
        values = {
            slot: float(trial.value)
            for slot, trial in owners.items()
            if trial.state == TrialState.COMPLETE and trial.value is not None
        }
        for slot in sorted(owners):
            if slot not in self._told and owners[slot].state.is_finished():
                self._told.add(slot)
                best = max(values.values(), default=float("nan"))
                self._progress(slot, self._n_trials, values.get(slot, float("nan")), best)
