"""Which processes are alive, and whose they are: host, boot, pid and start time, never a name. Standard library only.

Whatever cannot be known is `UNKNOWN`, and unknown is never taken for dead.
"""

import os
import socket
from enum import Enum
from pathlib import Path

from ecrl.records.clock import boot_id
from ecrl.records.manifest import Owner

# In the environment of every process of a campaign: the absolute path of results/<prefix>, and of the run's folder.
CAMPAIGN_MARKER = "ECRL_CAMPAIGN"
RUN_MARKER = "ECRL_RUN"

# Hosts named like this stand for an owner that no record names.
NOBODY = "unknown"


class Liveness(Enum):
    """What is known about an owner."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


def start_ticks(pid: int) -> int | None:
    """When the kernel started a process, in clock ticks since the boot; None: no such process (or a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before it may hold anything
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def this_process() -> Owner:
    """The owner that this process is."""
    ticks = start_ticks(os.getpid())
    assert ticks is not None, "/proc does not show this process"
    return Owner(socket.gethostname(), boot_id(), os.getpid(), ticks)


def judged(owner: Owner | None) -> Liveness:
    """Whether the ecrl that a record names still lives, as far as this host can know."""
    if owner is None or owner.host != socket.gethostname():
        return Liveness.UNKNOWN
    if owner.boot_id != boot_id():
        return Liveness.DEAD
    return Liveness.ALIVE if start_ticks(owner.pid) == owner.start_ticks else Liveness.DEAD


def marked(marker: str, value: Path) -> list[int]:
    """Pids of the processes of this user whose environment says `marker=value`, this process excepted."""
    wanted = f"{marker}={value}".encode()
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 (names are all that is needed, hundreds of times)
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environment = Path("/proc", entry, "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended just now, or another user's: not started by us
        if wanted in environment.split(b"\0") and start_ticks(int(entry)) is not None:
            found.append(int(entry))
    return found
