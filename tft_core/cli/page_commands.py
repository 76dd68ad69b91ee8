"""``tft pages``: the reports that the Dagster UI links to."""

import sys
from argparse import Namespace

from tft_core.cli.answer import Answer
from tft_core.config import load_settings
from tft_core.training_pipeline.artifacts import open_artifacts
from tft_core.upkeep.pages import make_server


def pages(arguments: Namespace) -> Answer:
    """Serve the HTML pages of the state directory until it is stopped."""
    settings = load_settings()
    store = open_artifacts(settings)
    with make_server(
        settings.home, host=arguments.host, port=arguments.port, artifacts=store
    ) as server:
        host, port = server.server_address[:2]
        url = f"http://{host}:{port}"
        print(f"pages of {settings.home} on {url}", file=sys.stderr, flush=True)
        server.serve_forever()
    return Answer({"url": url}, f"served {url}")
