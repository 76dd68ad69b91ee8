"""The pages that the UI links to: views only, from the state directory only."""

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tft_core.errors import ConfigError
from tft_core.training_pipeline.artifacts import Artifact, ArtifactStore
from tft_core.training_pipeline.places import ObjectPlace
from tft_core.upkeep import pages


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    store = ArtifactStore(tmp_path / "artifacts")
    with store.draft("vsn_stability_report", "2022-01-01", "f") as draft:
        draft.write_text("stability.html", "<h1>stable & sound</h1>")
        draft.write_bytes("weights.png", b"\x89PNG")
        draft.write_json("selection.json", {"secret": 1})
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "data_quality.html").write_text("quality")
    (tmp_path / "market.html").write_text("beside the folders that are served")
    return store.read("vsn_stability_report", "2022-01-01")


@pytest.fixture
def port(tmp_path: Path, artifact: Artifact) -> Iterator[int]:
    with pages.make_server(tmp_path, host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def get(port: int, path: str, host: str | None = None) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode("utf-8", "replace"), answer.headers


def test_the_link_of_an_artifact_opens_its_page(
    port: int, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFT_PAGES_URL", f"http://127.0.0.1:{port}/")
    url = pages.artifact_page_url(artifact, "stability.html")
    assert url.startswith(f"http://127.0.0.1:{port}/artifacts/vsn_stability_report/2022-01-01/")
    status, body, headers = get(port, url.removeprefix(f"http://127.0.0.1:{port}"))
    assert (status, body) == (200, "<h1>stable & sound</h1>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_without_a_version_the_current_page_is_shown_and_the_index_links_to_it(port: int) -> None:
    path = "/artifacts/vsn_stability_report/2022-01-01/stability.html"
    assert get(port, path)[0] == 200
    status, body, _ = get(port, "/")
    assert status == 200
    assert f'href="{path}"' in body
    assert get(port, "/reports/data_quality.html")[1] == "quality"


def test_pages_of_an_object_store_are_served_and_its_silence_is_not_their_absence(
    tmp_path: Path,
) -> None:
    place = ObjectPlace(f"memory://{tmp_path.name}", tmp_path / "cache")
    store = ArtifactStore(place)
    with store.draft("vsn_stability_report", "live", "f") as draft:
        draft.write_text("stability.html", "far away")
    version = store.read("vsn_stability_report", "live").path.name
    with pages.make_server(tmp_path, host="127.0.0.1", port=0, artifacts=store) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        port = server.server_address[1]
        folder = "/artifacts/vsn_stability_report/live"
        for path in (f"{folder}/stability.html", f"{folder}/{version}/stability.html"):
            assert get(port, path)[:2] == (200, "far away")
        assert f'href="{folder}/stability.html"' in get(port, "/")[1]
        assert get(port, f"{folder}/{version}/other.html")[0] == 404
        place._fs = Unreachable()
        assert get(port, f"{folder}/stability.html")[0] == 503
        server.shutdown()
        thread.join()


class Unreachable:
    """A file system whose line is down."""

    def cat_file(self, path: str) -> bytes:
        raise ConnectionError("no route to host")


def test_the_index_of_an_empty_home_says_so(tmp_path: Path) -> None:
    assert "Nothing has been materialized yet" in pages.index_page(ArtifactStore(tmp_path / "none"))


@pytest.mark.parametrize(
    "path",
    [
        "/artifacts/vsn_stability_report/2022-01-01/selection.json",  # data, no view
        "/artifacts/vsn_stability_report/2022-01-01/current",
        "/market.html",
        "/artifacts/../market.html",
        "/reports/..%2fmarket.html",
        "/reports/%2e%2e/market.html",
        "/reports//etc/passwd.html",
        "/artifacts/.hidden/2022-01-01/stability.html",
        "/artifacts/vsn_stability_report/2023-01-01/stability.html",
        "/docs/../pyproject.html",
        "/artifacts",
    ],
)
def test_anything_but_a_view_is_not_found(port: int, path: str) -> None:
    assert get(port, path)[0] == 404


def test_a_link_out_of_the_state_directory_is_not_followed(
    port: int, tmp_path: Path, artifact: Artifact
) -> None:
    (tmp_path / "reports" / "out.html").symlink_to(tmp_path / "market.html")
    assert get(port, "/reports/out.html")[0] == 404


def test_a_loopback_server_answers_only_to_its_own_name(port: int) -> None:
    assert get(port, "/", host=f"localhost:{port}")[0] == 200
    assert get(port, "/", host="evil.example")[0] == 421


def test_docs_of_the_checkout_are_served_as_text(port: int) -> None:
    status, body, headers = get(port, "/docs/runbook.md")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert body == (pages.DOCS / "runbook.md").read_text("utf-8")


def test_there_is_no_docs_link_where_there_are_no_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    assert pages.docs_url("runbook.md") is None


def test_an_address_in_use_and_a_wrong_url_are_named(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=rf"found 127\.0\.0\.1:{port}"):
        pages.make_server(tmp_path, host="127.0.0.1", port=port)
    monkeypatch.setenv("TFT_PAGES_URL", "reports.example")
    with pytest.raises(ConfigError, match=r"found 'reports\.example'"):
        pages.pages_url()
