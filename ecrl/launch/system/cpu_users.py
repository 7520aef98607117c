"""Who uses the processors right now: the load average remembers a minute, and with it one's own last run."""

import os
import time
from dataclasses import dataclass

import psutil

from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, iterate_environments

_SAMPLE_S = 0.3


@dataclass(frozen=True)
class CpuUser:
    """A process that computes. cores: processor time over the time of the sample. campaign: ecrl's, if it is of one."""

    pid: int
    name: str
    cores: float
    campaign: str = ""


@dataclass(frozen=True)
class CpuUse:
    """The use of all processors, in cores, by others than this process. hidden: by processes that are not visible."""

    users: tuple[CpuUser, ...]
    hidden: float

    @property
    def cores(self) -> float:
        """The cores that are in use."""
        return self.hidden + sum(user.cores for user in self.users)


def measure_cpu_use(sample_s: float = _SAMPLE_S) -> CpuUse:
    """Watch all processes for `sample_s` seconds; the busiest comes first."""
    began, busy, before = time.monotonic(), _read_busy_s(), _read_times()
    time.sleep(sample_s)
    after, busy_after, seconds = _read_times(), _read_busy_s(), time.monotonic() - began
    campaigns = dict(iterate_environments(CAMPAIGN_MARKER))
    used = {pid: (used - before[pid][1], name) for pid, (name, used) in after.items() if pid in before}
    users = [
        CpuUser(pid, name, more_s / seconds, campaigns.get(pid, ""))
        for pid, (more_s, name) in used.items()
        if more_s > 0 and pid != os.getpid()
    ]
    hidden = max((busy_after - busy - sum(more_s for more_s, _ in used.values())) / seconds, 0.0)
    return CpuUse(tuple(sorted(users, key=lambda user: -user.cores)), hidden)


def _read_times() -> dict[int, tuple[str, float]]:
    """Name and processor time of every visible process, by pid."""
    found = psutil.process_iter(["name", "cpu_times"])
    there = [(process.pid, process.info["name"], process.info["cpu_times"]) for process in found]
    return {pid: (name, times.user + times.system) for pid, name, times in there if times is not None}


def _read_busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)
