"""Files that are either whole or absent: temp, flush, fsync, replace, directory fsync."""

import os
from pathlib import Path


def fsync_dir(folder: Path) -> None:
    """Make the names in `folder` durable: a new or replaced file survives power loss only after this."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte: `os.write` may take fewer (a nearly full disk, 2 GiB per call)."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` with `data` so that a reader, or a machine that dies, sees the old bytes or the new ones.

    Raises:
        OSError: disk full, not writable; the old file is untouched and the temporary one removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)  # noqa: PTH105 (the pair of os calls reads as one)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)
