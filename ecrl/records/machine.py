"""Facts about the machine. A comparison must not mix runs whose facts differ. Reads /proc; standard library only."""

import os
import platform
import socket
import time
from pathlib import Path

from ecrl import __version__
from ecrl.records.clock import boot_id


def read_facts() -> dict[str, object]:
    """Host, boot, processor, memory and software versions of this machine and process."""
    return {
        "host": socket.gethostname(),
        "boot_id": boot_id(),
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "clocksource": _text(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        "python": platform.python_version(),
        "ecrl": __version__,
    }


def read_pressure(folder: Path | None = None) -> dict[str, float]:
    """The facts that change during runs. A fact that this kernel does not provide is absent.

    They are: the one-minute load; PSI averages (percent over 10 s); the processor clock (mean MHz); processor time
    since the boot, and the part of it that the hypervisor gave to other guests (seconds, all cores together);
    available memory; the time suspended since the boot; free and total bytes of the disk of `folder`.
    """
    values = {"load1": os.getloadavg()[0], "available_memory_bytes": float(available_memory_bytes()), **_cpu_times()}
    if hasattr(time, "CLOCK_BOOTTIME"):  # boot time counts while the machine is suspended, monotonic time does not
        values["boot_minus_mono_ns"] = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    if (mhz := _cpu_mhz()) is not None:
        values["cpu_mhz"] = mhz
    if folder is not None:
        disk = os.statvfs(folder)
        values |= {"disk_free_bytes": disk.f_bavail * disk.f_frsize, "disk_total_bytes": disk.f_blocks * disk.f_frsize}
    for resource in ("cpu", "io", "memory"):
        path = Path("/proc/pressure") / resource
        try:
            some = path.read_text().splitlines()[0]
        except (OSError, IndexError):
            continue  # kernels without PSI: the fact is absent, not 0
        values[f"psi_{resource}_some_avg10"] = float(some.split("avg10=")[1].split()[0])
    return values


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "unknown"


def _cpu_times() -> dict[str, float]:
    """Total and stolen processor time since the boot, in seconds; empty without /proc/stat."""
    # The first line's fields: user nice system idle iowait irq softirq steal. The guest fields that follow are already
    # included in user and nice.
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    except OSError:
        return {}
    hertz = os.sysconf("SC_CLK_TCK")
    return {"cpu_total_s": sum(ticks) / hertz, "cpu_steal_s": ticks[7] / hertz} if len(ticks) == 8 else {}


def _cpu_mhz() -> float | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    clocks = [float(line.split(":", 1)[1]) for line in lines if line.startswith("cpu MHz")]
    return sum(clocks) / len(clocks) if clocks else None


def available_memory_bytes() -> int:
    """The memory that can be allocated without swapping, in bytes: the kernel's MemAvailable."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def memory_limit_bytes() -> int | None:
    """The memory limit of this process's control group (a container's limit) in bytes, or None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = Path("/sys/fs/cgroup", name).read_text().strip()
        except OSError:
            continue  # control groups of the other version, or no control groups
        if text.isdigit() and int(text) < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            return int(text)
    return None


def usable_memory_bytes() -> int:
    """The available memory in bytes, or this container's limit if that is less."""
    available, limit = available_memory_bytes(), memory_limit_bytes()
    return available if limit is None else min(available, limit)


def file_system(path: Path) -> str:
    """The type of the file system of an existing path (ext4, nfs4, overlay, ...); 'unknown' without /proc."""
    return _find_mount(path)[1]


def describe_disk(path: Path) -> str:
    """The file system of an existing path, its device or server, and where it is mounted."""
    point, kind, source = _find_mount(path)
    return f"{kind} {source} on {point}" if point else kind


def _find_mount(path: Path) -> tuple[str, str, str]:
    """Mount point, type and source of the file system of an existing path; ('', 'unknown', '') without /proc."""
    best, kind, source = "", "unknown", ""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return best, kind, source
    where = str(path.resolve())
    for line in mounts:
        place, _, rest = line.partition(" - ")
        point = place.split()[4].replace("\\040", " ")
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # the last of several mounts on one mount point hides the others
            best, (kind, source) = point, rest.split()[:2]
    return best, kind, source


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
