"""HTML pages of artifacts over HTTP, since a browser opens no ``file://`` link of the Dagster UI.

Read-only, loopback by default, and only views: HTML, plots, and the project's own docs. The data
beside them is not served.
"""

import html
import ipaddress
import os
import posixpath
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from tft_core.errors import ArtifactError, ConfigError
from tft_core.training_pipeline.artifacts import Artifact, ArtifactStore
from tft_core.training_pipeline.graph import SPECS

PAGES_URL_ENV = "TFT_PAGES_URL"
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 3001
DOCS = Path(__file__).parents[2] / "docs"
"""The pages about the project; there where the package lies in its checkout."""

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".md": "text/plain; charset=utf-8",
}
POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'"
"""The pages bring no script; one that got into them would not run."""


def pages_url() -> str:
    """Where the pages are served: ``$TFT_PAGES_URL``, else this machine's ``tft pages``.

    Raises:
        ConfigError: The variable is not an http(s) URL.
    """
    url = os.environ.get(PAGES_URL_ENV, f"http://{DEFAULT_HOST}:{DEFAULT_PORT}")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(
            f"${PAGES_URL_ENV} must be an http or https URL, found {url!r}; "
            f"unset it for http://{DEFAULT_HOST}:{DEFAULT_PORT}"
        )
    return url.rstrip("/")


def artifact_page_url(artifact: Artifact, name: str) -> str:
    """The address of one page of one version of an artifact."""
    parts = ("artifacts", artifact.asset, artifact.key, artifact.path.name, name)
    return f"{pages_url()}/{quote('/'.join(parts))}"


def docs_url(name: str) -> str | None:
    """The address of a docs page; ``None`` where the docs are not beside the package."""
    return f"{pages_url()}/docs/{quote(name)}" if (DOCS / name).is_file() else None


def make_server(home: Path, *, host: str, port: int) -> ThreadingHTTPServer:
    """A server of a state directory's pages; ``serve_forever`` runs it.

    Args:
        port: 0 takes a free one (``server_address`` tells it).

    Raises:
        ConfigError: The address cannot be bound.
    """
    try:
        return ThreadingHTTPServer((host, port), partial(PagesHandler, home=home))
    except OSError as error:
        raise ConfigError(
            f"`tft pages` must have a free address, found {host}:{port}: {error.strerror}; "
            "choose another --port"
        ) from error


class PagesHandler(BaseHTTPRequestHandler):
    """``/``: what there is; ``/artifacts/ASSET/KEY[/VERSION]/FILE``, ``/reports/FILE``, docs."""

    server_version, sys_version = "tft", ""

    def __init__(self, *args: object, home: Path) -> None:
        self.home = home
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if not self._is_asked_by_its_name():
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "asked by another host name")
            return
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            self._send(index_page(self.home).encode(), CONTENT_TYPES[".html"], with_body)
            return
        file = page_file(self.home, path)
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND, "no such page")
            return
        self._send(file.read_bytes(), CONTENT_TYPES[file.suffix], with_body)

    def _is_asked_by_its_name(self) -> bool:
        """On a loopback address only by that address: else a foreign page could read along."""
        bound = str(self.connection.getsockname()[0])
        if not ipaddress.ip_address(bound).is_loopback:
            return True
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        return name in (bound, "localhost")

    def _send(self, body: bytes, content_type: str, with_body: bool) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a page that was looked at is no event."""


def page_file(home: Path, path: str) -> Path | None:
    """The file behind a request path; ``None`` where there is none that may be shown."""
    parts = [part for part in path.split("/") if part]
    if not parts or any(part.startswith(".") for part in parts):
        return None
    root, rest = {
        "artifacts": (home / "artifacts", parts[1:]),
        "reports": (home / "reports", parts[1:]),
        "docs": (DOCS, parts[1:]),
    }.get(parts[0], (None, []))
    if root is None or not rest or Path(rest[-1]).suffix not in CONTENT_TYPES:
        return None
    if parts[0] == "artifacts" and len(rest) == 3:  # without a version: the current one
        artifact = _current(ArtifactStore(root), rest[0], rest[1])
        file = artifact.path / rest[2] if artifact else None
    else:
        file = root.joinpath(*rest)
    if file is None or not file.is_file():
        return None
    return file if file.resolve().is_relative_to(root.resolve()) else None


def index_page(home: Path) -> str:
    """Every current artifact that has pages, in the order of the graph."""
    store, rows = ArtifactStore(home / "artifacts"), []
    for asset in SPECS:
        folder = store.root / asset
        for key in sorted((p.name for p in folder.iterdir()) if folder.is_dir() else ()):
            artifact = _current(store, asset, key)
            pages = [n for n in sorted(artifact.files) if n.endswith(".html")] if artifact else []
            for name in pages:
                link = quote(posixpath.join("/artifacts", asset, key, name))
                when = artifact.created_at if artifact else ""
                cells = (asset, key, f'<a href="{link}">{html.escape(name)}</a>', when)
                rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    body = "".join(rows) or "<tr><td>Nothing has been materialized yet.</td></tr>"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Reports</title>'
        "<style>body{font:15px system-ui;margin:2em}td{padding:.2em 1em}</style>"
        f"<h1>Reports</h1><table>{body}</table></html>"
    )


def _current(store: ArtifactStore, asset: str, key: str) -> Artifact | None:
    try:
        return store.current(asset, key)
    except (ArtifactError, NotADirectoryError):
        return None  # damaged or no artifact: not a page; whoever builds on it says why
