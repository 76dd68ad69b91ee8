"""HTML pages of artifacts over HTTP, since a browser opens no ``file://`` link of the Dagster UI.

Read-only, loopback by default, and only views: HTML, plots, and the project's own docs. The data
beside them is not served.
"""

import ipaddress
import os
import posixpath
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from tft_core.errors import ArtifactError, ConfigError, StorageError
from tft_core.reports.page import Absent, Link, Links, Section, render_page
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


def make_server(
    home: Path, *, host: str, port: int, artifacts: ArtifactStore | None = None
) -> ThreadingHTTPServer:
    """A server of a state directory's pages; ``serve_forever`` runs it.

    Args:
        artifacts: Where the artifacts lie; default under the home.
        port: 0 takes a free one (``server_address`` tells it).

    Raises:
        ConfigError: The address cannot be bound.
    """
    handler = partial(
        PagesHandler, home=home, artifacts=artifacts or ArtifactStore(home / "artifacts")
    )
    try:
        return ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        raise ConfigError(
            f"`tft pages` must have a free address, found {host}:{port}: {error.strerror}; "
            "choose another --port"
        ) from error


class PagesHandler(BaseHTTPRequestHandler):
    """``/``: what there is; ``/artifacts/ASSET/KEY[/VERSION]/FILE``, ``/reports/FILE``, docs."""

    server_version, sys_version = "tft", ""

    def __init__(self, *args: object, home: Path, artifacts: ArtifactStore) -> None:
        self.home, self.artifacts = home, artifacts
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if not self._is_asked_by_its_name():
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "asked by another host name")
            return
        try:
            self._show(unquote(urlsplit(self.path).path), with_body)
        except StorageError:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "the artifact store does not answer")

    def _show(self, path: str, with_body: bool) -> None:
        if path == "/":
            self._send(index_page(self.artifacts).encode(), CONTENT_TYPES[".html"], with_body)
            return
        file = page_file(self.home, self.artifacts, path)
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


def page_file(home: Path, artifacts: ArtifactStore, path: str) -> Path | None:
    """The file behind a request path; ``None`` where there is none that may be shown."""
    kind, *rest = [part for part in path.split("/") if part] or [""]
    if any(part.startswith(".") for part in rest):
        return None
    if not rest or Path(rest[-1]).suffix not in CONTENT_TYPES:
        return None
    if kind == "artifacts":
        return _artifact_file(artifacts, *rest) if len(rest) in (3, 4) else None
    root = {"reports": home / "reports", "docs": DOCS}.get(kind)
    if root is None:
        return None
    file = root.joinpath(*rest)
    return file if file.is_file() and file.resolve().is_relative_to(root.resolve()) else None


def _artifact_file(
    store: ArtifactStore, asset: str, key: str, *version_and_name: str
) -> Path | None:
    """A page of an artifact as it was written; without a version, the current one's."""
    *version, name = version_and_name
    artifact = _artifact(store, asset, key, *version)
    if artifact is None or name not in artifact.files:
        return None
    try:
        return artifact.file(name)
    except ArtifactError:
        return None  # damaged: no page


def index_page(store: ArtifactStore) -> str:
    """Every current artifact that has pages, in the order of the graph."""
    sections = []
    for asset in SPECS:
        found = [_artifact(store, asset, key) for key in store.keys(asset)]
        links = [
            Link(
                href=quote(posixpath.join("/artifacts", asset, artifact.key, name)),
                text=f"{artifact.key}, {name}",
                note=f"made {artifact.created_at}",
            )
            for artifact in found
            if artifact is not None
            for name in sorted(artifact.files)
            if name.endswith(".html")
        ]
        if links:
            sections.append(Section(asset, [Links(links)]))
    nothing = Section("Artifacts", [Absent("Nothing has been materialized yet.")])
    return render_page("Reports", sections or [nothing])


def _artifact(
    store: ArtifactStore, asset: str, key: str, version: str | None = None
) -> Artifact | None:
    try:
        return store.current(asset, key) if version is None else store.version(asset, key, version)
    except (ArtifactError, NotADirectoryError):
        return None  # damaged or no artifact: not a page; whoever builds on it says why
