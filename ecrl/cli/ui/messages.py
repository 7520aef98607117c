"""Talking to the user: data on stdout, everything else on stderr, which may go away while ecrl works on."""

import errno
import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from ecrl.errors import EcrlError


class ResilientStderr:
    """stderr as a file that survives its terminal: after a hang-up or a closed pipe there is nobody left to read,
    and that must not cost a run. From then on it writes to nowhere."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Write and flush; never raises for a reader that has gone."""
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)  # also for what Python itself flushes at exit
            os.close(nowhere)
        return len(text)

    def flush(self) -> None:
        """Everything was flushed by `write`."""

    def isatty(self) -> bool:
        """Whether a person is watching."""
        return sys.stderr.isatty()

    def fileno(self) -> int:
        """The descriptor of stderr."""
        return sys.stderr.fileno()


STDERR = ResilientStderr()


class _CheckedStdout(io.FileIO):
    """The descriptor of stdout. What cannot be written ends the command: quietly where the reader has gone, as SIGPIPE
    ends others, else with an error that is the user's to solve."""

    def write(self, data: Any) -> Any:
        """As a file's.

        Raises:
            EcrlError: the disk that stdout goes to is full, or the like.
        """
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # for what Python itself flushes at exit
            os.close(nowhere)
            if error.errno == errno.EPIPE:
                raise SystemExit(128 + signal.SIGPIPE) from None
            raise EcrlError(
                "ECRL-105",
                f"stdout: {error.strerror}; what was printed is not all there is to say.\n"
                "Put that right, then type the same command again, or send it somewhere else.",
            ) from None


def open_checked_stdout() -> TextIO:
    """stdout, its errors told as `_CheckedStdout` does; nowhere, if whoever started ecrl has closed it."""
    if sys.stdout is None:
        return Path(os.devnull).open("w")
    raw = io.BufferedWriter(_CheckedStdout(sys.stdout.fileno(), "w", closefd=False))
    return io.TextIOWrapper(raw, sys.stdout.encoding, sys.stdout.errors, line_buffering=sys.stdout.isatty())


def can_draw(stream: TextIO | ResilientStderr) -> bool:
    """Whether it is a terminal on which things can move."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def print_message(text: str) -> None:
    """One message on stderr."""
    STDERR.write(text + "\n")


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on stdout. A value that is an iterator becomes a list, an element a line, each written as it
    comes: of 100,000 suites nobody reads an indented one, or has them all in memory."""
    if not any(isinstance(value, Iterator) for value in document.values()):
        sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        return
    encode, before = json.JSONEncoder(ensure_ascii=False).encode, "{\n "
    for key, value in document.items():
        sys.stdout.write(f"{before}{encode(key)}: ")
        before = ",\n "
        if not isinstance(value, Iterator):
            sys.stdout.write(encode(value))
            continue
        between = "[\n  "
        for element in value:
            sys.stdout.write(between + encode(element))
            between = ",\n  "
        sys.stdout.write("[]" if between.startswith("[") else "\n ]")
    sys.stdout.write("\n}\n")


def plain_table(header: list[str], rows: list[list[str]]) -> str:
    """Columns padded with spaces, the last one not; for pipes and logs."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows])
    return "\n".join(line.rstrip() for line in lines)
