"""The measurements of a bench apart from the clock: fsync calls, process memory, and the time of a plain copy."""

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
    """Replaces `os.fsync` and counts its calls from all threads. Use it only in a bench's process."""

    def __init__(self) -> None:
        self._fsync = os.fsync
        self._count = 0

    def __call__(self, fd: Any) -> None:
        self._count += 1
        self._fsync(fd)

    def install(self) -> None:
        """Start counting."""
        os.fsync = self

    def take_count(self) -> int:
        """The number of calls since the last `take_count`."""
        count, self._count = self._count, 0
        return count


def release_free_memory() -> None:
    """Return the allocator's free memory to the kernel, so every segment starts in the same state."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc; other libraries keep little free memory
        libc.malloc_trim(0)


def reset_peak() -> bool:
    """Reset the peak of resident memory. Returns False if the kernel does not permit it."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def resident_bytes() -> int:
    """The current resident memory in bytes."""
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """The peak of resident memory since `reset_peak`, in bytes."""
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


class CopyFloor:
    """Measures a copy of one rank's whole state into prepared buffers, which are pinned for an accelerator.

    No snapshot on the training thread can be faster.
    """

    def __init__(self, view: StateView, device: torch.device) -> None:
        self._device = device
        self._sources = list(view.tensors.values())
        pinned = device.type != "cpu"
        self._targets = [torch.empty_like(t, device="cpu", pin_memory=pinned) for t in self._sources]
        self.bytes = sum(t.nbytes for t in self._sources)
        self.sample_ns()  # touches every page

    def sample_ns(self) -> int:
        """The duration of one copy in nanoseconds."""
        begun = now_ns()
        with torch.no_grad():
            torch._foreach_copy_(self._targets, self._sources, non_blocking=True)
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        return now_ns() - begun
