"""Append events so that SIGKILL loses none: one small unbuffered write per event, no flush to disk.

The page cache outlives the process, so a written line survives the death of the process. Only a crash of the machine
can lose it.
"""

import json
import os
from pathlib import Path
from typing import Any

from ecrl.records.clock import now_ns
from ecrl.storage.atomic import write_all


class Recorder:
    """Appends events to one file. Several threads may use it: each event is one O_APPEND write."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def event(self, kind: str, /, *, t: int | None = None, **fields: Any) -> None:
        """Record an event of `kind` with its fields (see events.py). t: its stamp; the current time by default."""
        line = json.dumps({"e": kind, "t": now_ns() if t is None else t, **fields}, separators=(",", ":"))
        write_all(self._fd, line.encode() + b"\n")

    def close(self) -> None:
        """Close the file; nothing was buffered."""
        os.close(self._fd)
