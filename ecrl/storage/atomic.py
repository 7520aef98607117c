"""Atomic file writes: write a temporary file, fsync it, replace the target, fsync the directory."""

import os
from pathlib import Path


def fsync_dir(folder: Path) -> None:
    """Make the names in `folder` durable. A new or replaced file survives power loss only after this."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte of `data`."""
    # `os.write` may write fewer bytes: on a nearly full disk, or beyond 2 GiB per call.
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the content of `path` with `data`. Readers see the old or the new bytes, also after a machine crash.

    Raises:
        OSError: the disk is full or not writable. The temporary file is removed; the old file is unchanged unless
            only the last step, the fsync of the directory, failed.
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
