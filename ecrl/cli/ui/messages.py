"""Output to the user: data on stdout, everything else on stderr. ecrl continues if stderr is closed."""

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

_STDERR = 2


class _Descriptor(io.FileIO):
    """The descriptor of stdout or stderr. A failed write redirects it to /dev/null and calls `on_error`."""

    # The redirection also keeps Python's own flush at exit from failing.

    def __init__(self, number: int, on_error: Callable[[OSError], None]) -> None:
        super().__init__(number, "w", closefd=False)
        self._on_error = on_error

    def write(self, data: Any) -> Any:
        """Write `data`, as a file does; wait if the descriptor is not ready. Raises what `on_error` raises."""
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])  # another process that shares it made it non-blocking
            return written
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            self._on_error(error)
            return len(data)


def _end_command(error: OSError) -> None:
    """End the command because stdout cannot be written.

    Raises:
        SystemExit: the reader has closed the pipe; the exit code is that of a command ended by SIGPIPE.
        EcrlError: any other reason, e.g. a full disk.
    """
    if error.errno == errno.EPIPE:
        raise SystemExit(128 + signal.SIGPIPE) from None
    raise EcrlError(
        "ECRL-105",
        f"stdout: {error.strerror}; the output is incomplete.\n"
        "Put that right, or send stdout elsewhere, then type the same command again.",
    ) from None


def _go_on(_error: OSError) -> None:
    """Ignore the error."""
    # After a hang-up nobody reads the messages; the runs must continue.


def guard_streams() -> None:
    """Replace stdout and stderr: a failed write to stdout ends the command, a failed write to stderr is ignored."""
    _fill_closed_descriptors()
    sys.stdout = _guard(sys.stdout, _end_command, line_buffering=sys.stdout is not None and sys.stdout.isatty())
    sys.stderr = _guard(sys.stderr, _go_on, line_buffering=True)


def _fill_closed_descriptors() -> None:
    """Open /dev/null in place of a stdin, stdout or stderr that is closed."""
    # Else the next file to be opened, a lock or an answer of a child, would be stdin or stdout, here and in children.
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(fd, True)
    os.close(fd)


def _guard(stream: TextIO | None, on_error: Callable[[OSError], None], *, line_buffering: bool) -> TextIO:
    """The stream with `on_error` for failed writes; a stream to /dev/null if ecrl was started with it closed."""
    if stream is None:
        return Path(os.devnull).open("w")
    raw = io.BufferedWriter(_Descriptor(stream.fileno(), on_error))
    # A terminal or locale that lacks a character shows its number instead of ending the command.
    errors = "backslashreplace" if stream.errors == "strict" else stream.errors
    return io.TextIOWrapper(raw, stream.encoding, errors, line_buffering=line_buffering)


def can_draw(stream: TextIO) -> bool:
    """Whether the stream is a terminal that can be redrawn."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def print_message(text: str) -> None:
    """Print one message on stderr."""
    print(text, file=sys.stderr)


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document on stdout.

    A value that is an iterator becomes a list with one element per line; each element is written when it is produced.
    """
    # 100,000 suites are too many to hold in memory or to read indented.
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
    """A table for pipes and logs: columns padded with spaces, without trailing spaces."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows])
    return "\n".join(line.rstrip() for line in lines)
