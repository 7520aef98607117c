"""Follows the records of a run while they are written, cheaply enough for twenty reads a second."""

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
    """Reads the new events of all ranks and attempts of a run.

    If a rank has made several steps since the last call, only the latest step is parsed; the analysis reads the rest.
    """

    def __init__(self, paths: RunPaths) -> None:
        self._paths = paths
        self._files: dict[tuple[int, int], FileTail] = {}
        self._folder_mtime_ns = -1

    def read(self) -> Iterator[tuple[int, int, Event]]:
        """Yields (attempt, rank, event) for every new event, file by file."""
        mtime_ns = self._paths.folder.stat().st_mtime_ns
        # A second change within one clock tick does not change the time, so a young time is not trusted.
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
    """The event of a whole line. A line that is no event becomes a `damaged` event."""
    try:
        # A line is one write, so a whole line is a whole event. The reader of the records names the damaged ones.
        event = json.loads(line)
    except ValueError:
        return {"e": "damaged"}
    return event if isinstance(event, dict) and "e" in event else {"e": "damaged"}
