"""Identifies processes by host, boot, pid and start time, never by name, and tells whether they live.

A process whose state cannot be known is `UNKNOWN`; unknown never counts as dead. Uses the standard library only.
"""

import contextlib
import os
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from ecrl.records.clock import boot_id
from ecrl.records.manifest.store import Owner

# In the environment of every process of a campaign: the absolute path of results/<prefix>, which folder that was, and
# the path of the run's folder.
CAMPAIGN_MARKER = "ECRL_CAMPAIGN"
FOLDER_MARKER = "ECRL_CAMPAIGN_FOLDER"
RUN_MARKER = "ECRL_RUN"

_PF_EXITING = 0x4  # of the flags in /proc/PID/stat

# The host name of an owner that no record names.
UNKNOWN_HOST = "unknown"


class Liveness(Enum):
    """Whether an owner is known to live."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


# Not psutil: its create_time depends on the wall clock, so it cannot be compared with the ticks in a record. It also
# does not show that a process is ending, or that only its first thread has exited. And `matrix status`, which checks
# whether owners live, must not load it.
@dataclass(frozen=True)
class _Process:
    """A process as /proc/PID/stat shows it.

    ending: it has begun to exit. gone: it holds no memory or files any more and only waits for its parent. stopped: by
    SIGSTOP, Ctrl-Z or a debugger.
    """

    ending: bool
    gone: bool
    stopped: bool
    start_ticks: int


def _process(pid: int) -> _Process | None:
    """The process of this pid. None: /proc shows none.

    Raises:
        PermissionError: this user may not see the process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        _raise_if_hidden(pid)
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the process name may contain any character
    state, flags, threads = fields[0], int(fields[6]), int(fields[17])
    # The first thread is a zombie as soon as it exits; memory and files stay until the last thread has exited.
    gone = state == b"X" or (state == b"Z" and threads <= 1)
    return _Process(bool(flags & _PF_EXITING), gone, state in (b"T", b"t"), int(fields[19]))


def _raise_if_hidden(pid: int) -> None:
    """Raise PermissionError if the process is another user's that /proc does not list (hidepid=2)."""
    with contextlib.suppress(ProcessLookupError, OverflowError):  # a damaged record may have a pid that is too large
        os.kill(pid, 0)


def get_start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot. None: there is no such process, or it has ended.

    Raises:
        PermissionError: it is another user's process, and /proc shows only one's own.
    """
    found = _process(pid)
    return None if found is None or found.gone else found.start_ticks


def get_current_owner(folder: Path | None = None) -> Owner:
    """The identity of this process. folder: where it works, usually the campaign's folder.

    With `folder`, the identity stays valid if the host or the folder is renamed, and a copy of the folder does not
    match it.
    """
    owner = get_owner(os.getpid())
    return owner if folder is None else replace(owner, pid_ns=_pid_namespace(), folder=folder.stat().st_ino)


def get_owner(pid: int) -> Owner:
    """The identity of a process: this one, or a child that has not been waited for."""
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
    # A renamed host is recognised by its boot id. Its pids are comparable within the same pid namespace.
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
        return 0  # an older kernel: only the host's name identifies the host


def iterate_environments(variable: str) -> Iterator[tuple[int, str]]:
    """Yields (pid, value) of this user's other processes that have the variable in their environment."""
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
    """Pids of this user's processes that are ending but not gone."""
    # The memory of an ending process goes first, and its environment with it. No marker shows whose process it is, but
    # its files and devices may still be open.
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208
        if not entry.isdigit():
            continue
        try:
            if os.stat(f"/proc/{entry}").st_uid != os.getuid():  # noqa: PTH116
                continue  # its stat may not even be readable
            process = _process(int(entry))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended just now; its pid may be another user's by now
        if process is not None and process.ending and not process.gone:
            found.append(int(entry))
    return found


def is_ending(pid: int) -> bool:
    """Whether a process has begun to exit, or has exited and its pid is still in use. False if it is not visible."""
    try:
        process = _process(pid)
    except PermissionError:
        return False
    return process is not None and process.ending


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, as SIGSTOP does. False if it is not visible."""
    try:
        process = _process(pid)
    except PermissionError:
        return False
    return process is not None and process.stopped


def build_campaign_markers(campaign: Path) -> dict[str, str]:
    """The environment that marks the processes of the campaign in this folder."""
    return {CAMPAIGN_MARKER: str(campaign), FOLDER_MARKER: _identify_folder(campaign)}


def find_campaign_pids(campaign: Path, former: Collection[int] = ()) -> list[int]:
    """Pids of this user's processes that work in this folder of a campaign, wherever it lay when they started.

    former: inodes of folders in which an ecrl worked that has died. The folder may have been such a one before it was
    moved to another disk: processes of those that are not where they were any more count, too.
    """
    # By the folder itself: its path changes when it is moved, and a copy may now lie where it was. Processes of older
    # versions have the path alone.
    folders = dict(iterate_environments(FOLDER_MARKER))
    here = [pid for pid, folder in folders.items() if folder == _identify_folder(campaign)]
    for pid, place in iterate_environments(CAMPAIGN_MARKER) if former else ():
        folder = folders.get(pid, "none")
        if folder.rpartition(":")[2] in map(str, former) and _identify_folder(Path(place)) != folder:
            here.append(pid)
    return here + [pid for pid in find_marked_pids(CAMPAIGN_MARKER, campaign) if pid not in folders]


def _identify_folder(folder: Path) -> str:
    try:
        status = folder.stat()
    except FileNotFoundError:
        return "none"
    return f"{status.st_dev}:{status.st_ino}"


def find_marked_pids(marker: str, value: Path) -> list[int]:
    """Pids of this user's other processes whose environment has `marker=value`."""
    return [pid for pid, found in iterate_environments(marker) if found == str(value)]
