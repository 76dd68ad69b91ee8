"""Which sinks there are, and what Slack is sent; Slack is an HTTP server of the test."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from typing import Any

import pytest

from tests.support.ports import free_port
from tft_core.errors import AlertError, ConfigError
from tft_core.upkeep.alerts import Alert
from tft_core.upkeep.sinks import LogSink, SlackSink, sinks_of

ALERT = Alert(cause="run/1", code="run_failed", message="loss <nan> & more", run_id="1f2e")
SECRET = "T000-B000-hunter2"
needs_slack = pytest.mark.skipif(
    find_spec("slack_sdk") is None,
    reason="the extra [slack] is not installed",
)


class Slack(HTTPServer):
    """Answers like an incoming webhook and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SlackHandler)
        self.status, self.body = 200, "ok"
        self.got: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/services/{SECRET}"


class SlackHandler(BaseHTTPRequestHandler):
    server: Slack

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        self.server.got.append(json.loads(self.rfile.read(size)))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def slack() -> Iterator[Slack]:
    with Slack() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_alerts_go_to_the_log_where_nothing_is_said() -> None:
    lines: list[str] = []
    (sink,) = sinks_of({}, lines.append)
    assert isinstance(sink, LogSink)
    sink.send(ALERT)
    assert lines == [ALERT.text()]


class Silent:
    name = "silent"

    def send(self, alert: Alert) -> None:
        """Tells nobody."""


def test_a_sink_of_ones_own_is_named_by_module_and_function() -> None:
    sinks = sinks_of({"TFT_ALERTS": f"log, {__name__}:Silent"})
    assert [sink.name for sink in sinks] == ["log", "silent"]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("", r"log, slack or module:function, found ''; unset it for the log"),
        ("pigeon", r"log, slack or module:function, found 'pigeon'"),
        ("no.such.module:make", r"can be imported, found 'no\.such\.module:make'"),
        ("json:no_such", r"can be imported, found 'json:no_such'"),
    ],
)
def test_an_unknown_sink_is_refused(named: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sinks_of({"TFT_ALERTS": named})


def test_slack_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "slack_sdk.webhook", None)  # as if not installed
    with pytest.raises(ConfigError, match=r"pip install 'tft-lifecycle\[slack\]'"):
        sinks_of({"TFT_ALERTS": "slack", "TFT_SLACK_WEBHOOK_URL": "https://hooks.slack.com/x"})


@needs_slack
def test_slack_without_an_address_says_which_variable() -> None:
    with pytest.raises(ConfigError, match=r"\$TFT_SLACK_WEBHOOK_URL must be .* found nothing"):
        sinks_of({"TFT_ALERTS": "slack"})


@needs_slack
def test_slack_is_sent_the_text_with_its_markup_escaped(slack: Slack) -> None:
    (sink,) = sinks_of({"TFT_ALERTS": "slack", "TFT_SLACK_WEBHOOK_URL": slack.url})
    sink.send(ALERT)
    (posted,) = slack.got
    assert "loss &lt;nan&gt; &amp; more\nrun 1f2e" in posted["text"]


@needs_slack
def test_a_refusal_by_slack_is_an_error_without_the_secret(slack: Slack) -> None:
    slack.status, slack.body = 404, "no_service"
    with pytest.raises(AlertError, match=r"found HTTP 404 \(no_service\)") as refused:
        SlackSink(slack.url).send(ALERT)
    assert SECRET not in str(refused.value)


@needs_slack
def test_a_slack_that_cannot_be_reached_is_an_error_without_the_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(AlertError, match=r"slack must take alert run_failed, found") as refused:
        SlackSink(f"http://127.0.0.1:{free_port()}/services/{SECRET}").send(ALERT)
    assert SECRET not in repr(refused.value)
    assert refused.value.__cause__ is None
    assert SECRET not in caplog.text
