"""Writes ``docs/reference/``: what is public, from its docstrings, a page per part of a package.

    python docs/make_reference.py [FOLDER]

Sources are read, not imported. The pages are not under version control: they are as new as the
code that they are made from.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from griffe import Alias, GriffeLoader, Module, Object, Parser
from griffe2md import render_object_docs

ROOT = Path(__file__).parents[1]
PACKAGES = ("tft_core", "tft_assets")
CONFIG = {
    "show_root_full_path": True,
    "show_object_full_path": False,
    "show_submodules": True,
    "show_if_no_docstring": False,
    "show_signature_annotations": True,
    "summary": {"attributes": False, "functions": True, "classes": True, "modules": True},
    "filters": ["!^_"],
}
_REFERENCE = re.compile(r"\[([^\]\[]*)\]\(#([\w.]+)\)")


def load(package: str) -> Module:
    """A package's modules, classes and functions with their docstrings parsed."""
    loader = GriffeLoader(search_paths=[ROOT], docstring_parser=Parser.google)
    module = loader.load(package)
    assert isinstance(module, Module)
    loader.resolve_aliases()
    return module


def parts(package: Module) -> Iterator[Module]:
    """The modules and packages right below, each of which gets a page."""
    for name, module in sorted(package.modules.items()):
        if not module.is_alias and not name.startswith("_"):
            yield module


def exports(package: Module) -> Iterator[tuple[str, Alias]]:
    """Names that a package offers, though another module defines them."""
    for name, member in sorted(package.members.items()):
        if isinstance(member, Alias) and member.target_path.startswith(f"{package.path}."):
            yield name, member


def first_line(item: Object | Alias) -> str:
    """The first line of a docstring, as a table's cell can hold it."""
    return item.docstring.value.split("\n")[0].replace("|", r"\|") if item.docstring else ""


def write_reference(folder: Path) -> list[Path]:
    """Write all pages and their index; returns the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        old.unlink()
    loaded = [load(package) for package in PACKAGES]
    pages = {part.path: folder / f"{part.path}.md" for package in loaded for part in parts(package)}
    index = ["# Reference", "", "Made by `make docs` from docstrings."]
    for package in loaded:
        index += [
            "",
            f"## {package.path}",
            "",
            package.docstring.value if package.docstring else "",
        ]
        offered = list(exports(package))
        if offered:
            index += ["", f"| `from {package.path} import …` | what |", "|---|---|"]
            for name, member in offered:
                link = _link(f"`{name}`", member.target_path, pages)
                index.append(f"| {link} | {first_line(member)} |")
        index += ["", "| part | what |", "|---|---|"]
        for part in parts(package):
            index.append(f"| [`{part.path}`]({part.path}.md) | {first_line(part)} |")
            text = render_object_docs(part, CONFIG)
            linked = _REFERENCE.sub(lambda found: _link(found[1], found[2], pages), text)
            pages[part.path].write_text(linked.rstrip() + "\n", encoding="utf-8")
    (folder / "README.md").write_text("\n".join(index) + "\n", encoding="utf-8")
    return list(pages.values())


def _link(text: str, path: str, pages: dict[str, Path]) -> str:
    """A link to the page that tells of an object; the bare text where there is none."""
    part = ".".join(path.split(".")[:2])
    return f"[{text}]({pages[part].name})" if part in pages else text


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "reference"
    print(f"{len(write_reference(target))} pages in {target}")
