"""Facts about the machine that a comparison must not mix. Reads /proc; no third-party imports."""

import os
import platform
import socket
from pathlib import Path

from ecrl import __version__
from ecrl.records.clock import boot_id


def facts() -> dict[str, object]:
    """Host, boot, processor, memory and software versions of this machine and process."""
    return {
        "host": socket.gethostname(),
        "boot_id": boot_id(),
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "ecrl": __version__,
    }


def pressure() -> dict[str, float]:
    """One-minute load and, where the kernel has them, PSI averages (percent over 10 s)."""
    values = {"load1": os.getloadavg()[0]}
    for resource in ("cpu", "io", "memory"):
        path = Path("/proc/pressure") / resource
        try:
            some = path.read_text().splitlines()[0]
        except (OSError, IndexError):
            continue  # kernels without PSI: the fact is absent, not zero
        values[f"psi_{resource}_some_avg10"] = float(some.split("avg10=")[1].split()[0])
    return values


def available_memory_bytes() -> int:
    """Memory that can be taken without swapping: the kernel's MemAvailable."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
