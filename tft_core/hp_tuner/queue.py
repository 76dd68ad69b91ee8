"""Hands out the slots of a study so that it ends with exactly as many trials as planned.

A slot is a trial's place in the budget, 0 … n_trials − 1; a trial that lost its worker is
failed and its slot taken up again, parameters and finished folds kept. A slot belongs to its
oldest trial that has not failed. Nothing here evaluates a trial.
"""

import itertools
import math
import time
import warnings
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from tft_core.hp_tuner.objective import DEFAULT_SLOT, fold_key
from tft_core.hp_tuner.storage import (
    has_beaten,
    has_lock,
    is_known_dead,
    is_of_this_host,
    storage_lock,
    worker_identity,
)

MAX_DEATHS_PER_FOLD = 3
"""A trial whose worker dies this often in one inner fold is given up (out of memory, say)."""
_PRIVATE = ("worker",)


class TrialQueue:
    """The slots of one study, seen by one process."""

    def __init__(
        self,
        study: optuna.Study,
        storage: RDBStorage,
        url: str,
        *,
        n_trials: int | float,
        default_fixed: dict[str, Any],
        grace_seconds: float,
    ) -> None:
        self._study, self._storage, self._url = study, storage, url
        self._n_trials, self._default_fixed = n_trials, default_fixed
        self._grace = timedelta(seconds=grace_seconds)
        self._has_lock = has_lock(url)
        self._study_id = storage.get_study_id_from_name(study.study_name)

    def claim(self) -> optuna.trial.Trial | None:
        """The next trial to run, marked as ours; ``None`` if none is free now."""
        while True:
            with storage_lock(self._url):
                if not self._ensure_waiting():
                    return None
                with warnings.catch_warnings():
                    # "Heartbeat is supposed to be used with Study.optimize": we beat ourselves
                    warnings.simplefilter("ignore", UserWarning)
                    trial = self._study.ask()
                if "slot" in trial.user_attrs:
                    # before anybody else may sweep: who never beat is not found stale either
                    self._storage.record_heartbeat(self.trial_id(trial.number))
                    if not self._has_lock:  # without the lock someone else may have signed it too
                        trial.set_user_attr("worker", worker_identity())
                    return trial
                # on a server another host took the waiting one: this new trial is nobody's
                self._study.tell(trial, state=TrialState.FAIL)

    def owners(self, trials: list[FrozenTrial] | None = None) -> dict[int, FrozenTrial]:
        """Slot → the trial that counts for it: its oldest that has not failed."""
        owners: dict[int, FrozenTrial] = {}
        for trial in trials or self._study.get_trials(deepcopy=False):
            slot = trial.user_attrs.get("slot")
            if slot is not None and trial.state != TrialState.FAIL:
                owners.setdefault(slot, trial)
        return {slot: trial for slot, trial in owners.items() if slot < self._n_trials}

    def is_finished(self) -> bool:
        """True once every slot holds a complete or pruned trial."""
        owners = self.owners()
        return len(owners) == self._n_trials and all(t.state.is_finished() for t in owners.values())

    def default_is_taken(self) -> bool:
        """True once the default configuration has been started."""
        owner = self.owners().get(DEFAULT_SLOT)
        return owner is not None and owner.state != TrialState.WAITING

    def requeue(self, number: int, *, died: bool) -> None:
        """Fail a running trial and take its slot up again, keeping what it has."""
        with storage_lock(self._url):
            trial = self._study.get_trials(deepcopy=False)[number]
            if trial.state == TrialState.RUNNING and self._fail(trial):
                take_up_again(self._study, trial, died=died)

    def sweep(self) -> None:
        """Take up the trials of workers that died: seen on this host, else by heartbeat."""
        with storage_lock(self._url), warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            for trial in running:
                if self._is_abandoned(trial) and self._fail(trial):
                    take_up_again(self._study, trial, died=True)
            optuna.storages.fail_stale_trials(self._study)

    def progress(self) -> int:
        """Inner folds stored and trials finished: grows whenever any worker gets on."""
        owners = self.owners().values()
        return sum(_n_folds(t) + t.state.is_finished() for t in owners)

    def trial_id(self, number: int) -> int:
        """The database's key of a trial, by its number within the study."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _ensure_waiting(self) -> bool:
        trials = self._study.get_trials(deepcopy=False)
        owners = self.owners(trials)
        owned = {trial.number for trial in owners.values()}
        for trial in trials:
            if (
                trial.state == TrialState.WAITING and trial.number not in owned
            ):  # a double, or over a budget that was lowered
                self._fail(trial)
        waiting = [t.number for t in owners.values() if t.state == TrialState.WAITING]
        if waiting:  # signed before it is taken: a kill in between must not leave it nameless
            self._storage.set_trial_user_attr(
                self.trial_id(min(waiting)), "worker", worker_identity()
            )
            return True
        slots = itertools.count() if self._n_trials == math.inf else range(int(self._n_trials))
        free = next((slot for slot in slots if slot not in owners), None)
        if free is None:
            return False
        fixed = self._default_fixed if free == DEFAULT_SLOT else {}
        self._study.enqueue_trial(fixed, user_attrs={"slot": free, "worker": worker_identity()})
        return True

    def _fail(self, trial: FrozenTrial) -> bool:
        try:
            return self._storage.set_trial_state_values(
                self.trial_id(trial.number), state=TrialState.FAIL
            )
        except UpdateFinishedTrialError:  # another process was faster
            return False

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get("worker")
        if worker is not None and is_of_this_host(worker):
            return is_known_dead(worker)
        # elsewhere, or it could not sign: its heartbeat tells, unless it died before the first
        start = trial.datetime_start
        is_old = start is not None and datetime.now() - start > self._grace
        return is_old and not has_beaten(self._storage, self.trial_id(trial.number))


def take_up_again(study: optuna.Study, trial: FrozenTrial, *, died: bool) -> None:
    """Add a waiting trial that goes on where a failed one stopped, or give its slot up."""
    attrs = {k: v for k, v in trial.user_attrs.items() if k not in _PRIVATE}
    if "slot" not in attrs:
        return
    state = TrialState.WAITING
    if died:
        attrs["deaths"] = [*attrs.get("deaths", []), _n_folds(trial)]
        if attrs["deaths"][-MAX_DEATHS_PER_FOLD:] == [_n_folds(trial)] * MAX_DEATHS_PER_FOLD:
            state = TrialState.PRUNED
            attrs["pruned_reason"] = (
                f"given up: its worker died {MAX_DEATHS_PER_FOLD} times "
                f"in inner fold {_n_folds(trial)}"
            )
    # a set of parameters that was only half drawn is drawn again, from the start of its stream
    drawn = "params" in attrs
    study.add_trial(
        optuna.create_trial(
            state=state,
            params=trial.params if drawn else {},
            distributions=trial.distributions if drawn else {},
            user_attrs=attrs,
            system_attrs={k: v for k, v in trial.system_attrs.items() if k == "fixed_params"},
        )
    )


def on_stale(study: optuna.Study, trial: FrozenTrial) -> None:
    """Optuna's callback for a trial whose heartbeat stopped."""
    take_up_again(study, trial, died=True)


def wait_a_little() -> None:
    """Pause between two looks at what other workers do."""
    time.sleep(0.2)


def _n_folds(trial: FrozenTrial) -> int:
    fold = 0
    while fold_key(fold) in trial.user_attrs:
        fold += 1
    return fold
