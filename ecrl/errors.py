"""Errors that the user can solve: one to three lines, an exit code, and the next command to type.

Any other exception is a bug in ecrl and keeps its traceback (exit code 1).
"""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_SOME_FAILED = 4
EXIT_HELD = 5
EXIT_UNFIT = 6

_SHOWN_PATH = 200  # characters of a path in a message


class EcrlError(Exception):
    """A problem that the user can solve. `str(error)` is the whole message: found, expected, next command.

    code: the kind of problem, e.g. 'ECRL-303'. Codes do not change with the wording; docs/errors.md lists them.
    """

    exit_code = EXIT_USAGE

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def format_message(self) -> str:
        """The message with the error's code at the end of its first line, unless that line already ends in a code."""
        first, newline, rest = str(self).partition("\n")
        return str(self) if first.endswith("]") and "[ECRL-" in first else f"{first} [{self.code}]{newline}{rest}"


class InvalidMatrixError(EcrlError):
    """A matrix cannot be run. The message lists every problem, each with its own code."""

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of all problems, in the order of the message."""
        return tuple(re.findall(r"\[(ECRL-\d+)\]$", str(self), re.MULTILINE)) or (self.code,)


def add_code(code: str, problems: Iterable[str]) -> list[str]:
    """Append the code to each problem of a matrix, at the end of its line."""
    return [f"{problem} [{code}]" for problem in problems]


class DataMissingError(EcrlError):
    """A data set was not found, or its files fail their checksums."""


class PrefixHeldError(EcrlError):
    """Another ecrl process is working on this prefix."""

    exit_code = EXIT_HELD


class UnfitError(EcrlError):
    """This machine cannot run the matrix; raised before the start, because a run would fail only later."""

    exit_code = EXIT_UNFIT


class RecordError(EcrlError):
    """A file that ecrl wrote (manifest, journal, run.json, events) cannot be read any more, or its content changed."""


def did_you_mean(found: str, valid: Iterable[str]) -> str:
    """' Did you mean X?' with the nearest valid name; '' if no valid name is near."""
    near = find_nearest(found, valid)
    return "" if near is None else f" Did you mean {near!r}?"


def find_nearest(found: str, valid: Iterable[str]) -> str | None:
    """The valid name that a misspelt one may stand for; None if none is near."""
    return next(iter(difflib.get_close_matches(found, list(valid), n=1, cutoff=0.6)), None)


def unknown_name(what: str, found: str, valid: Iterable[str]) -> str:
    """A message for an unknown name: what was found, a did-you-mean, and the valid names."""
    names = sorted(valid)
    return f"unknown {what} {found!r}.{did_you_mean(found, names)} Valid: {', '.join(names)}"


def explain_os_error(error: OSError) -> EcrlError:
    """The error for what the operating system refused, where nothing more is known of it."""
    where = _name_place() if error.filename is None else str(error.filename)
    if len(where) > _SHOWN_PATH:
        where = f"{where[:_SHOWN_PATH]}..."
    return EcrlError(
        "ECRL-514",
        f"{where}: {error.strerror or error}. Expected that ecrl can use it.\n"
        "Put that right, or name another file or folder, then type the same command again.",
    )


def _name_place() -> str:
    """What an error that names no file is about."""
    try:
        Path.cwd()
    except OSError:
        return "the current folder"  # it was removed
    return "this machine"
