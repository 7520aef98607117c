"""docs/commands.md: every command with its arguments, options and environment variables, from the Typer application."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from docs.generate.pages import NOTICE, escape_html, format_table, join_blocks
from ecrl.cli.app import app

_INTRODUCTION = """
# Commands

stdout carries data, stderr messages and progress. `--json` prints one JSON document on stdout and nothing else. An
error is one to three lines: what was found, what was expected, and what to type next; [errors.md](errors.md) lists
them. An environment variable stands in for its flag: flag > environment > matrix file.
"""


def render_page() -> str:
    """The page."""
    root = get_command(app)
    commands = list(_list_commands("ecrl", root))
    summary = format_table(("command", "does"), [(_link(path), _get_first_sentence(c)) for path, c in commands])
    details = [block for path, command in commands for block in _render_command(path, command)]
    return join_blocks([NOTICE, _INTRODUCTION, summary, _render_exit_codes(root), *details])


def _list_commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that does something, in the order of --help."""
    found = getattr(command, "commands", None)
    if found is None:
        yield path, command
        return
    for name in command.list_commands(None):
        if not found[name].hidden:
            yield from _list_commands(f"{path} {name}", found[name])


def _link(path: str) -> str:
    return f"[`{path}`](#{path.replace(' ', '-')})"


def _get_first_sentence(command: Any) -> str:
    text = " ".join(command.help.split())
    head, stop, _ = text.partition(". ")
    return head + "." if stop else text


def _render_command(path: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    yield f"## {path}"
    needed = [f"{p.opts[0]} {_name_value(p)}" for p in options if p.required]
    named = [_name_value(p) if p.required else f"[{_name_value(p)}]" for p in arguments]
    more = ["[OPTIONS]"] if len(options) > len(needed) else []
    yield f"```text\n{' '.join([path, *needed, *named, *more])}\n```"
    yield from escape_html(command.help).split("\n\n")
    yield f"Example: `{command.epilog.removeprefix('Example: ')}`"
    rows = [(f"`{_name_value(p)}`", p.help or "", _describe_default(p), "") for p in arguments]
    rows += [
        (_name(p), p.help or "", _describe_default(p), ", ".join(f"`{name}`" for name in p.envvar or ()))
        for p in options
    ]
    yield format_table(("argument or option", "meaning", "default", "environment"), rows)


def _name(option: Any) -> str:
    names = " / ".join([*option.opts, *option.secondary_opts])
    return f"`{names}`" if option.is_flag else f"`{names} {_name_value(option)}`"


def _name_value(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.rstrip("_").upper())


def _describe_default(option: Any) -> str:
    if option.required:
        return "**needed**"
    given = option.default
    if given is None or given in (False, [], ()) or callable(given):
        return ""
    return f"`{option.opts[0]}`" if given is True else f"`{given}`"


def _render_exit_codes(root: Any) -> str:
    """The codes as `ecrl --help` tells them."""
    _, _, told = root.epilog.partition("Exit codes: ")
    codes = [item.strip().rstrip(".") for item in told.split(";")]
    rows = []
    for item in codes:
        numbers = [word for word in item.replace(",", " ").split() if word.isdigit()]
        text = item[item.rindex(numbers[-1]) + len(numbers[-1]) :].strip() if numbers else item
        rows.append((", ".join(numbers), text))
    return join_blocks(["## Exit codes", format_table(("code", "meaning"), rows)])
