"""How every command behaves: wrong usage in one to three lines with a did-you-mean and the next command to type,
and Ctrl-C with a word."""

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from ecrl.cli.ui.messages import guard_streams, print_message
from ecrl.errors import EXIT_USAGE, EcrlError, did_you_mean, unknown_name

_Function = TypeVar("_Function", bound=Callable[..., Any])
_INTERRUPTED = 130  # what Typer makes of a KeyboardInterrupt
_BAD_VALUES = {  # by pydantic's type of an error
    "int_parsing": "found {input!r}, expected a whole number",
    "float_parsing": "found {input!r}, expected a number",
    "greater_than_equal": "found {input}, expected at least {ge:g}",
    "less_than_equal": "found {input}, expected at most {le:g}",
}


def run(app: typer.Typer) -> None:
    """Run the command line and exit with its code; an `EcrlError` comes out as it is."""
    guard_streams()
    try:
        code = app(prog_name="ecrl", standalone_mode=False)
    finally:
        sys.stdout.flush()
    if code == _INTERRUPTED:  # commands that supervise workers have handlers of their own and never come here
        print_message(
            "ecrl: stopped by SIGINT; every file is whole, the old one or the new one. Type the same command again."
        )
    sys.exit(code if isinstance(code, int) else 0)


class EcrlCommand(TyperCommand):
    """A command whose errors name what the user gave: the environment variable, where a value came from one."""

    def invoke(self, ctx: Any) -> Any:
        """As Typer's; an `EcrlError` that begins a line with an option tells it by its variable, if that gave it."""
        try:
            return super().invoke(ctx)
        except EcrlError as error:
            text = str(error)
            for parameter in self.params:
                for option in parameter.opts if parameter.envvar else ():
                    text = re.sub(
                        rf"^{re.escape(option)}(?=: )", get_value_source(parameter, ctx, option), text, flags=re.M
                    )
            error.args = (text, *error.args[1:])
            raise


class EcrlTyper(typer.Typer):
    """A Typer application whose commands are `EcrlCommand`s."""

    def command(self, *args: Any, **kwargs: Any) -> Callable[[_Function], _Function]:
        """As Typer's."""
        return super().command(*args, **{"cls": EcrlCommand, **kwargs})


def get_value_source(parameter: Any, ctx: Any, option: str) -> str:
    """What gave a parameter its value: its environment variable, else the option."""
    given = ctx.get_parameter_source(parameter.name)
    return str(parameter.envvar) if given is not None and given.name == "ENVIRONMENT" else option


class EcrlGroup(TyperGroup):
    """A group of commands that explains wrong usage as ecrl explains everything."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As Typer's, wrong usage turned into an `EcrlError`."""
        try:
            return super().main(*args, **kwargs)
        except typer.BadParameter as error:
            raise EcrlError("ECRL-102", _bad_value(error)) from None
        except Exception as error:
            # Typer's usage errors share no public base class; they have a context and an exit code of 2.
            if getattr(error, "exit_code", None) != EXIT_USAGE or not hasattr(error, "ctx"):
                raise
            _explain(error)


def _explain(error: Any) -> None:
    """Raise what to say about Typer's usage error.

    Raises:
        EcrlError: the same in one to three lines.
    """
    if type(error).__name__ == "NoArgsIsHelpError":  # the help was asked for, in the shortest way
        print_message(error.format_message().rstrip())
        raise SystemExit(EXIT_USAGE)
    if type(error).__name__ == "NoSuchOption":
        options = [name for parameter in error.ctx.command.params for name in parameter.opts if name.startswith("--")]
        near = did_you_mean(error.option_name, [*options, "--help"])
        raise EcrlError(
            "ECRL-101", _append_next_command(error, f"unknown option {error.option_name!r}.{near}")
        ) from None
    raise EcrlError("ECRL-101", _append_next_command(error, error.format_message())) from None


def _bad_value(error: Any) -> str:
    """What is wrong with a value, by the name of what gave it, and the command to type."""
    if type(error).__name__ != "BadParameter" or error.param is None or error.ctx is None:
        return _append_next_command(error, error.format_message())
    name = get_value_source(error.param, error.ctx, error.param.opts[0])
    return f"{name}: {_describe_bad_value(error)}.\nType: {error.ctx.command_path} --help"


def _describe_bad_value(error: Any) -> str:
    """What was found and what was expected, from pydantic's error behind Typer's; else Typer's own words."""
    errors: Callable[[], list[Any]] = getattr(error.__cause__, "errors", list)
    for problem in errors():
        if wording := _BAD_VALUES.get(problem["type"]):
            return wording.format(input=problem["input"], **problem.get("ctx", {}))
    return str(error.message).rstrip(".")


def _append_next_command(error: Any, message: str) -> str:
    """The message, begun with the command it is about and followed by the one to type."""
    path = error.ctx.command_path if error.ctx is not None else "ecrl"
    text = " ".join(message.split())
    about = path.removeprefix("ecrl").strip()
    no_prefix = type(error).__name__ == "MissingParameter" and "'--prefix'" in text
    hint = "See what is there: ecrl matrix list" if no_prefix else f"Type: {path} --help"
    sentence = text if text.endswith(("?", ".")) else f"{text}."
    return f"{about}{': ' if about else ''}{sentence[:1].lower()}{sentence[1:]}\n{hint}"


def check_choice(flag: str, found: str, valid: Sequence[str]) -> str:
    """The value, if it is one of the valid ones.

    Raises:
        EcrlError: it is not; the message names the nearest.
    """
    if found not in valid:
        raise EcrlError("ECRL-102", f"{flag}: {unknown_name('value', found, valid)}")
    return found
