"""End a rank's process immediately after its last record."""

import contextlib
import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End this process. With code 0, skip the interpreter's shutdown. Call it after the last event is recorded.

    Raises:
        SystemExit: `code` is not 0; tracebacks and exit handlers then work as usual.
    """
    if code:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the records are complete; a full disk must not fail the run for its log
            stream.flush()
    # Threads of gloo may outlive their group, and C++ then aborts the process at its end ("terminate called without an
    # active exception", pytorch#190489): in 1 of 65 runs a finished rank would count as a crash.
    os._exit(0)
