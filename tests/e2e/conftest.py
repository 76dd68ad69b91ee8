"""A development server over a state directory of its own, and a browser in front of it.

Chromium is Debian's (``apt-get install chromium``, or ``$CHROMIUM``), driven by Playwright;
nothing is downloaded. Runs stay in one process (``TFT_EXECUTOR=in_process``) on the tiny
lifecycle over four series of the bundled sample.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from served_site import ROOT, Site, end, wait_for

from tests.support.ports import free_port
from tests.support.tiny_sample import write_tiny_sample_config

SIZE = {"width": 1280, "height": 800}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    here = tmp_path_factory.mktemp("site")
    config = write_tiny_sample_config(here / "tft.toml")
    (here / "dagster_home").mkdir()
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", here / "dagster_home")
    ui, pages = free_port(), free_port()
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TFT_", "DAGSTER_"))}
    environ |= {
        "PYTHONPATH": str(ROOT),
        "TFT_CONFIG": str(config),
        "TFT_HOME": str(here / "state"),
        "TFT_EXECUTOR": "in_process",
        "TFT_PAGES_URL": f"http://127.0.0.1:{pages}",
        "DAGSTER_HOME": str(here / "dagster_home"),
        "OMP_NUM_THREADS": "1",
    }
    tft = [sys.executable, "-c", "import sys; from tft_core.cli import main; sys.exit(main())"]
    dagster = [sys.executable, "-m", "dagster", "dev", "-w", str(ROOT / "workspace.yaml")]
    subprocess.run([*tft, "sample"], cwd=here, env=environ, check=True, capture_output=True)
    with (here / "log.txt").open("w") as log:
        servers = [
            # a process group of its own, so that all of it can be ended
            subprocess.Popen(
                command, cwd=here, env=environ, stdout=log, stderr=log, start_new_session=True
            )
            for command in (
                [*dagster, "-h", "127.0.0.1", "-p", str(ui)],
                [*tft, "pages", "--port", str(pages)],
            )
        ]
        try:
            made = Site(
                f"http://127.0.0.1:{ui}", f"http://127.0.0.1:{pages}", here / "state", environ
            )
            wait_for(f"{made.ui}/server_info", servers[0], here / "log.txt")
            wait_for(f"{made.pages}/", servers[1], here / "log.txt")
            yield made
        finally:
            for server in servers:
                end(server)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.fail("`make e2e` needs chromium: apt-get install chromium, or set $CHROMIUM")
    with sync_playwright() as playwright:
        # as root Chromium has no sandbox; it only ever sees the two local servers
        made = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield made
        made.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport=SIZE)  # pyright: ignore[reportArgumentType]
    made.set_default_timeout(60_000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()
