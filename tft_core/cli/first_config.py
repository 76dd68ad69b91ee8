"""The first ``tft.toml``: where there is none, an installed package brings its own."""

import importlib.resources
import os
from pathlib import Path

from tft_core.config import CONFIG_ENV, DEFAULT_CONFIG_NAME, find_config
from tft_core.errors import ConfigError


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
