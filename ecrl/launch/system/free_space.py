"""Free space on the disk of a folder, which need not exist yet."""

import shutil
from pathlib import Path


def find_existing_folder(folder: Path) -> Path:
    """The folder itself, or its nearest parent that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def get_free_bytes(folder: Path) -> int:
    """Bytes that can still be written below a folder, which need not exist yet."""
    return shutil.disk_usage(find_existing_folder(folder.absolute())).free
