"""The optional documents beside the weights, as plain JSON tables."""

from typing import Any

import pandas as pd

from tft_core.checkpoint_manager.fields import plain_json


def selector_table(selector: Any) -> Any:
    """A feature selector as plain JSON: what its ``to_dict`` gives, or the data itself.

    Raises:
        CheckpointError: Something in it is not plain data.
    """
    table = selector.to_dict() if hasattr(selector, "to_dict") else selector
    return plain_json(table, "feature_selector")


def trials_table(study: Any) -> Any:
    """A study, or a frame of trials, as ``{"columns": […], "rows": [[…]]}``; else the data itself.

    Raises:
        CheckpointError: Something in it is not plain data.
    """
    frame = study.trials_dataframe() if hasattr(study, "trials_dataframe") else study
    if not isinstance(frame, pd.DataFrame):
        return plain_json(frame, "optuna_study")
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    columns = [str(column) for column in frame.columns]
    return plain_json({"columns": columns, "rows": rows}, "optuna_study")


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple, dict)):
        return value
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return None  # an undefined figure of a pruned or failed trial
    return value.total_seconds() if isinstance(value, pd.Timedelta) else value
