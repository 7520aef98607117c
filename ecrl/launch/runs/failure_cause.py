"""Classifies a run's failure by its logs, and recognises failures that are alike."""

import re
from dataclasses import dataclass
from pathlib import Path

_TAIL_BYTES = 64 * 1024
BUG, TIMEOUT, DISK_FULL = "bug", "timeout", "disk full"

# The first kind that matches wins: an earlier kind is the cause when a log shows several.
_EVIDENCE: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile("|".join(signs)))
    for kind, signs in (
        (DISK_FULL, (r"No space left on device", r"Disk quota exceeded", r"\[Errno (?:28|122)\]")),
        ("data missing", (r"DataMissingError", r"data set \S+ (?:is missing|not found)", r"Dataset not found")),
        (
            "gpu fault",
            (r"uncorrectable ECC", r"fallen off the bus", r"\bXid\b", r"CUDA-capable device\(s\) is/are busy",
             r"no CUDA-capable device", r"CUDA error: unspecified launch failure"),
        ),
        (
            "out of memory",
            (r"OutOfMemoryError", r"CUDA out of memory", r"CUBLAS_STATUS_ALLOC_FAILED", r"can't allocate memory",
             r"Cannot allocate memory", r"\bMemoryError\b", r"\boom-kill", r"Unable to allocate .*iB", r"\[Errno 12\]"),
        ),
        (
            "communication",
            (r"Watchdog caught collective operation timeout", r"\bNCCL (?:error|WARN|timeout)", r"nccl\w+Error",
             r"DistBackendError", r"DistStoreError", r"connectFullMesh failed", r"Timed out waiting \d+ms",
             r"[Gg]loo\S* .*(?:[Tt]imed? ?out|Connection (?:reset|closed|refused))", r"Connection closed by peer",
             r"Connection reset by peer", r"Socket Timeout"),
        ),
    )
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """A classified failure.

    kind: out of memory, communication, data missing, disk full, gpu fault, timeout or bug. evidence: the log line that
    shows the kind; '' if the reason itself shows it, or if nothing does.
    """

    kind: str
    evidence: str = ""


def classify_failure(reason: str, logs: list[Path], *, timed_out: bool = False, oom_kills: int = 0) -> Failure:
    """The kind of a failure. oom_kills: processes that the kernel killed for lack of memory during the run."""
    if timed_out:
        return Failure(TIMEOUT)
    for kind, signs in _EVIDENCE:
        if signs.search(reason):
            return Failure(kind)
    if oom_kills and "SIGKILL" in reason:
        return Failure("out of memory", f"the kernel ended {oom_kills} processes of this group for want of memory")
    lines = [line for log in logs for line in _tail(log).splitlines()]
    for kind, signs in _EVIDENCE:
        for line in lines:
            if signs.search(line):
                return Failure(kind, line.strip()[:300])
    return Failure(BUG)


def build_signature(kind: str, reason: str) -> str:
    """A text that is equal for failures that are alike: the kind and the reason, without numbers, rank and step."""
    without_place = re.sub(r"\((?:rank \d+, )?(?:after step \d+|before its first step)\)", "", reason)
    return f"{kind}: {re.sub(r'0x[0-9a-fA-F]+|[0-9]+', '#', without_place).strip()}"


@dataclass
class RepeatedFailures:
    """Counts equal failures in a row on one device set."""

    limit: int  # 0: never too many
    signature: str = ""
    number: int = 0

    def add_failure(self, sign: str) -> bool:
        """Count a failure. True: the limit of equal failures in a row is reached."""
        self.number = self.number + 1 if sign == self.signature else 1
        self.signature = sign
        return bool(self.limit) and self.number >= self.limit

    def reset(self) -> None:
        """Forget the failures so far. Call it when a run completes: this proves that the devices work."""
        self.signature, self.number = "", 0


def read_oom_kills(proc: Path = Path("/proc"), mounted: Path = Path("/sys/fs/cgroup")) -> int:
    """How many processes of this control group the kernel has killed for lack of memory; 0 where it does not say."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return 0
    for _, controllers, own in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        for folder, name in _list_counters(mounted, controllers.split(",")):
            # A container sees its own group as the root of what is mounted.
            for path in (folder / own.lstrip("/") / name, folder / name):
                if (kills := _read_kills(path)) is not None:
                    return kills
    return 0


def _list_counters(mounted: Path, controllers: list[str]) -> list[tuple[Path, str]]:
    """(the folder of the groups, the file of a group) for a line of /proc/self/cgroup, version 2 or version 1."""
    if controllers == [""]:
        return [(mounted, "memory.events"), (mounted / "unified", "memory.events")]
    return [(mounted / "memory", "memory.oom_control")] if "memory" in controllers else []


def _read_kills(path: Path) -> int | None:
    try:
        counts = dict(line.split() for line in path.read_text().splitlines() if line.count(" ") == 1)
    except OSError:
        return None
    return int(counts["oom_kill"]) if "oom_kill" in counts else None


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, 2) - _TAIL_BYTES, 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
