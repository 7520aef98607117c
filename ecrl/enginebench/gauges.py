"""What a bench reads beside the clock: fsync calls, the process's memory, and the time of a plain copy."""

import ctypes
import gc
import os
from pathlib import Path
from typing import Any

import torch

from ecrl.checkpoint.state_view import StateView
from ecrl.records.clock import now_ns

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class FsyncCounter:
    """Stands in for `os.fsync` and counts its calls, from any thread. For a bench's process only."""

    def __init__(self) -> None:
        self._fsync = os.fsync
        self._count = 0

    def __call__(self, fd: Any) -> None:
        self._count += 1
        self._fsync(fd)

    def install(self) -> None:
        """Count from now on."""
        os.fsync = self

    def take_count(self) -> int:
        """Calls since the last time this was asked."""
        count, self._count = self._count, 0
        return count


def release_free_memory() -> None:
    """Return what earlier segments left in the allocator to the kernel, so that each one starts alike."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc; others keep little
        libc.malloc_trim(0)


def reset_peak() -> bool:
    """Start a new peak of resident memory; False where the kernel does not let us."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def resident_bytes() -> int:
    """Resident memory now."""
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """Most resident memory since `reset_peak`."""
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


class CopyFloor:
    """The time that copying one rank's whole state into ready buffers takes: what no snapshot on the training
    thread can beat. Pinned buffers where the state is on an accelerator."""

    def __init__(self, view: StateView, device: torch.device) -> None:
        self._device = device
        self._sources = list((view.replicated | view.local | view.host).values())
        pinned = device.type != "cpu"
        self._targets = [torch.empty_like(t, device="cpu", pin_memory=pinned) for t in self._sources]
        self.bytes = sum(t.nbytes for t in self._sources)
        self.sample_ns()  # touches every page

    def sample_ns(self) -> int:
        """Nanoseconds of one copy."""
        begun = now_ns()
        with torch.no_grad():
            torch._foreach_copy_(self._targets, self._sources, non_blocking=True)
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        return now_ns() - begun
