"""Every Python block of the docs runs; every command they name exists."""

import re
from pathlib import Path

import pytest

from tft_core.cli import build_parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_python_block_runs(block):
    exec(compile(block, "docs", "exec"), {"__name__": "docs"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_tft_command_of_the_page_parses(page):
    parser = build_parser()
    commands = re.findall(r"^\s+(tft [a-z]+[^#\n`]*)", page.read_text("utf-8"), re.M)
    for command in commands:
        arguments = command.replace("$PWD", "/tmp").split()[1:]
        assert parser.parse_args(arguments).command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text("utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"\bmake ([a-z0-9-]+)", (ROOT / "README.md").read_text()))
    assert named <= targets
