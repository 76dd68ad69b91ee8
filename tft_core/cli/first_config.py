"""The first ``tft.toml``: the one that an installed package brings, or what fits a user's data."""

import importlib.resources
import os
from datetime import date
from pathlib import Path
from typing import TypedDict

import pandas as pd
import tomlkit
from tomlkit.items import AoT

from tft_core.config import CONFIG_ENV, DEFAULT_CONFIG_NAME, find_config
from tft_core.errors import ConfigError, DataError
from tft_core.folds import shift


def default_config_text() -> str:
    """The configuration of the bundled sample, as shipped inside the package."""
    return importlib.resources.files("tft_core").joinpath("default_tft.toml").read_text("utf-8")


def write_config_if_none() -> Path | None:
    """Write the default configuration into the working directory where none is found.

    Returns:
        The file written; ``None`` where a configuration is there already.

    Raises:
        ConfigError: ``$TFT_CONFIG`` names a file that does not exist.
    """
    if os.environ.get(CONFIG_ENV):
        find_config()
        return None
    try:
        find_config()
    except ConfigError:
        target = Path.cwd() / DEFAULT_CONFIG_NAME
        with target.open("x", encoding="utf-8") as file:
            file.write(default_config_text())
        return target
    return None


class ProposedFolds(TypedDict):
    """The section ``[folds]`` of a new configuration."""

    anchor: date
    test_length: str
    train_length: str
    n_windows: int


def propose_folds(sessions: pd.DatetimeIndex) -> ProposedFolds:
    """Three complete test windows and a running one that end with the newest session.

    Windows take two years where the history is long, else about a sixth of it.

    Raises:
        DataError: The history is too short for any training window.
    """
    if len(sessions) < 300:
        raise DataError(
            f"the data must hold at least 300 sessions to propose folds, found {len(sessions)}; "
            "write [folds] by hand"
        )
    first, last = sessions[0].date(), sessions[-1].date()
    years = (last - first).days / 365.25
    if years >= 12:
        length, start = "24M", date(last.year, 1, 1)
    elif years >= 6:
        length, start = "12M", date(last.year, 1, 1)
    else:
        n_days = max(21, len(sessions) // 12)
        length = f"{n_days}B"
        start = shift(last, f"{max(n_days // 2, 1)}B", -1)
    anchor = shift(start, length, -3)
    return {
        "anchor": anchor,
        "test_length": length,
        "train_length": "120M" if years >= 20 else "expanding",
        "n_windows": 4,
    }


def propose_members(spans: pd.DataFrame) -> AoT:
    """Universe members by their dated span: what ended long before the newest bar has ended.

    Args:
        spans: ``symbol, first, last`` of the symbols' bars.
    """
    first, last = pd.to_datetime(spans["first"]), pd.to_datetime(spans["last"])
    ended = last < last.max() - pd.Timedelta(days=60)
    members = tomlkit.aot()
    dated = spans.assign(since=first, until=last.where(ended, pd.NaT))
    for _, group in dated.groupby(["since", "until"], dropna=False):
        since, until = group["since"].iloc[0], group["until"].iloc[0]
        member = tomlkit.table()
        member["symbols"] = group["symbol"].tolist()
        member["since"] = since.date()
        if not pd.isna(until):
            member["until"] = until.date()
        members.append(member)
    return members
