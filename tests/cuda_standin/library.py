"""A test program's hold on the stand-in that is preloaded into its process."""

import ctypes
from typing import NamedTuple

import torch

# Kinds of log entries at which the calling thread waited for the device.
HOST_WAITS = {
    "event_synchronize",
    "stream_synchronize",
    "device_synchronize",
    "pageable_copy",
    "device_free",
    "pinned_free",
}


class Entry(NamedTuple):
    """One line of the log. phase: queued (a call), ran (its effect), host (what the calling thread did itself).
    bytes: of `set_device`, the device. memory: the host side of a copy, `pinned` or `pageable`; of phase host,
    `gil` where the thread held Python's lock. thread: the native id of the caller."""

    phase: str
    stream: int
    kind: str
    bytes: int
    memory: str
    thread: int


class StandIn:
    """Chooses the policy, reads the log, queues arithmetic."""

    def __init__(self) -> None:
        name = torch.cuda.get_device_name()  # also initialises torch.cuda
        assert name == "FakeCUDA (no kernels)", f"the stand-in is not preloaded, this is {name}"
        self._library = ctypes.CDLL("libcuda.so.1")
        self._library.standin_reset.argtypes = [ctypes.c_char_p, ctypes.c_uint]
        self._library.standin_log_size.restype = ctypes.c_size_t
        self._library.standin_log.argtypes = [ctypes.c_size_t]
        self._library.standin_log.restype = ctypes.c_char_p
        pointer, number = ctypes.c_void_p, ctypes.c_float
        self._library.standin_axpby.argtypes = [pointer, pointer, number, pointer, number, ctypes.c_size_t]

    def reset(self, policy: str) -> None:
        """Finish all work and go on under `eager`, `lazy`, `hostile` or `random-<seed>`, with an empty log."""
        name, _, seed = policy.partition("-")
        assert self._library.standin_reset(name.encode(), int(seed or 0)) == 0, f"no policy {policy}"

    def mark(self) -> int:
        """Where the log ends now."""
        return int(self._library.standin_log_size())

    def log(self, begin: int = 0, end: int | None = None) -> list[Entry]:
        """The entries between two marks."""
        lines = self._library.standin_log(begin).decode().splitlines()
        words = [line.split(" ") for line in lines[: None if end is None else end - begin]]
        return [Entry(p, int(s), kind, int(size), memory, int(t)) for p, s, kind, size, memory, t in words]

    def axpby(self, to: torch.Tensor, a: float, source: torch.Tensor, b: float) -> None:
        """Queue `to = a * to + b * source` on the current stream, as a kernel would be."""
        assert to.dtype == source.dtype == torch.float32
        assert to.is_contiguous()
        assert source.is_contiguous()
        stream = torch.cuda.current_stream().cuda_stream
        self._library.standin_axpby(stream, to.data_ptr(), a, source.data_ptr(), b, to.numel())
