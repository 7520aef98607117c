"""Options of plugins: declared as a literal, resolved and checked without importing the plugin."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecrl import plugins
from ecrl.config.options import get_declared_options, get_legacy_options, validate_options

PLUGIN = """
import a_module_that_is_not_there
PLUGIN = Thing(
    make=a_module_that_is_not_there.make,
    options={
        "threads": {"type": "int", "default": 2, "legacy": 1, "ge": 1, "le": 64, "help": "threads that write"},
        "share": {"type": "float", "default": 0.5, "legacy": 0.0, "ge": 0, "lt": 1, "help": "of the memory"},
        "fsync": {"type": "bool", "default": False, "legacy": False, "help": "whether it is flushed"},
        "wait": {"type": "float", "default": 1.5, "legacy": 1.5, "help": "seconds"},
        "tier": {"type": "str", "default": "disk", "legacy": "disk", "choices": ("disk", "memory"), "help": "where"},
    },
)
"""
DEFAULTS = {"threads": 2, "share": 0.5, "fsync": False, "wait": 1.5, "tier": "disk"}
LEGACY = {"threads": 1, "share": 0.0, "fsync": False, "wait": 1.5, "tier": "disk"}
KEYS = {"type", "default", "legacy", "help", "ge", "gt", "le", "lt", "choices"}
FAMILIES = ("engine", "failure kind")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more family, `thing`, of two members."""
    (tmp_path / "fine.py").write_text(PLUGIN)
    (tmp_path / "plain.py").write_text("PLUGIN = Thing()")
    own = plugins._folder
    monkeypatch.setattr(plugins, "_folder", lambda family: tmp_path if family == "thing" else own(family))
    plugins.names.cache_clear()
    plugins.declared.cache_clear()
    yield
    plugins.names.cache_clear()
    plugins.declared.cache_clear()


def test_absent_options_are_at_their_defaults_and_in_older_files_at_their_legacy_values() -> None:
    assert validate_options("thing", "fine", {}) == (DEFAULTS, {})
    assert validate_options("thing", "fine", {}, frozen=True) == (LEGACY, {})
    assert get_legacy_options("thing", "fine") == LEGACY
    assert "a_module_that_is_not_there" not in sys.modules


def test_given_options_take_their_place() -> None:
    given = {"threads": 64, "share": 0, "fsync": True, "wait": -3.5, "tier": "memory"}
    resolved, problems = validate_options("thing", "fine", given, frozen=True)
    assert (resolved, problems) == (given, {})
    assert isinstance(resolved["share"], float)  # one text in every file, whether 0 or 0.0 was typed


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        ({"threads": 0}, ("found 0", ">= 1 and <= 64")),
        ({"threads": 65}, ("found 65", ">= 1 and <= 64")),
        ({"threads": True}, ("found True", ">= 1 and <= 64")),
        ({"threads": 2.0}, ("found 2.0", "whole number", ">= 1 and <= 64")),
        ({"share": 1}, ("found 1", ">= 0 and < 1")),
        ({"share": float("nan")}, ("found nan", ">= 0 and < 1")),
        ({"wait": float("inf")}, ("found inf",)),
        ({"share": "half"}, ("found 'half'", ">= 0 and < 1")),
        ({"fsync": 1}, ("found 1", "true or false")),
        ({"tier": "tape"}, ("found 'tape'", "'disk', 'memory'")),
        ({"tier": 3}, ("found 3", "'disk', 'memory'")),
        ({"thread": 2}, ("thing fine", "'thread'", "'threads'", "fsync, share, threads, tier, wait")),
    ],
)
def test_a_wrong_option_is_told_with_what_is_expected(given: dict[str, Any], facts: tuple[str, ...]) -> None:
    resolved, problems = validate_options("thing", "fine", given)
    assert problems.keys() == given.keys()
    assert all(fact in problem for problem in problems.values() for fact in facts), problems
    assert resolved == DEFAULTS


def test_a_member_without_options_takes_none() -> None:
    resolved, problems = validate_options("thing", "plain", {"threads": 2})
    assert resolved == {}
    assert "thing plain" in problems["threads"]
    assert "'threads'" in problems["threads"]
    assert validate_options("thing", "plain", {}) == ({}, {})


@pytest.mark.parametrize(("family", "name"), [(f, n) for f in FAMILIES for n in plugins.names(f)])
def test_every_declaration_is_whole_and_holds_for_its_own_values(family: str, name: str) -> None:
    for option, told in get_declared_options(family, name).items():
        assert {"type", "default", "legacy", "help"} <= told.keys() <= KEYS, option
        for value in (told["default"], told["legacy"]):
            assert validate_options(family, name, {option: value})[1] == {}, option
        for value in told.get("choices", ()):
            assert validate_options(family, name, {option: value})[1] == {}, option
