"""Snapshots in rotation, read by a persister thread and compared with what each step left behind."""

import queue
import threading
from collections.abc import Callable
from typing import Protocol

import torch

from ecrl.checkpoint.sharded.snapshot import Slot, SlotState, Stager
from ecrl.checkpoint.state_view import Layout, StateView, raw_bytes

Torn = dict[int, list[str]]  # step -> names of the tensors that differ from the state after that step

_STALE = 0xAB  # what a slot holds after it was read: bytes that no snapshot has
_PATIENCE_S = 20  # nothing here takes longer than milliseconds


class Training(Protocol):
    """Live state on the device, and what it must be after each step."""

    def forward(self, step: int) -> None:
        """Queue the change of the buffers."""

    def update(self, step: int) -> None:
        """Queue the change of parameters and optimizer state; change host state at once."""

    def view(self, step: int) -> StateView:
        """As `CheckpointableState.view`."""

    def expected(self, step: int) -> dict[str, torch.Tensor]:
        """All tensors of the view after `step`, in host memory."""


class Persister:
    """Waits for a slot, compares it, spoils it and hands it back; in its own thread like an engine's."""

    def __init__(self, stager: Stager, expected: Callable[[int], dict[str, torch.Tensor]]) -> None:
        self._stager, self._expected = stager, expected
        self._tickets: queue.Queue[tuple[int, Slot] | None] = queue.Queue()
        self.free: queue.Queue[Slot] = queue.Queue()
        self.torn: Torn = {}
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def take(self, step: int, slot: Slot) -> None:
        self._tickets.put((step, slot))

    def catch_up(self) -> None:
        """Wait until all tickets taken so far are done."""
        self._tickets.join()

    def close(self) -> None:
        self._tickets.put(None)
        self._thread.join(_PATIENCE_S)
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        while (ticket := self._tickets.get()) is not None:
            try:
                self._persist(*ticket)
            except BaseException as error:  # surfaces in close(); the queue must not stand still until then
                self.error = error
            self._tickets.task_done()

    def _persist(self, step: int, slot: Slot) -> None:
        self._stager.wait(slot)
        slot.move_to(SlotState.PERSISTING)
        torn = differing(slot, self._expected(step))
        if torn:
            self.torn[step] = torn
        slot.payload.fill_(_STALE)
        slot.move_to(SlotState.FREE)
        self.free.put(slot)


def differing(slot: Slot, expected: dict[str, torch.Tensor]) -> list[str]:
    """Names whose bytes in the slot are not those of `expected`, in the payload or as its views show them."""
    in_payload = slot.layout.views(slot.payload)
    return [
        name
        for name in slot.layout.entries
        if any(raw_bytes(seen[name]) != raw_bytes(expected[name]) for seen in (in_payload, slot.views))
    ]


def take_snapshots(stager: Stager, training: Training, steps: int, *, in_step: bool) -> Torn:
    """A snapshot of every step into two slots in rotation.

    in_step: the persister gets a slot once the next step and the next snapshot are queued, and training stands
    still while it reads. So each policy has all there is to put out of order, and a run repeats exactly.
    Otherwise it gets the slot at once and reads whenever it comes to it.
    """
    view = training.view(0)
    layout = Layout(view.replicated | view.local | view.host)
    persister = Persister(stager, training.expected)
    for _ in range(2):
        persister.free.put(Slot(layout, pinned=True))
    behind: tuple[int, Slot] | None = None
    for step in range(1, steps + 1):
        stager.before_forward()
        training.forward(step)
        stager.before_update()
        training.update(step)
        slot = persister.free.get(timeout=_PATIENCE_S)
        stager.begin(slot, training.view(step))
        if not in_step:
            persister.take(step, slot)
            continue
        if behind is not None:
            persister.take(*behind)
            persister.catch_up()
        behind = (step, slot)
    if behind is not None:
        persister.take(*behind)
    persister.close()
    stager.close()
    return persister.torn
