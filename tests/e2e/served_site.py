"""A development server for a browser: addresses, waiting, ending, pictures."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page

from tests.support.ports import answers

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "docs" / "screenshots"
MAX_SCREENSHOT_BYTES = 200_000


@dataclass(frozen=True, slots=True)
class Site:
    """Addresses of the UI and of the pages it links to, and where the state lies."""

    ui: str
    pages: str
    home: Path
    environ: dict[str, str]


def wait_for(url: str, server: subprocess.Popen, log: Path, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        if answers(url):
            return
        time.sleep(0.5)
    raise RuntimeError(f"{url} must answer within {timeout_s:.0f} s, found:\n{log.read_text()}")


def end(server: subprocess.Popen) -> None:
    for sign in (signal.SIGINT, signal.SIGKILL):
        if server.poll() is None:
            os.killpg(server.pid, sign)
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                continue


def shoot(page: Page, name: str) -> None:
    """A picture of what is seen, for ``docs/``; one that is too large is an error."""
    SCREENSHOTS.mkdir(exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.wait_for_timeout(1500)  # transitions
    page.screenshot(path=path)
    size = path.stat().st_size
    assert size <= MAX_SCREENSHOT_BYTES, f"{path.name} has {size:,} bytes"
