"""Following the records of a run while it writes them, cheaply enough to do it twenty times a second."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecrl.records.paths import RunPaths

_STEP = b'{"e":"step",'
_CHUNK_BYTES = 1 << 20
_SETTLED_NS = 10**9

Event = dict[str, Any]


class FileTail:
    """New whole lines of one growing file."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self._rest = b""

    def lines(self) -> list[bytes]:
        """Lines completed since the last call, without their newlines."""
        new = []
        while chunk := os.read(self._fd, _CHUNK_BYTES):
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            new += whole
            if len(chunk) < _CHUNK_BYTES:
                break
        return new

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class EventTail:
    """New events of all ranks and attempts of a run. Of the steps that a rank made since the last call only the
    latest is parsed: the rest is for the analysis."""

    def __init__(self, paths: RunPaths) -> None:
        self._paths = paths
        self._files: dict[tuple[int, int], FileTail] = {}
        self._folder_mtime_ns = -1

    def read(self) -> Iterator[tuple[int, int, Event]]:
        """(attempt, rank, event) for what is new, file by file."""
        mtime_ns = self._paths.folder.stat().st_mtime_ns
        # A change within the clock tick of the last look leaves the time as it was: not trusted while young.
        young = time.time_ns() - mtime_ns < _SETTLED_NS
        if young or mtime_ns != self._folder_mtime_ns:
            self._folder_mtime_ns = mtime_ns
            for key, path in self._paths.all_events().items():
                if key not in self._files:
                    self._files[key] = FileTail(path)
        for (attempt, rank), tail in sorted(self._files.items()):
            lines = tail.lines()
            last_step = max((i for i, line in enumerate(lines) if line.startswith(_STEP)), default=-1)
            for i, line in enumerate(lines):
                if not line.startswith(_STEP) or i == last_step:
                    yield attempt, rank, _parse(line)

    def close(self) -> None:
        """Close every file."""
        for tail in self._files.values():
            tail.close()


def _parse(line: bytes) -> Event:
    """A line is one write, so a whole one is a whole event; a damaged one is for the reader to name."""
    try:
        event = json.loads(line)
    except ValueError:
        return {"e": "damaged"}
    return event if isinstance(event, dict) and "e" in event else {"e": "damaged"}
