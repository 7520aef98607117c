"""Every error of the user's has a stable code, and docs/errors.md says what it means and what to do."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ecrl import errors
from ecrl.errors import EcrlError, InvalidMatrixError, add_code

ROOT = Path(__file__).parent.parent
CODE = re.compile(r"ECRL-\d{3}")


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted((ROOT / "ecrl").rglob("*.py"))}


@cache
def error_classes() -> frozenset[str]:
    """The names of all subclasses of EcrlError, wherever they are defined."""
    found, grown = {"EcrlError"}, True
    definitions = [
        (node.name, {base.id for base in node.bases if isinstance(base, ast.Name)})
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    while grown:
        new = {name for name, bases in definitions if bases & found} - found
        found, grown = found | new, bool(new)
    return frozenset(found)


def used_codes() -> Iterator[tuple[str, str]]:
    """(code, where) of every code in the package."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                yield node.value, f"{path.relative_to(ROOT)}:{node.lineno}"


def documented() -> dict[str, str]:
    """The rows of docs/errors.md by code."""
    lines = (ROOT / "docs" / "errors.md").read_text().splitlines()
    return {match[1]: line for line in lines if (match := re.match(r"\| (ECRL-\d{3}) \|", line))}


def test_every_code_is_documented_once_with_meaning_and_cure_and_none_is_left_over() -> None:
    used, told = {code for code, _ in used_codes()}, documented()
    assert sorted(used - set(told)) == [], "in the code, not in the page"
    assert sorted(set(told) - used) == [], "in the page, not in the code"
    text = (ROOT / "docs" / "errors.md").read_text()
    assert all(len(re.findall(rf"^\| {code} \|", text, re.M)) == 1 for code in told)
    assert all(len([cell for cell in line.strip("|").split("|") if cell.strip()]) == 3 for line in told.values())


def test_every_error_of_the_users_is_made_with_a_literal_code() -> None:
    own = {"StoppedError", "DetachError"}  # they have one code, and say it themselves
    without = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in error_classes() - own
        if not (node.args and isinstance(node.args[0], ast.Constant) and CODE.fullmatch(str(node.args[0].value)))
    ]
    assert not without


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("one line.", "one line. [ECRL-999]"),
        ("found this.\nType: that", "found this. [ECRL-999]\nType: that"),
    ],
)
def test_a_message_shows_its_code_at_the_end_of_its_first_line(message: str, shown: str) -> None:
    assert EcrlError("ECRL-999", message).format_message() == shown
    assert str(EcrlError("ECRL-999", message)) == message


def test_every_problem_of_a_matrix_has_a_code_of_its_own() -> None:
    problems = [*add_code("ECRL-210", ["a"]), *add_code("ECRL-213", ["b"])]
    error = InvalidMatrixError("ECRL-204", "\n".join([*problems, "Correct them"]))
    assert error.codes == ("ECRL-210", "ECRL-213")
    assert error.format_message() == str(error)
    assert errors.InvalidMatrixError("ECRL-201", "no such file").codes == ("ECRL-201",)
