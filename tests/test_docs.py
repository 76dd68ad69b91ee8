"""Every Python block of the docs runs; every command, setting and file they name exists."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from dagster._cli import cli as dagster_cli
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config_schema

from tft_core.cli import build_parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
SOURCES = [p for folder in ("tft_core", "tft_assets") for p in (ROOT / folder).rglob("*.py")]


def blocks(language):
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(
            re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.S)
        )
    ]


@pytest.mark.parametrize("block", blocks("python"))
def test_the_python_block_runs(block):
    exec(compile(block, "docs", "exec"), {"__name__": "docs"})


@pytest.mark.parametrize("block", blocks("yaml"))
def test_the_yaml_block_is_part_of_a_dagster_instance(block, monkeypatch):
    for variable in re.findall(r"env: ([A-Z_]+)", block):
        monkeypatch.setenv(variable, "set")
    checked = process_config(dagster_instance_config_schema(), yaml.safe_load(block))
    assert checked.success, checked.errors


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_dagster_command_of_the_page_parses(page):
    for line in re.findall(r"^\s+(dagster [a-z][^#\n`]*)", page.read_text("utf-8"), re.M):
        command, arguments = dagster_cli, shlex.split(line)[1:]
        while hasattr(command, "commands"):
            command = command.commands[arguments.pop(0)]
        command.make_context(line, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_of_the_page_is_read_by_the_code(page):
    named = set(re.findall(r"\bTFT_[A-Z_]*[A-Z]\b", page.read_text("utf-8")))
    code = "".join(path.read_text("utf-8") for path in SOURCES)
    assert {name for name in named if f'"{name}"' not in code} == set()


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_of_the_page_exists(page):
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^\s+)make ([a-z0-9-]+)", page.read_text("utf-8"), re.M))
    assert named <= targets
