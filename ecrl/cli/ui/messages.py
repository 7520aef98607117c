"""Talking to the user: data on stdout, everything else on stderr, which may go away while ecrl works on."""

import errno
import io
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ecrl.errors import EcrlError


class _Descriptor(io.FileIO):
    """The descriptor of stdout or stderr. When it cannot be written it leads nowhere from then on, also what Python
    itself flushes at exit, and `on_error` says what that means."""

    def __init__(self, number: int, on_error: Callable[[OSError], None]) -> None:
        super().__init__(number, "w", closefd=False)
        self._on_error = on_error

    def write(self, data: Any) -> Any:
        """As a file's; raises what `on_error` does."""
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])  # somebody who has it, too, made it non-blocking
            return written
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            self._on_error(error)
            return len(data)


def _end_command(error: OSError) -> None:
    """End the command: quietly where the reader has gone, as SIGPIPE ends others.

    Raises:
        EcrlError: the disk that stdout goes to is full, or the like.
    """
    if error.errno == errno.EPIPE:
        raise SystemExit(128 + signal.SIGPIPE) from None
    raise EcrlError(
        "ECRL-105",
        f"stdout: {error.strerror}; what was printed is not all there is to say.\n"
        "Put that right, then type the same command again, or send it somewhere else.",
    ) from None


def _go_on(_error: OSError) -> None:
    """After a hang-up nobody is left to read messages, and that must not cost a run."""


def guard_streams() -> None:
    """Make stdout end the command when it cannot be written, and stderr outlive its terminal."""
    sys.stdout = _guard(sys.stdout, _end_command, line_buffering=sys.stdout is not None and sys.stdout.isatty())
    sys.stderr = _guard(sys.stderr, _go_on, line_buffering=True)


def _guard(stream: TextIO | None, on_error: Callable[[OSError], None], *, line_buffering: bool) -> TextIO:
    """The stream with this end; one to nowhere, if whoever started ecrl has closed it."""
    if stream is None:
        return Path(os.devnull).open("w")
    raw = io.BufferedWriter(_Descriptor(stream.fileno(), on_error))
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=line_buffering)


def can_draw(stream: TextIO) -> bool:
    """Whether it is a terminal on which things can move."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def print_message(text: str) -> None:
    """One message on stderr."""
    print(text, file=sys.stderr)


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
