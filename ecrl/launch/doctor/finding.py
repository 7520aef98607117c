"""Findings about a machine, and a matrix's requirements on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

OK, WARN, UNFIT = "ok", "warn", "unfit"


@dataclass(frozen=True)
class Finding:
    """The result of one check. state: ok, warn or unfit. found: what the check found. advice: what to do, '' if ok."""

    check: str
    state: str
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """One entry of `findings`."""
        return {"check": self.check, "state": self.state, "found": self.found, "advice": self.advice or None}


@dataclass(frozen=True)
class Place:
    """A folder for checkpoints. key: of the matrix, which names it. needed: bytes at the peak. spare: other places get
    what this one refuses."""

    key: str
    folder: Path
    spare: bool
    needed: int = 0


@dataclass(frozen=True)
class Requirements:
    """A matrix's requirements on a machine.

    nproc, threads: of all runs that are active at the same time. slots: snapshots in memory at the same time.
    checkpoint_bytes: of the largest checkpoint. disk_bytes: what stays on disk, plus the peak of one active run. nccl:
    ranks use NCCL, so no two can share a GPU. forks: a launcher forks ranks from a server, which shares semaphores.
    places: of checkpoints, outside the results folder.
    """

    device: str
    gpus: tuple[int, ...]
    nproc: int
    threads: int
    slots: int
    checkpoint_bytes: int
    disk_bytes: int
    nccl: bool
    forks: bool = False
    places: tuple[Place, ...] = ()
