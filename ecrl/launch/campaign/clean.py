"""Finds and removes what a campaign no longer needs.

This is: runs that were set aside, checkpoints of finished suites, and files that a killed ecrl left half-written.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecrl.launch.campaign.lock import prefix_lease
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import DONE, FAILED
from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.records.places import find_links, is_own, list_links, remove_checkpoints, remove_tree

SCHEMA = 1
# Kind -> description. DEFAULT_KINDS are cleaned unless others are named.
KINDS = {
    "set-aside": "records of attempts that do not count",
    "temporary": "incomplete files of a killed ecrl",
    "warm-ups": "runs that warmed devices up, which never count",
    "checkpoints": "checkpoints of finished suites: no run resumes from them, only `checkpoint verify` reads them",
}
DEFAULT_KINDS = ("set-aside", "temporary", "warm-ups")
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that can be removed."""

    kind: str
    path: Path
    num_bytes: int

    def to_json(self) -> dict[str, Any]:
        """One entry of `leftovers`."""
        return {"kind": self.kind, "path": str(self.path), "bytes": self.num_bytes}


def find_leftovers(paths: CampaignPaths, kinds: Iterable[str]) -> list[Leftover]:
    """All leftovers of these kinds, in folder order. Removes nothing.

    Raises:
        EcrlError: there is no such campaign.
    """
    wanted = set(kinds)
    settled = {row.suite_id for row in manifest.read(paths).rows.values() if row.status in (*DONE, FAILED)}
    found = (each for each in _all(paths, settled) if each[0] in wanted)
    return [Leftover(kind, path, _size(path)) for kind, path in found]


def clean(paths: CampaignPaths, kinds: Iterable[str]) -> list[Leftover]:
    """Remove all leftovers of these kinds under the campaign's lease; returns what was removed.

    Raises:
        EcrlError: there is no such campaign.
        PrefixHeldError: an ecrl works on the campaign.
    """
    find_leftovers(paths, ())  # raises for an unknown prefix, whose folder the lease would create
    with prefix_lease(paths):
        found = find_leftovers(paths, kinds)
        for each in found:
            if each.kind == "checkpoints":
                remove_checkpoints(RunPaths(each.path.parent))
            elif each.path.is_dir() and not each.path.is_symlink():
                remove_tree(each.path)
            else:
                each.path.unlink()
    return found


def _all(paths: CampaignPaths, settled: set[str]) -> Iterator[tuple[str, Path]]:
    yield from (("temporary", path) for path in sorted(paths.root.iterdir()) if _TEMPORARY.fullmatch(path.name))
    yield from (("warm-ups", path) for path in sorted(paths.warmups.glob("*")))
    suites = paths.suites
    for suite in sorted(suites.iterdir()) if suites.is_dir() else ():
        for run in sorted(path for path in suite.glob("*/*") if path.is_dir()):
            if ".aside-" in run.name:
                yield "set-aside", run
                continue
            yield from (("temporary", path) for path in sorted(run.iterdir()) if _TEMPORARY.fullmatch(path.name))
            links = [link for link in list_links(RunPaths(run)) if os.path.lexists(link)]
            if suite.name in settled:
                yield from (("checkpoints", link) for link in links)


def _size(path: Path) -> int:
    # what a link leads to is removed only if the run made it
    if path.is_symlink():
        return path.lstat().st_size + (_size(path.resolve()) if is_own(path) else 0)
    if not path.is_dir():
        return path.lstat().st_size
    inside = sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir() or file.is_symlink())
    return inside + sum(_size(link.resolve()) for link in find_links(path) if is_own(link))
