"""Every finished trial that a study database holds, of whatever study: nothing tried is lost.

A study that was killed, or left behind when its space or data changed, was still a search.
"""

import pandas as pd
from optuna.trial import TrialState

from tft_core.hp_tuner.storage import open_storage, sqlite_file


def finished_trials(url: str, prefix: str = "") -> dict[str, pd.DataFrame]:
    """Finished trials of all studies in a database, by study name.

    Args:
        prefix: Only studies whose names start so.

    Returns:
        Per study one row per slot of its budget: number, state, value, params_*; a trial that
        was taken up again after a kill is one trial. No database is no trial.
    """
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return {}
    storage = open_storage(url, heartbeat_seconds=60)
    found = {}
    for study in storage.get_all_studies():
        if not study.study_name.startswith(prefix):
            continue
        rows: dict[int, dict] = {}
        for trial in storage.get_all_trials(study._study_id, deepcopy=False):
            slot = trial.user_attrs.get("slot")
            if slot is None or trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
                continue
            params = {f"params_{k}": v for k, v in trial.user_attrs.get("params", {}).items()}
            value = trial.value if trial.state == TrialState.COMPLETE else float("nan")
            row = {"number": slot, "state": trial.state.name.lower(), "value": value, **params}
            rows.setdefault(slot, row)
        if rows:
            found[study.study_name] = pd.DataFrame([rows[slot] for slot in sorted(rows)])
    return found
