"""Free space on the disk of a folder, which need not exist yet."""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")
_HARDLY_ANY_BYTES = 1 << 20


def find_existing_folder(folder: Path) -> Path:
    """The folder itself, or its nearest parent that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def get_free_bytes(folder: Path) -> int:
    """Bytes that can still be written below a folder, which need not exist yet."""
    return shutil.disk_usage(find_existing_folder(folder.absolute())).free


def find_full_folder(
    folder: Path, places: Iterable[Path] = (), free_bytes: Callable[[Path], int] = get_free_bytes
) -> Path:
    """The folder in which something said that there is no space: this one, unless only another place is full.

    places: other folders that were written to.
    """
    # A process writes its semaphores to /dev/shm and its sockets to the folder of temporary files.
    others = [place for place in (*places, _SHARED_MEMORY, Path(tempfile.gettempdir())) if place.is_dir()]
    full = [place for place in others if free_bytes(place) < _HARDLY_ANY_BYTES]
    return full[0] if full and free_bytes(folder) >= _HARDLY_ANY_BYTES else folder
