"""Every help page: an example that can be typed, no line too long, one word for one thing, and the order of use."""

import re
import shlex
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from ecrl.cli.app import app

WIDTH = 80
SUMMARY_WIDTH = 60
_ROOT: Any = get_command(app)


def _list_pages(words: tuple[str, ...], command: Any) -> list[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", {})
    return [(words, command), *(page for name in inner for page in _list_pages((*words, name), inner[name]))]


PAGES = _list_pages((), _ROOT)
IDS = [" ".join(("ecrl", *words)) for words, _ in PAGES]
page = pytest.mark.parametrize(("words", "command"), PAGES, ids=IDS)


def _show(words: tuple[str, ...]) -> str:
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    return done.stdout


@page
def test_it_fits_and_cuts_no_summary(words: tuple[str, ...], command: Any) -> None:
    shown = _show(words)
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert not re.search(r"\.\.\.$", shown.partition("Commands:")[2], re.MULTILINE)
    assert words == () or len(command.help.splitlines()[0]) <= SUMMARY_WIDTH


@page
def test_it_has_an_example_that_can_be_typed(words: tuple[str, ...], command: Any) -> None:  # noqa: ARG001
    examples = re.findall(r"^  Example: (ecrl .*)$", _show(words), re.MULTILINE)
    assert len(examples) == 1, "none, or it is wrapped"
    typed = shlex.split(examples[0])[1:]
    assert tuple(typed[: len(words)]) == words
    inner = _ROOT
    while getattr(inner, "commands", None):
        inner = inner.commands[typed.pop(0)]
    context = inner.make_context(inner.name, typed)  # raises if an option or argument is not there
    assert context.params


def test_one_thing_has_one_metavar() -> None:
    named: dict[str, set[str]] = {}
    for _, command in PAGES:
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.is_flag:
                assert parameter.metavar, f"{command.name} {parameter.opts[0]}"
                named.setdefault(parameter.opts[0], set()).add(parameter.metavar)
    several = {option: metavars for option, metavars in named.items() if len(metavars) > 1}
    assert several == {  # one number or a list of them; other things
        "--checkpoint-every": {"N", "N,M"},
        "--max-inflight": {"N", "N,M"},
        "--device": {"auto|cpu|cuda", "cpu|cuda"},
        "--out": {"DIR", "FILE", "FILE|DIR"},
    }


def test_commands_are_listed_in_the_order_of_use() -> None:
    def listed(*words: str) -> list[str]:
        return re.findall(
            r"^  ([a-z]+) ", _show(words).partition("Commands:")[2].partition("Example:")[0], re.MULTILINE
        )

    assert listed() == _ROOT.list_commands(None)
    assert set(listed()) == set(_ROOT.commands)
    assert listed().index("doctor") < listed().index("matrix") < listed().index("report") < listed().index("advise")
    assert listed("matrix") == [
        "plan",
        "run",
        "status",
        "show",
        "list",
        "attach",
        "stop",
        "resume",
        "clean",
        "archive",
        "delete",
    ]
