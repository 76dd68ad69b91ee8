"""The reference is made of docstrings, so what is public has one, and `make docs` works."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from griffe import Alias, Class, Module

import tft_core
from docs.make_reference import PACKAGES, exports, load, write_reference

LOADED = {package: load(package) for package in PACKAGES}


def modules(module: Module) -> Iterator[Module]:
    yield module
    for below in module.modules.values():
        if not below.is_alias:
            yield from modules(below)


EXPORTS = {
    f"{module.path}.{name}": member
    for package in LOADED.values()
    for module in modules(package)
    for name, member in exports(module)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("reference")
    (made / "of_a_module_that_is_gone.md").write_text("old")
    write_reference(made)
    return made


def test_every_function_and_class_that_a_package_exports_has_a_docstring() -> None:
    assert len(EXPORTS) > 100
    bare = [
        path
        for path, member in EXPORTS.items()
        if (member.is_class or member.is_function) and not member.docstring
    ]
    assert not bare


def test_every_public_method_of_what_tft_core_exports_has_a_docstring() -> None:
    bare = [
        method.path
        for _, member in exports(LOADED["tft_core"])
        if isinstance(found := member.final_target, Class)
        for name, method in found.functions.items()
        if not name.startswith("_") and not isinstance(method, Alias) and not method.docstring
    ]
    assert not bare


def test_the_reference_lists_all_that_can_be_imported_from_tft_core(folder: Path) -> None:
    index = (folder / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| \[`(\w+)`\]\(tft_core\.\w+\.md\) \| \S", index, re.M)
    assert listed == sorted(tft_core.__all__)


def test_every_link_of_the_reference_leads_to_a_page_and_no_old_page_is_left(
    folder: Path,
) -> None:
    pages = {page.name: page.read_text("utf-8") for page in folder.iterdir()}
    links = {link for text in pages.values() for link in re.findall(r"\]\(([^)]+)\)", text)}
    assert {link for link in links if not link.startswith("http")} == set(pages) - {"README.md"}


def test_a_page_tells_signature_unit_errors_and_as_of(folder: Path) -> None:
    store = (folder / "tft_core.data.md").read_text("utf-8")
    assert "MarketDataStore(path: str | os.PathLike[str] | None = None, read_only" in store
    assert "as_of** (<code>[AsOf](tft_core.data.md)</code>)" in store
    assert "[UnknownSymbolError](tft_core.errors.md)</code> – A symbol has no bar" in store
    positions = (folder / "tft_core.positions.md").read_text("utf-8")
    assert "Largest absolute position in one asset" in positions
