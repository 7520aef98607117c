"""Room on the disk that holds a folder, or will hold it."""

import shutil
from pathlib import Path


def find_existing_folder(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder


def get_free_bytes(folder: Path) -> int:
    """Bytes that may still be written below a folder, which need not be there yet."""
    return shutil.disk_usage(find_existing_folder(folder.absolute())).free
