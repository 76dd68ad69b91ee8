"""Every alarm that the code can raise has its section: what it means, what to check, what to do."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tft_core.checks import rules
from tft_core.evidence.tracking import Tracked
from tft_core.feature_selection.report import NOT_ABOVE_CHANCE
from tft_core.training_pipeline.graph import CHECKS
from tft_core.training_pipeline.tracking import FIGURES
from tft_core.upkeep.alerts import ALARM_CODES, code_section

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "runbook.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S))
DYNAMIC = {
    # codes that are put together at run time, by the expression in the f-string
    "check": {"bars_are_sane"},  # argument of a helper of that check
    "code": set(rules._BROKEN + rules._SUSPICIOUS),
    "report.verdict": {NOT_ABOVE_CHANCE},
}


@cache
def finding_calls() -> list[tuple[Path, ast.Call, ast.FunctionDef]]:
    """Each call of ``Finding`` with the function it stands in."""
    return [
        (path, node, function)
        for path in sorted((ROOT / "tft_core").rglob("*.py"))
        for function in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"
    ]


def codes_of(call: ast.Call, function: ast.FunctionDef) -> set[str]:
    """The codes that a call of ``Finding`` can have, read off the source."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if None in given:  # Finding(**stored): a finding that was made elsewhere
        return set()
    code = given.get("code", call.args[0] if call.args else None)
    if isinstance(code, ast.Constant):
        return {code.value}
    if isinstance(code, ast.Name):  # from a loop over pairs of constants
        return {
            item.elts[0].value
            for loop in ast.walk(function)
            if isinstance(loop, ast.For) and any(node is call for node in ast.walk(loop))
            for item in getattr(loop.iter, "elts", ())
        }
    assert isinstance(code, ast.JoinedStr), ast.dump(call)
    codes = {""}
    for part in code.values:
        if isinstance(part, ast.Constant):
            choices = {part.value}
        else:
            choices = values_of(ast.unparse(part.value), function)
        codes = {left + right for left in codes for right in choices}
    return codes


def values_of(expression: str, function: ast.FunctionDef) -> set[str]:
    assigned = {
        node.value.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and getattr(node.targets[0], "id", None) == expression
        and isinstance(node.value, ast.Constant)
    }
    if assigned:
        return assigned
    assert expression in DYNAMIC, f"a finding's code is made from {expression}: name its values"
    return DYNAMIC[expression]


def raised_codes() -> set[str]:
    return {code for _, call, inside in finding_calls() for code in codes_of(call, inside)}


def test_the_source_raises_the_findings_that_this_test_reads_off_it() -> None:
    codes = raised_codes()
    assert {"data_is_fresh", "features_are_causal", "bars_are_sane.spike"} <= codes
    assert len(codes) > 25
    for path, call, inside in finding_calls():
        stored = any(keyword.arg is None for keyword in call.keywords)
        assert stored or codes_of(call, inside), f"{path}:{call.lineno}"


ALL_CODES = sorted(
    raised_codes() | set(ALARM_CODES) | {spec.name for specs in CHECKS.values() for spec in specs}
)


@pytest.mark.parametrize("code", ALL_CODES)
def test_every_code_has_a_section_and_its_detail_is_explained_there(code: str) -> None:
    text = SECTIONS[code_section(code)]
    detail = code.partition(".")[2]
    assert not detail or f"`{detail}`" in text or f"`{code}`" in text


@pytest.mark.parametrize("title", sorted(SECTIONS))
def test_a_section_says_what_it_means_what_to_check_and_what_to_do(title: str) -> None:
    if title == "gate_passed":  # leads to another one
        assert "(#gate_refused)" in SECTIONS[title]
        return
    for label in ("Means", "Check", "Act"):
        assert f"- **{label}** " in SECTIONS[title]


def test_no_section_is_about_something_that_is_never_raised() -> None:
    raised = {code_section(code) for code in ALL_CODES}
    assert set(SECTIONS) == raised | {"track_outside_band"}
    assert Tracked("net", 1.0, 0.0, 0.5, 100, 100).verdict == "outside"
    assert all(f"`{name}`" in SECTIONS["track_outside_band"] for name in FIGURES)
