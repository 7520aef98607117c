"""Read losses without making training wait for the device."""

from collections import deque
from collections.abc import Callable

import torch

_RING = 64  # more steps than a host ever runs ahead of its device


class LossReader:
    """Passes each step's loss to `record(step, value)` once the host can read it without waiting."""

    def __init__(self, device: torch.device, record: Callable[[int, float], None]) -> None:
        self._record = record
        self._device = device
        self._pending: deque[tuple[int, int, torch.Event]] = deque()
        self._ring = torch.zeros(_RING, pin_memory=True) if device.type != "cpu" else None

    def read(self, step: int, loss: torch.Tensor) -> float | None:
        """The loss of `step` if it is in host memory; otherwise None, and the loss is recorded later."""
        if self._ring is None:
            return float(loss.detach())
        self._collect(wait=len(self._pending) == _RING)
        index = step % _RING
        self._ring[index].copy_(loss.detach(), non_blocking=True)
        event = torch.Event(self._device)
        event.record()
        self._pending.append((step, index, event))
        return None

    def flush(self) -> None:
        """Record all pending losses. Waits for the device."""
        while self._pending:
            self._collect(wait=True)

    def _collect(self, *, wait: bool) -> None:
        while self._pending and (wait or self._pending[0][2].query()):
            step, index, event = self._pending.popleft()
            event.synchronize()
            assert self._ring is not None
            self._record(step, float(self._ring[index]))
            wait = False
