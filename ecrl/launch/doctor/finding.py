"""Findings about a machine, and what a matrix asks of it."""

from dataclasses import dataclass
from typing import Any

OK, WARN, UNFIT = "ok", "warn", "unfit"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. found: what there is; advice: what to do about it, '' where all is well."""

    check: str
    state: str
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """One entry of `findings`."""
        return {"check": self.check, "state": self.state, "found": self.found, "advice": self.advice or None}


@dataclass(frozen=True)
class Requirements:
    """What a matrix asks of a machine. nproc, threads: of all runs that go on side by side; slots: snapshots in memory
    at once; checkpoint_bytes: the largest; disk_bytes: what stays on disk, with one run going on; nccl: ranks talk
    over NCCL, so that none can share a GPU."""

    device: str
    gpus: tuple[int, ...]
    nproc: int
    threads: int
    slots: int
    checkpoint_bytes: int
    disk_bytes: int
    nccl: bool
