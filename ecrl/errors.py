"""Errors that are the user's to solve: one to three lines, an exit code, and the next command to type.

Anything that is not an `EcrlError` is a bug of ours and keeps its traceback (exit 1).
"""

import difflib
import re
from collections.abc import Iterable

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_SOME_FAILED = 4
EXIT_HELD = 5
EXIT_UNFIT = 6


class EcrlError(Exception):
    """Something the user can put right. `str(error)` is the whole message: found, expected, next command.

    code: what kind of problem it is ('ECRL-303'); it stays when the wording changes. docs/errors.md has them all.
    """

    exit_code = EXIT_USAGE

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def format_message(self) -> str:
        """The message with its code at the end of the first line, unless that has a code of its own."""
        first, newline, rest = str(self).partition("\n")
        return str(self) if first.endswith("]") and "[ECRL-" in first else f"{first} [{self.code}]{newline}{rest}"


class InvalidMatrixError(EcrlError):
    """A matrix that cannot be run; the message lists every problem found in one pass, each with its own code."""

    @property
    def codes(self) -> tuple[str, ...]:
        """The code of every problem, in the order of the message."""
        return tuple(re.findall(r"\[(ECRL-\d+)\]$", str(self), re.MULTILINE)) or (self.code,)


def add_code(code: str, problems: Iterable[str]) -> list[str]:
    """Each problem of a matrix with its code at the end of its line."""
    return [f"{problem} [{code}]" for problem in problems]


class DataMissingError(EcrlError):
    """A data set that is not where it was looked for, or whose files fail their checksums."""


class PrefixHeldError(EcrlError):
    """Another ecrl works on this prefix."""

    exit_code = EXIT_HELD


class RecordError(EcrlError):
    """A file that ecrl wrote (manifest, journal, run.json, events) no longer reads as what it was."""


def did_you_mean(found: str, valid: Iterable[str]) -> str:
    """' Did you mean X?' for the nearest valid name, or '' when nothing is near."""
    near = difflib.get_close_matches(found, list(valid), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def unknown_name(what: str, found: str, valid: Iterable[str]) -> str:
    """One sentence for an unknown name: what was found, a did-you-mean, and the valid names."""
    names = sorted(valid)
    return f"unknown {what} {found!r}.{did_you_mean(found, names)} Valid: {', '.join(names)}"
