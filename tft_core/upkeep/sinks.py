"""Where alerts go (``$TFT_ALERTS``): the log, Slack, or a sink of one's own.

``TFT_ALERTS=log,slack,my_package.pager:make_sink`` names them, by default the log alone. A sink
of one's own is what a function without arguments returns; see ``alerts.AlertSink``.
"""

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any

from tft_core.errors import AlertError, ConfigError
from tft_core.logs import get_logger
from tft_core.upkeep.alerts import Alert, AlertSink

SINKS_ENV = "TFT_ALERTS"
SLACK_URL_ENV = "TFT_SLACK_WEBHOOK_URL"
"""Address of a Slack app's incoming webhook. A secret: it is never shown."""
_SLACK_TIMEOUT_S = 10

LOG = get_logger("tft_core.alerts")


class LogSink:
    """Writes alerts as log lines; they can't fail to arrive."""

    name = "log"

    def __init__(self, write: Callable[[str], Any] = LOG.error) -> None:
        self._write = write

    def send(self, alert: Alert) -> None:
        """Write the alert's text."""
        self._write(alert.text())


class SlackSink:
    """Posts alerts to the channel of an incoming webhook."""

    name = "slack"

    def __init__(self, url: str) -> None:
        """Open the sink.

        Raises:
            ConfigError: The address is none, or the extra ``[slack]`` is not installed.
        """
        try:
            from slack_sdk.webhook import WebhookClient
        except ImportError as error:
            raise ConfigError(
                f"{SINKS_ENV}=slack must have the extra [slack], found it not installed; run "
                "pip install 'tft-lifecycle[slack]' or take slack out"
            ) from error
        if not url.startswith(("https://", "http://")):
            raise ConfigError(
                f"${SLACK_URL_ENV} must be the https address of an incoming webhook where "
                f"{SINKS_ENV} names slack, found {'another text' if url else 'nothing'}; make one "
                "in your Slack app's settings"
            )
        # slack_sdk logs the address, which is the secret
        silent = logging.getLogger("tft_core.alerts.slack_sdk")
        silent.disabled = True
        self._client = WebhookClient(url, timeout=_SLACK_TIMEOUT_S, logger=silent)

    def send(self, alert: Alert) -> None:
        """Post the alert's text.

        Raises:
            AlertError: Slack could not be reached, or did not take it.
        """
        try:
            answer = self._client.send(text=_escaped(alert.text()))
        except (OSError, HTTPException) as error:  # its text may hold the address, thus the secret
            raise AlertError(
                f"slack must take alert {alert.code}, found {type(error).__name__}; see that "
                f"${SLACK_URL_ENV} can be reached from here"
            ) from None
        if answer.status_code != 200:
            raise AlertError(
                f"slack must take alert {alert.code}, found HTTP {answer.status_code} "
                f"({answer.body[:80]}); check ${SLACK_URL_ENV} and the app's channel"
            )


def sinks_of(
    environ: Mapping[str, str] = os.environ, write: Callable[[str], Any] = LOG.error
) -> list[AlertSink]:
    """The chosen sinks.

    Args:
        write: Takes the text of an alert for the sink ``log``.

    Raises:
        ConfigError: A sink is unknown, or lacks what it needs.
    """
    names = [name.strip() for name in environ.get(SINKS_ENV, "log").split(",")]
    sinks: list[AlertSink] = []
    for name in names:
        if name == "log":
            sinks.append(LogSink(write))
        elif name == "slack":
            sinks.append(SlackSink(environ.get(SLACK_URL_ENV, "")))
        else:
            sinks.append(_own(name))
    return sinks


def _own(name: str) -> AlertSink:
    module, _, function = name.partition(":")
    if not function:
        raise ConfigError(
            f"${SINKS_ENV} must name log, slack or module:function, found {name!r}; "
            "unset it for the log"
        )
    try:
        return getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"${SINKS_ENV} must name a function that can be imported, found {name!r}: {error}; "
            "correct the name or PYTHONPATH"
        ) from error


def _escaped(text: str) -> str:
    """Slack reads these three as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
