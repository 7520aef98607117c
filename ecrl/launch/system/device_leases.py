"""Chooses the GPUs or CPU cores of a run, and leases them among all ecrl processes and users of this machine.

A lease is a lock (flock) on one file per device, in a folder that all users share. The run's launcher inherits the
descriptor, so the devices stay leased if ecrl is killed while workers use them. A device also counts as taken while a
process with the lease's marker lives, even if its launcher is gone.

ECRL_LEASES names another folder (default /tmp/ecrl-leases; containers that share GPUs must share it, too).
ECRL_FAKE_GPUS=N gives this machine N devices `fake-0`.. to lease, for tests.
"""

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ecrl.errors import EcrlError
from ecrl.launch.system.file_lock import FileLock, take_lock
from ecrl.launch.system.process_identity import (
    Liveness,
    check_owner,
    get_current_owner,
    get_start_ticks,
    iterate_environments,
    list_exiting_pids,
)
from ecrl.records.manifest.store import Owner, utc_now
from ecrl.records.paths import CampaignPaths

FOLDER_VARIABLE = "ECRL_LEASES"
FAKE_VARIABLE = "ECRL_FAKE_GPUS"
LEASE_MARKER = "ECRL_LEASE"  # in the environment of a run's processes: <folder>:<name>,<name>
_DEFAULT_FOLDER = "/tmp/ecrl-leases"
_EXIT_S = 2.0  # a process that takes longer to end hangs in a driver, and most likely is not ecrl's
_NVIDIA = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class DeviceSet:
    """Devices that one run takes together. locks: a file name per device. gpus: for CUDA_VISIBLE_DEVICES."""

    locks: tuple[str, ...]
    gpus: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.gpus:
            return f"gpu {','.join(self.gpus)}"
        kind = self.locks[0].partition("-")[0]
        return f"{kind} {','.join(name.partition('-')[2] for name in self.locks)}"


@dataclass
class Lease:
    """A device set that belongs to this process and its runs, until it is released and they have ended."""

    devices: DeviceSet
    folder: Path
    locks: tuple[FileLock, ...] = field(default=(), repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """Variables to add to the environment of a run on these devices."""
        marker = {LEASE_MARKER: f"{self.folder}:{','.join(self.devices.locks)}"}
        if not self.devices.gpus:
            return marker
        # By number, as nvidia-smi counts: CUDA itself would put the fastest first.
        return marker | {"CUDA_VISIBLE_DEVICES": ",".join(self.devices.gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

    def release(self) -> None:
        """Release the lease. A process that has inherited the locks keeps holding them."""
        for lock in self.locks:
            lock.release()
        self.locks = ()

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that hold the lease."""
        return tuple(lock.fd for lock in self.locks)


def list_cores(environment: Mapping[str, str] = os.environ) -> list[DeviceSet]:
    """A set for each CPU core that this process may use; for each device of ECRL_FAKE_GPUS instead, if it is set."""
    if fake := environment.get(FAKE_VARIABLE):
        return [DeviceSet((f"fake-{n}",)) for n in range(int(fake))]
    return [DeviceSet((f"cpu-{core}",)) for core in sorted(os.sched_getaffinity(0))]


def list_gpus(names: Sequence[str]) -> list[DeviceSet]:
    """A set for each of these GPUs. names: as in CUDA_VISIBLE_DEVICES."""
    uuids = read_gpu_uuids()
    return [DeviceSet((f"gpu-{uuids.get(name, name)}",), (name,)) for name in names]


def group_devices(devices: Sequence[DeviceSet], size: int) -> list[DeviceSet]:
    """Disjoint sets of `size` devices each, in order; devices that do not fill a set are left out.

    If there are fewer than `size`, all of them are one set.
    """
    size = max(min(size, len(devices)), 1)
    groups = [devices[i : i + size] for i in range(0, len(devices) - size + 1, size)]
    return [
        DeviceSet(tuple(n for d in group for n in d.locks), tuple(g for d in group for g in d.gpus)) for group in groups
    ]


def read_gpu_uuids() -> dict[str, str]:
    """GPU UUIDs by the number that nvidia-smi uses."""
    # nvidia-smi counts in the order of the bus addresses, which are the names of these folders.
    found: dict[str, str] = {}
    for number, folder in enumerate(sorted(_NVIDIA.iterdir()) if _NVIDIA.is_dir() else []):
        lines = (folder / "information").read_text().splitlines()
        told = [line.partition(":")[2].strip() for line in lines if line.startswith("GPU UUID")]
        found |= {str(number): told[0]} if told else {}
    return found


def lease_folder() -> Path:
    """The folder of the lock files; it is created for all users of this machine if needed.

    Raises:
        EcrlError: the folder cannot be used, or not safely.
    """
    folder = Path(os.environ.get(FOLDER_VARIABLE) or _DEFAULT_FOLDER)
    try:
        folder.mkdir(mode=0o1777, parents=True, exist_ok=True)
        status = folder.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise EcrlError(
                "ECRL-503", f"{folder}: is a link, expected a folder. Name another one with {FOLDER_VARIABLE}=DIR"
            )
        if status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) != 0o1777:
            folder.chmod(0o1777)  # the umask removed permissions; sticky: no user removes another's lock
    except OSError as error:
        raise EcrlError(
            "ECRL-503",
            f"{folder}: cannot hold the leases of GPUs and CPU cores ({error.strerror}).\n"
            f"Put that right, or name another folder with {FOLDER_VARIABLE}=DIR (the same for every user).",
        ) from error
    return folder


def try_lease(devices: DeviceSet, paths: CampaignPaths | None = None) -> Lease | None:
    """A lease of the set. None, without holding anything, if a device is in use. paths: of the campaign that uses
    it."""
    lease = Lease(devices, lease_folder())
    try:
        for name in sorted(devices.locks):  # in one order everywhere, so that one of two competitors succeeds
            path = lease.folder / f"{name}.lock"
            if (lock := take_lock(path, _open_lock(path))) is None:
                lease.release()
                return None
            lease.locks += (lock,)
    except BaseException:
        lease.release()
        raise
    if _is_in_use(lease):
        lease.release()
        return None
    told = {"owner": asdict(get_current_owner()), "since": utc_now()}
    if paths is not None:
        told |= {"prefix": paths.prefix, "options": replace(paths, results=paths.results.resolve()).options}
    for fd in lease.fds:
        _write_holder(fd, json.dumps(told).encode())
    return lease


def describe_holders(devices: DeviceSet) -> str:
    """The holders of those of this set's devices that are in use, e.g. `pid 42 (prefix exp4)`.

    For a dead ecrl, the text has the command that ends the workers that it left.
    """
    found, folder = [], lease_folder()
    for name in devices.locks:
        if not _is_locked(folder / f"{name}.lock") and not _find_users(folder, {name}):
            continue  # the file still names the last holder, which is long done
        try:
            told = json.loads((folder / f"{name}.lock").read_text())
            owner = Owner(**told["owner"])
            who = f"pid {owner.pid} (prefix {told['prefix']})"
            if check_owner(owner) is Liveness.DEAD:
                who = f"orphaned workers of {who}; to end them: ecrl matrix resume {told['options']}"
            found.append(who)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the holder is not recorded or not readable: the lock alone counts
    return ", ".join(dict.fromkeys(found)) or "an unknown process"


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock now."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False  # no such lock, or not a file that this user may read
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _open_lock(path: Path) -> int:
    """A descriptor of the lock file, which is created if needed."""
    for _ in range(3):
        # Without O_CREAT for an existing file: with it, the kernel refuses another user's file in a sticky folder.
        for flags in (os.O_RDWR, os.O_RDONLY):
            try:
                return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
            except PermissionError:
                continue
            except FileNotFoundError:
                break
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue  # another process has just created it
        os.fchmod(fd, 0o666)
        return fd
    raise EcrlError(
        "ECRL-503", f"{path}: cannot be opened. Remove it, or name another folder with {FOLDER_VARIABLE}=DIR"
    )


def _write_holder(fd: int, text: bytes) -> None:
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR:
        os.ftruncate(fd, 0)
        with contextlib.suppress(OSError):  # a full disk: the lock alone counts
            os.pwrite(fd, text, 0)


def _is_in_use(lease: Lease) -> bool:
    """Whether a living process of this user was started on one of the devices."""
    if _find_users(lease.folder, set(lease.devices.locks)):
        return True
    # A process that is ending shows no marker. Wait for its end before the devices are leased.
    deadline = time.monotonic() + _EXIT_S
    for pid in list_exiting_pids():
        while get_start_ticks(pid) is not None and time.monotonic() < deadline:
            time.sleep(0.005)
    return False


def _find_users(folder: Path, locks: set[str]) -> list[int]:
    """The processes of this user that were started on one of these devices."""
    # The launcher that held the lock may be gone while its workers still run.
    found = []
    for pid, value in iterate_environments(LEASE_MARKER):
        its_folder, _, names = value.partition(":")
        if its_folder == str(folder) and locks & set(names.split(",")):
            found.append(pid)
    return found
