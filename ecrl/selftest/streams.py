"""The production stager of accelerators with delays, its mutants that lack one fence each, and delays of a stream."""

from collections.abc import Callable

import torch

from ecrl.checkpoint.sharded.snapshot import Slot, SlotState, StreamStager
from ecrl.checkpoint.state_view import StateView
from ecrl.selftest.progress import Progress, no_delay

_CALIBRATION_CYCLES = 20_000_000  # about 10 ms
_MATRIX = 2048


class Sleeper:
    """Keeps the current stream busy for a given time."""

    def __init__(self, device: torch.device) -> None:
        """Measure how long one unit of idling takes on `device`."""
        self._device = device
        self.method = "torch.cuda._sleep" if hasattr(torch.cuda, "_sleep") else "chain of matrix products"
        self._matrix = torch.zeros(_MATRIX, _MATRIX, device=device) if not hasattr(torch.cuda, "_sleep") else None
        units = _CALIBRATION_CYCLES if self._matrix is None else 20
        self._idle(units)  # the first call also loads code
        begun, ended = (torch.Event(device, enable_timing=True) for _ in range(2))
        begun.record()
        self._idle(units)
        ended.record()
        ended.synchronize()
        self._units_per_s = units / (begun.elapsed_time(ended) / 1000)

    def sleep(self, seconds: float) -> None:
        """Queue idling of that duration on the current stream."""
        self._idle(max(1, round(seconds * self._units_per_s)))

    def _idle(self, units: int) -> None:
        if self._matrix is None:
            torch.cuda._sleep(units)  # type: ignore[no-untyped-call]
            return
        for _ in range(units):
            torch.mm(self._matrix, self._matrix)  # on whichever stream is current: a new block each time


class LateStreamStager(StreamStager):
    """Queues `delay` on the copy stream before and in the middle of the buffers' copy and of the other copy."""

    def __init__(self, device: torch.device, progress: Progress, delay: Callable[[], None] = no_delay) -> None:
        super().__init__(device)
        self.progress, self._delay = progress, delay

    def _copy_on_stream(self, slot: Slot, sources: dict[str, torch.Tensor]) -> None:
        names = list(sources)
        for part in (names[: len(names) // 2], names[len(names) // 2 :]):
            self._delay()
            super()._copy_on_stream(slot, {name: sources[name] for name in part})


class CopyIgnoresUpdate(LateStreamStager):
    """The copy stream does not wait for the update that makes the state (read after write)."""

    def _follow_update(self) -> None:
        pass


class ForwardIgnoresCopy(LateStreamStager):
    """The next forward does not wait for the copy of the buffers (write after read)."""

    def before_forward(self) -> bool:
        return False


class UpdateIgnoresCopy(LateStreamStager):
    """The next update does not wait for the copy of parameters and optimizer state (write after read)."""

    def before_update(self) -> bool:
        return False


class PersisterIgnoresCopy(LateStreamStager):
    """The persister reads the slot without waiting for the copy into it."""

    def wait(self, slot: Slot) -> None:
        slot.move_to(SlotState.STAGED)


class HostStateCopiedLate(LateStreamStager):
    """The persister copies the tensors in host memory after the next update, instead of `begin`."""

    def __init__(self, device: torch.device, progress: Progress, delay: Callable[[], None] = no_delay) -> None:
        super().__init__(device, progress, delay)
        self._late: dict[int, StateView] = {}

    def _copy_host(self, slot: Slot, view: StateView) -> None:
        self._late[id(slot)] = view

    def wait(self, slot: Slot) -> None:
        self.progress.wait_for("update", slot.meta["step"] + 1)
        super()._copy_host(slot, self._late.pop(id(slot)))
        super().wait(slot)
