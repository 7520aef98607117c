"""An append-only file of checksummed JSON records, one per line: `<crc32, 8 hex> <byte length> <json>` and a newline.

A record is durable when `append` returns. A torn or damaged line does not affect the other lines.
"""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecrl.storage.atomic import fsync_dir, write_all, write_atomic


def frame(record: Mapping[str, Any]) -> bytes:
    """The journal line of a record."""
    body = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
    return f"{zlib.crc32(body):08x} {len(body)} ".encode() + body + b"\n"


def unframe(line: bytes) -> dict[str, Any] | None:
    """The record of a line (newline included), or None if the line is torn or damaged."""
    crc, _, rest = line.partition(b" ")
    length, _, body = rest.partition(b" ")
    whole = body.endswith(b"\n") and length.isdigit() and len(body) == int(length) + 1
    if not whole or f"{zlib.crc32(body[:-1]):08x}".encode() != crc:
        return None
    record = json.loads(body)
    return record if isinstance(record, dict) else None


def read(path: Path, warnings: list[str]) -> list[dict[str, Any]]:
    """Every undamaged record in order. `warnings` names the dropped lines. An absent journal has no records."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    records = []
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        if (record := unframe(line)) is not None:
            records.append(record)
        elif line.strip():
            warnings.append(f"{path.name}: line {number} is torn or damaged and was dropped")
    return records


class Journal:
    """The writer of a journal. The first `append` opens the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def append(self, line: bytes) -> int:
        """Append one framed line and make it durable. Returns the new length of the journal in bytes.

        Raises:
            OSError: the disk is full or not writable. If the write failed, no part of the line remains.
        """
        fd = self._open()
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line  # the last line is torn; this one must not become part of it
        try:
            write_all(fd, line)
        except OSError:
            os.ftruncate(fd, size)
            raise
        os.fsync(fd)
        return size + len(line)

    def close(self) -> None:
        """Close the file. All its lines are durable already."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        if self._fd is None:
            new = not self.path.exists()
            if not new and self.path.stat().st_nlink > 1:
                write_atomic(
                    self.path, self.path.read_bytes()
                )  # a copy made of hard links: the original stays as it is
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            if new:
                fsync_dir(self.path.parent)
        return self._fd
