"""Where the checkpoints of a run lie: in its folder, or in folders of their own on other disks.

    <dir>/<prefix>/<suite>/<variant>/seed<seed>-<random>/{PLACE.json, step-00000400/...}

The run's folder leads there by links: `checkpoints` to the preferred place, `checkpoints-1`, ... to the fallbacks.
PLACE.json names the run that the place was made for. Only a place with such a file is ever removed, and only by its
own run: in a copied campaign, the links lead to the places of the original.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ecrl.records.paths import CHECKPOINTS, RunPaths
from ecrl.storage.atomic import fsync_dir, write_atomic

MARKER = "PLACE.json"


@dataclass(frozen=True)
class Owner:
    """The run that a place was made for: its folder, the folder's inode, and the host. dir: as in the matrix."""

    folder: str
    inode: int
    host: str
    dir: str


def make_places(paths: RunPaths, dirs: tuple[str | None, ...]) -> None:
    """Make the places of a new run's checkpoints and link them. dirs: `CheckpointSettings.places`.

    Raises:
        OSError: the only place cannot be made. One of several may: checkpoints then go to the others.
    """
    if dirs == (None,):
        return  # engines make a folder inside the run's own
    # The random part keeps apart results folders with the same prefix, copies of a campaign, and attempts at a run.
    name = f"{paths.folder.name}-{secrets.token_hex(4)}"
    for number, folder in enumerate(dirs):
        link = paths.checkpoint_link(number)
        if folder is None:
            link.mkdir()
            continue
        root = paths.campaign.root.absolute()
        inside = paths.folder.relative_to(root).parts  # suites/<suite>/<variant>/seed<seed>, or warmups/<number>
        place = Path(folder).joinpath(root.name, *(inside[1:-1] or inside[:1]), name)
        link.symlink_to(place)  # first, so that a kill leaves no place that nothing leads to
        try:
            place.mkdir(parents=True)
            owner = Owner(str(paths.folder), paths.folder.stat().st_ino, socket.gethostname(), folder)
            write_atomic(place / MARKER, json.dumps(asdict(owner)).encode())
        except OSError:
            if len(dirs) == 1:
                raise
            with contextlib.suppress(OSError):  # engines pass over a place that is not there
                place.rmdir()
    fsync_dir(paths.folder)


def list_places(paths: RunPaths) -> list[Path]:
    """The folders of a run's checkpoints, the preferred one first. A folder need not exist (a disk that is gone)."""
    return [link.resolve() for link in list_links(paths)]


def find_place(paths: RunPaths) -> Path:
    """The first place that is there and answers; the run's folder if there is none yet."""
    for place in list_places(paths):
        with contextlib.suppress(OSError):
            os.statvfs(place)
            return place
    return paths.folder


def list_links(paths: RunPaths) -> list[Path]:
    """The names of these folders inside the run's folder: `checkpoints`, and links to fallbacks."""
    links = [paths.checkpoint_link(0)]
    while (link := paths.checkpoint_link(len(links))).is_symlink():
        links.append(link)
    return links


def read_owner(place: Path) -> Owner | None:
    """The run that a place was made for; None: `place` is no place, or cannot be read."""
    try:
        return Owner(**json.loads((place / MARKER).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def is_own(link: Path) -> bool:
    """Whether a link in a run's folder leads to a place that this run may remove."""
    place = link.resolve()
    owner, folder = read_owner(place), link.parent.resolve()
    if owner is None:
        return False
    if Path(owner.folder).resolve() == folder:  # also through links, as where a results folder has moved and left one
        # The same path on another host may be a copy; the same inode is the same folder.
        return owner.host == socket.gethostname() or owner.inode == folder.stat().st_ino
    # Moved, or copied: of a copy, the original still leads to the place, or another host has it.
    original = Path(owner.folder, link.name)
    return owner.host == socket.gethostname() and not (original.is_symlink() and original.resolve() == place)


def remove_checkpoints(paths: RunPaths) -> bool:
    """Remove a run's checkpoints with their places. Returns whether there were any. A repeated call finishes a killed
    one. Places of other runs, and what links of the user lead to, stay.

    Raises:
        OSError: something cannot be removed.
    """
    links = [link for link in list_links(paths) if os.path.lexists(link)]
    for link in links:
        if link.is_symlink():
            _remove_own_place(link)
            link.unlink()
        else:
            shutil.rmtree(link)
    return bool(links)


def remove_tree(folder: Path) -> None:
    """Remove a folder of a campaign, and the places of the runs in it.

    Raises:
        OSError: something cannot be removed.
    """
    for link in find_links(folder):
        _remove_own_place(link)
    shutil.rmtree(folder)


def find_links(folder: Path) -> Iterator[Path]:
    """The links to places of every run below `folder`."""
    for parent, names, _ in os.walk(folder):
        yield from (Path(parent, n) for n in sorted(names) if _is_link_name(n) and Path(parent, n).is_symlink())


def _is_link_name(name: str) -> bool:
    return name == CHECKPOINTS or (name.startswith(f"{CHECKPOINTS}-") and name[len(CHECKPOINTS) + 1 :].isdecimal())


def _remove_own_place(link: Path) -> None:
    place = link.resolve()
    if (owner := read_owner(place)) is None or not is_own(link):
        return
    for path in place.iterdir():
        if path.name == MARKER:
            continue  # last: it says that the rest may be removed
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (place / MARKER).unlink()
    with contextlib.suppress(OSError):  # other runs have places below the same folders
        top = Path(owner.dir).resolve()
        while place != top:
            place.rmdir()
            place = place.parent
