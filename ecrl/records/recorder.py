"""Appending events so that SIGKILL loses none: one small unbuffered write an event, no flush to disk.

The page cache outlives the process, so a written line survives any death of the process; only a death of
the machine can take it.
"""

import json
import os
from pathlib import Path
from typing import Any

from ecrl.records.clock import now_ns
from ecrl.storage.atomic import write_all


class Recorder:
    """Appends events to one file. Safe to call from several threads: each event is one O_APPEND write."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def event(self, kind: str, /, *, t: int | None = None, **fields: Any) -> None:
        """Record `kind` at stamp `t` (now, if not given) with its fields (events.py lists them)."""
        line = json.dumps({"e": kind, "t": now_ns() if t is None else t, **fields}, separators=(",", ":"))
        write_all(self._fd, line.encode() + b"\n")

    def close(self) -> None:
        """Close the file; nothing was buffered."""
        os.close(self._fd)
