"""The clock of all records: monotonic, runs during suspension, and is shared by every process of this boot."""

import time
from pathlib import Path

# Python promises only differences; on Linux the origin is the boot, so stamps of different processes (a
# restarted worker, the supervisor) can be subtracted as long as their boot ids agree.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_ns() -> int:
    """Nanoseconds on the system-wide clock. Only differences between stamps of one boot mean anything."""
    return time.clock_gettime_ns(_CLOCK)


def real_minus_boot_ns() -> int:
    """The nanoseconds to add to a stamp to get Unix time. Setting the system clock changes them."""
    return time.time_ns() - now_ns()


def boot_id() -> str:
    """The id of this boot of this machine. Stamps of different boots must never be subtracted."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else "unknown"
