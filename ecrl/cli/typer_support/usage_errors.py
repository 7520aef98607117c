"""Behaviour that all commands share: messages for wrong usage and for Ctrl-C.

A usage error has one to three lines, with a did-you-mean and the next command to type.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from ecrl.cli.typer_support.environment import find_variable, note_variables
from ecrl.cli.ui.messages import guard_streams, print_message
from ecrl.errors import EXIT_USAGE, EcrlError, UnfitError, did_you_mean, unknown_name

_Function = TypeVar("_Function", bound=Callable[..., Any])
_INTERRUPTED = 130  # Typer's exit code for a KeyboardInterrupt
_NEVER_SUGGESTED = ("--rerun", "--yes", "--now", "--assume-dead")  # a slip must not set aside, remove or kill anything
_BAD_VALUES = {  # by pydantic's error type
    "int_parsing": "found {input!r}, expected a whole number",
    "float_parsing": "found {input!r}, expected a number",
    "greater_than_equal": "found {input}, expected at least {ge:g}",
    "less_than_equal": "found {input}, expected at most {le:g}",
}


def run(app: typer.Typer) -> None:
    """Run the command line and exit with its code. An `EcrlError` is passed on to the caller."""
    guard_streams()
    try:
        code = app(prog_name="ecrl", standalone_mode=False)
    finally:
        sys.stdout.flush()
    if code == _INTERRUPTED:  # commands that supervise workers handle SIGINT themselves
        print_message(
            "ecrl: stopped by SIGINT; every file is whole, the old one or the new one.\nType the same command again."
        )
    sys.exit(code if isinstance(code, int) else 0)


class EcrlCommand(TyperCommand):
    """A command whose errors name the source of a value: the environment variable if the value came from one."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. If an environment variable gave a value, an `EcrlError` names it instead of the option."""
        # Only at the beginning of a line of the message, where the option is the place of the problem.
        note_variables(self.params, ctx)
        try:
            return super().invoke(ctx)
        except EcrlError as error:
            text = str(error)
            for parameter in self.params:
                for option in parameter.opts if parameter.envvar else ():
                    text = re.sub(
                        rf"^{re.escape(option)}(?=: )", find_variable(parameter, ctx) or option, text, flags=re.M
                    )
            error.args = (text, *error.args[1:])
            raise


class LinuxCommand(EcrlCommand):
    """A command that starts processes, which ecrl does on Linux only."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, or say what is missing here."""
        if sys.platform != "linux":
            raise UnfitError("ECRL-520", _describe_platform(ctx.command_path))
        return super().invoke(ctx)


def _describe_platform(command: str) -> str:
    names = {"darwin": "macOS", "win32": "Windows"}
    return (
        f"{command}: found {names.get(sys.platform, sys.platform)}, expected Linux: its /proc, by which ecrl knows the"
        " processes that it started, and its clock that counts suspends are missing here; nothing was"
        " started.\nType the same command on a Linux machine, or in a virtual machine with Linux (on Windows: WSL 2)."
    )


class EcrlTyper(typer.Typer):
    """A Typer application whose commands are `EcrlCommand`s, and whose groups are `EcrlGroup`s."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"cls": EcrlGroup, **kwargs})

    def command(self, *args: Any, **kwargs: Any) -> Callable[[_Function], _Function]:
        """Register a command, as in Typer, with `EcrlCommand` as the default class."""
        return super().command(*args, **{"cls": EcrlCommand, **kwargs})


class EcrlGroup(TyperGroup):
    """A group of commands that reports wrong usage as an `EcrlError`."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line, as in Typer, but turn usage errors into an `EcrlError`."""
        try:
            return super().main(*args, **kwargs)
        except typer.BadParameter as error:
            raise EcrlError("ECRL-102", _bad_value(error)) from None
        except Exception as error:
            # Typer's usage errors share no public base class; they have a context and an exit code of 2.
            if getattr(error, "exit_code", None) != EXIT_USAGE or not hasattr(error, "ctx"):
                raise
            _explain(error)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that `args` begin with, as in Typer.

        Raises:
            EcrlError: there is none. The message names the nearest, wherever it is.
        """
        name = args[0]
        if ctx.resilient_parsing or name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        about = ctx.command_path.removeprefix("ecrl").strip()
        near = did_you_mean(name, self.commands) or _find_elsewhere(name, ctx.find_root().command)
        raise EcrlError(
            "ECRL-101",
            f"{about}{': ' if about else ''}no such command {name!r}.{near}\nType: {ctx.command_path} --help",
        )


def _find_elsewhere(name: str, root: Any) -> str:
    """' Did you mean X?' with the whole command of this name in another group; '' if there is none."""
    paths = {path.rpartition(" ")[2]: path for path in _list_commands("ecrl", root)}
    return f" Did you mean {paths[name]!r}?" if name in paths else ""


def _list_commands(path: str, command: Any) -> Iterator[str]:
    """Every command below this one, as the user types it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield f"{path} {name}"
        yield from _list_commands(f"{path} {name}", inner)


def _explain(error: Any) -> None:
    """Raise the message for one of Typer's usage errors.

    Raises:
        EcrlError: the usage error in one to three lines.
        SystemExit: a group was called without arguments; its help is printed.
    """
    if type(error).__name__ == "NoArgsIsHelpError":  # no mistake: the shortest way to ask for help
        print_message(error.format_message().rstrip())
        raise SystemExit(EXIT_USAGE)
    if type(error).__name__ == "NoSuchOption":
        parameters = error.ctx.command.params
        names = [name for each in parameters for name in (*each.opts, *each.secondary_opts) if name.startswith("--")]
        near = did_you_mean(error.option_name, [*(name for name in names if name not in _NEVER_SUGGESTED), "--help"])
        raise EcrlError(
            "ECRL-101", _append_next_command(error, f"unknown option {error.option_name!r}.{near}")
        ) from None
    message = error.format_message()
    if getattr(error, "option_name", None) == "--aa":  # before version 0.2 it had no value
        message += " Type e.g. --aa reference."
    raise EcrlError("ECRL-101", _append_next_command(error, message)) from None


def _bad_value(error: Any) -> str:
    """The message for an invalid value: its source, the problem, and the next command to type."""
    if type(error).__name__ != "BadParameter" or error.param is None or error.ctx is None:
        return _append_next_command(error, error.format_message())
    name = find_variable(error.param, error.ctx) or error.param.opts[0]
    return f"{name}: {_describe_bad_value(error)}.\nType: {error.ctx.command_path} --help"


def _describe_bad_value(error: Any) -> str:
    """What was found and expected, from the pydantic error that caused Typer's error; else Typer's message."""
    errors: Callable[[], list[Any]] = getattr(error.__cause__, "errors", list)
    for problem in errors():
        if wording := _BAD_VALUES.get(problem["type"]):
            return wording.format(input=problem["input"], **problem.get("ctx", {}))
    return str(error.message).rstrip(".")


def _append_next_command(error: Any, message: str) -> str:
    """The message with the command that it concerns in front, and the next command to type at the end."""
    path = error.ctx.command_path if error.ctx is not None else "ecrl"
    text = " ".join(message.split())
    about = path.removeprefix("ecrl").strip()
    no_prefix = type(error).__name__ == "MissingParameter" and "'--prefix'" in text
    hint = "List the campaigns: ecrl matrix list" if no_prefix else f"Type: {path} --help"
    sentence = text if text.endswith(("?", ".")) else f"{text}."
    return f"{about}{': ' if about else ''}{sentence[:1].lower()}{sentence[1:]}\n{hint}"


def check_choice(flag: str, found: str, valid: Sequence[str]) -> str:
    """Return `found` if it is a valid value.

    Raises:
        EcrlError: it is not. The message names the nearest valid value.
    """
    if found not in valid:
        raise EcrlError("ECRL-102", f"{flag}: {unknown_name('value', found, valid)}")
    return found
