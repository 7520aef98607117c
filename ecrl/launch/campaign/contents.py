"""What lies in a campaign's folder. Links are entries of their own: what they lead to is never looked at."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ecrl.errors import EcrlError
from ecrl.records.manifest.store import no_such_prefix_message
from ecrl.records.paths import CampaignPaths
from ecrl.records.places import find_links, is_own


@dataclass(frozen=True)
class Size:
    """How much a folder holds. links: symbolic links, which are not counted among the files.

    places: folders on other disks, made for checkpoints of runs in it, and the bytes in them.
    """

    files: int
    links: int
    num_bytes: int
    places: int = 0
    place_bytes: int = 0


def require_folder(paths: CampaignPaths) -> None:
    """Check that the prefix holds a campaign in a folder of its own.

    Raises:
        EcrlError: there is no such campaign, or its folder is a link to another place.
    """
    if not paths.matrix.is_file():
        raise EcrlError("ECRL-301", no_such_prefix_message(paths))
    if paths.root.is_symlink():
        raise EcrlError(
            "ECRL-341",
            f"{paths.root}: found a link to {paths.root.readlink()}, expected the campaign's own folder; links are"
            " not followed.\nName the folder that holds it with --results.",
        )


def list_entries(folder: Path) -> Iterator[Path]:
    """Everything below the folder that is no folder itself, in order: files, links, and what else there is."""
    # Not rglob, which passes over a folder that cannot be read.
    for path in sorted(folder.iterdir()):
        if not path.is_symlink() and path.is_dir():
            yield from list_entries(path)
        else:
            yield path


def measure_folder(folder: Path) -> Size:
    """Count what the folder holds.

    Raises:
        EcrlError: a part of it cannot be read, or goes while it is counted.
    """
    try:
        stats = [path.lstat() for path in list_entries(folder)]
        places = [link.resolve() for link in find_links(folder) if is_own(link)]
        inside = [path.lstat().st_size for place in places for path in list_entries(place)]
    except OSError as error:
        raise EcrlError(
            "ECRL-342", f"{error.filename}: {error.strerror}; nothing was removed.\nSee that nothing writes there."
        ) from error
    links = sum(stat.S_ISLNK(one.st_mode) for one in stats)
    return Size(len(stats) - links, links - len(places), sum(one.st_size for one in stats), len(places), sum(inside))
