"""Which processes are alive, and whose they are: host, boot, pid and start time, never a name. Standard library only.

Whatever cannot be known is `UNKNOWN`, and unknown is never taken for dead.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from ecrl.records.clock import boot_id
from ecrl.records.manifest.store import Owner

# In the environment of every process of a campaign: the absolute path of results/<prefix>, and of the run's folder.
CAMPAIGN_MARKER = "ECRL_CAMPAIGN"
RUN_MARKER = "ECRL_RUN"

_PF_EXITING = 0x4  # of the flags in /proc/PID/stat

# Hosts named like this stand for an owner that no record names.
UNKNOWN_HOST = "unknown"


class Liveness(Enum):
    """What is known about an owner."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


# Not psutil's: its create_time adds the boot's wall time, which every setting of the clock moves, so that the ticks in
# a record cannot be told from it; it does not show who is ending or that the first thread alone has exited; and
# `matrix status`, which asks whether owners live, is not to load it.
@dataclass(frozen=True)
class _Process:
    """A process as the kernel shows it in /proc/PID/stat. ending: it has begun to exit. gone: nothing of it holds
    memory or files any more, it only waits for its parent to ask."""

    ending: bool
    gone: bool
    start_ticks: int


def _process(pid: int) -> _Process | None:
    """None: /proc shows none of this number.

    Raises:
        PermissionError: it may not be looked at from here.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        _raise_if_hidden(pid)
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name itself may hold anything
    state, flags, threads = fields[0], int(fields[6]), int(fields[17])
    # The first thread is a zombie as soon as it has exited itself; memory and files stay until the last one has.
    gone = state == b"X" or (state == b"Z" and threads <= 1)
    return _Process(bool(flags & _PF_EXITING), gone, int(fields[19]))


def _raise_if_hidden(pid: int) -> None:
    """Raise PermissionError for another user's process that /proc does not even list (hidepid=2)."""
    with contextlib.suppress(ProcessLookupError, OverflowError):  # no pid is as large as a damaged record's
        os.kill(pid, 0)


def get_start_ticks(pid: int) -> int | None:
    """When the kernel started a process, in clock ticks since the boot; None: no such process, or nothing left of it.

    Raises:
        PermissionError: it is another user's, and /proc shows one's own alone.
    """
    found = _process(pid)
    return None if found is None or found.gone else found.start_ticks


def get_current_owner(folder: Path | None = None) -> Owner:
    """The owner that this process is; of what it does in `folder`, the owner that outlives a change of names."""
    owner = get_owner(os.getpid())
    return owner if folder is None else replace(owner, pid_ns=_pid_namespace(), folder=folder.stat().st_ino)


def get_owner(pid: int) -> Owner:
    """The owner that this process, or a child that nobody has waited for yet, is."""
    found = _process(pid)
    assert found is not None, f"/proc does not show process {pid}"
    return Owner(socket.gethostname(), boot_id(), pid, found.start_ticks)


def check_owner(owner: Owner | None) -> Liveness:
    """Whether the ecrl that a record names still lives, as far as this host can know."""
    if owner is None:
        return Liveness.UNKNOWN
    same_host, same_boot = owner.host == socket.gethostname(), owner.boot_id == boot_id()
    if same_host and not same_boot:
        return Liveness.DEAD
    # A host that was given another name since is told by its boot, and its pids are the same if the namespace is.
    if not same_boot or not (same_host or (owner.pid_ns and owner.pid_ns == _pid_namespace())):
        return Liveness.UNKNOWN
    try:
        return Liveness.ALIVE if get_start_ticks(owner.pid) == owner.start_ticks else Liveness.DEAD
    except PermissionError:
        return Liveness.UNKNOWN


def _pid_namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except FileNotFoundError:
        return 0  # an older kernel: only the host's name tells


def iterate_environments(variable: str) -> Iterator[tuple[int, str]]:
    """(pid, value) of the processes of this user that have the variable in their environment, this one excepted."""
    wanted = f"{variable}=".encode()
    for entry in os.listdir("/proc"):  # noqa: PTH208 (names are all that is needed, hundreds of times)
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environment = Path("/proc", entry, "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended just now, or another user's: not started by us
        if wanted not in environment:
            continue
        found = next((part for part in environment.split(b"\0") if part.startswith(wanted)), None)
        if found is not None and get_start_ticks(int(entry)) is not None:
            yield int(entry), found[len(wanted) :].decode(errors="replace")


def list_exiting_pids() -> list[int]:
    """Pids of this user's processes that are about to be gone. Their memory, and with it their environment, went
    first: no marker shows any more whose they are, and yet files and devices may still be open."""
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if not entry.isdigit():
            continue
        try:
            if os.stat(f"/proc/{entry}").st_uid != os.getuid():  # noqa: PTH116
                continue  # it may not even let itself be read
            process = _process(int(entry))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended just now; its pid may be another user's by now
        if process is not None and process.ending and not process.gone:
            found.append(int(entry))
    return found


def is_ending(pid: int) -> bool:
    """Whether a process that can be seen from here has begun to exit, or has exited and still has its number."""
    try:
        process = _process(pid)
    except PermissionError:
        return False
    return process is not None and process.ending


def find_marked_pids(marker: str, value: Path) -> list[int]:
    """Pids of the processes of this user whose environment says `marker=value`, this process excepted."""
    return [pid for pid, found in iterate_environments(marker) if found == str(value)]
