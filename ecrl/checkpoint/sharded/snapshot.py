"""Snapshots: copy live state into host slots while training continues. Fences protect the state being copied.

A slot moves free -> staging -> staged -> persisting -> free. Any other move is refused, so a busy slot cannot take a
second snapshot. Two fences protect the state that a copy still reads:

    before_forward  the forward writes buffers (BatchNorm), so their copy must end first
    before_update   `optimizer.step` writes parameters and optimizer state, so their copy must end first

`begin` copies host state (RNG, counters on the CPU, JSON) itself. On CPU a thread makes the large copy outside the
GIL. On an accelerator a side stream copies into pinned memory; events order it with the compute stream both ways.
"""

import queue
import threading
import time
from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Any

import torch

from ecrl.checkpoint.state_view import Layout, StateView, raw_bytes

_ROUNDED = 1 << 20  # bytes; torch rounds up pinned blocks of up to this size, whatever its settings
_POLL_S = 0.001  # between two queries whether a device copy has ended; a checkpoint takes some hundred times as long


class SlotState(Enum):
    """The state of a slot. `_NEXT` lists the allowed moves."""

    FREE = "free"
    STAGING = "staging"
    STAGED = "staged"
    PERSISTING = "persisting"


_NEXT = {
    SlotState.FREE: SlotState.STAGING,
    SlotState.STAGING: SlotState.STAGED,
    SlotState.STAGED: SlotState.PERSISTING,
    SlotState.PERSISTING: SlotState.FREE,
}


@cache
def _has_rounded_blocks() -> bool:
    """Limit the rounding of pinned blocks to small blocks. Returns True if this torch cannot: every block is rounded.

    Rounding goes up to the next power of two, so a block can take twice what a slot needs. The limit is a setting of
    torch 2.14 and later.
    """
    try:
        already = torch._C._accelerator_getAllocatorSettings()
    except AttributeError:
        return True
    key = f"pinned_max_round_threshold_mb:{_ROUNDED >> 20}"
    try:
        # The call resets every setting that it does not repeat; variants would then train with different allocators.
        torch._C._accelerator_setAllocatorSettings(f"{already},{key}" if already else key)
    except (ValueError, RuntimeError):
        torch._C._accelerator_setAllocatorSettings(already)
        return True
    return False


def slot_bytes(layout: Layout, pinned: bool) -> int:
    """The host memory that a slot takes, in bytes."""
    asked = layout.payload_bytes
    rounded = pinned and (asked <= _ROUNDED or _has_rounded_blocks())
    return 1 << (asked - 1).bit_length() if rounded else asked


class Slot:
    """Host memory for one snapshot of this rank's share. It has the layout of the shard's payload."""

    def __init__(self, layout: Layout, pinned: bool) -> None:
        if pinned:
            _has_rounded_blocks()
        self._pinned = pinned
        self.meta: dict[str, Any] = {}
        self.state = SlotState.FREE
        self._allocate(layout)

    def _allocate(self, layout: Layout) -> None:
        self.layout = layout
        self.payload = torch.empty(layout.payload_bytes, dtype=torch.uint8, pin_memory=self._pinned)
        self.payload.zero_()  # touch every page now: the first snapshot must not pay for page faults
        self.views = layout.views(self.payload)

    def fit(self, layout: Layout) -> None:
        """Allocate the memory anew if it has another layout than `layout`. The slot must be free."""
        if layout != self.layout:
            self.payload = torch.empty(0, dtype=torch.uint8)
            self.views = {}  # never hold both
            self._allocate(layout)

    def read(self) -> Iterator[memoryview]:
        """The bytes of the payload, in order."""
        yield raw_bytes(self.payload)

    def move_to(self, to: SlotState) -> None:
        """Move to the next state.

        Raises:
            AssertionError: `to` is not the next state. Two snapshots would share the slot.
        """
        if _NEXT[self.state] is not to:
            raise AssertionError(f"slot cannot go from {self.state.value} to {to.value}")
        self.state = to


class LiveSlot(Slot):
    """A slot without memory of its own: its views are the live tensors, which must not change until it is free."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout, pinned=False)

    def _allocate(self, layout: Layout) -> None:
        self.layout = layout
        self.views = {}

    def read(self) -> Iterator[memoryview]:
        for name in self.layout.entries:
            yield raw_bytes(self.views[name])


class Stager:
    """Starts copies into slots. The fences delay training only while a copy still reads the state.

    `wait` raises the errors of failed copies. This base class is the contract; `make_stager` chooses the subclass.
    """

    def begin(self, slot: Slot, view: StateView) -> None:
        """Start copying `view` into a free slot. Host state and metadata are copied before this returns."""
        raise NotImplementedError

    def before_forward(self) -> bool:
        """Wait for the copy of the buffers. Returns True if the calling thread had to wait on the host."""
        raise NotImplementedError

    def before_update(self) -> bool:
        """Wait for the copy of parameters and optimizer state. Returns True if the thread had to wait on the host."""
        raise NotImplementedError

    def wait(self, slot: Slot) -> None:
        """Block the calling (persisting) thread until the slot is staged. Raises the error of a failed copy."""
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait until the device has done all work queued so far. Does nothing on CPU."""

    def close(self) -> None:
        """Wait for every started copy and end the helper threads."""


def make_stager(device: torch.device) -> Stager:
    """The stager for `device`."""
    return ThreadStager() if device.type == "cpu" else StreamStager(device)


class _Copy:
    """One copy made by the thread. done: set when the copy has ended, with or without an error."""

    def __init__(self, slot: Slot, targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
        self.slot, self.targets, self.sources = slot, targets, sources
        self.done = threading.Event()
        self.error: BaseException | None = None


class ThreadStager(Stager):
    """CPU: `begin` copies buffers and host state (kilobytes); one thread copies the rest outside the GIL."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[_Copy | None] = queue.SimpleQueue()
        self._copies: dict[int, _Copy] = {}
        self._latest: _Copy | None = None
        self._thread = threading.Thread(target=self._run, name="ecrl-stage", daemon=True)
        self._thread.start()

    def begin(self, slot: Slot, view: StateView) -> None:
        slot.move_to(SlotState.STAGING)
        slot.meta = view.meta
        small = view.local | view.host
        _copy([slot.views[name] for name in small], list(small.values()))
        sources = {name: tensor for name, tensor in view.updated.items() if name in slot.views}
        copy = _Copy(slot, [slot.views[name] for name in sources], list(sources.values()))
        self._copies[id(slot)] = self._latest = copy
        self._queue.put(copy)

    def before_forward(self) -> bool:
        return False  # `begin` has copied the buffers

    def before_update(self) -> bool:
        copy, self._latest = self._latest, None
        if copy is None or copy.done.is_set():  # copies run in order: if the latest is done, all are
            return False
        copy.done.wait()
        return True

    def wait(self, slot: Slot) -> None:
        copy = self._copies.pop(id(slot))
        copy.done.wait()
        if copy.error is not None:
            raise copy.error

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        # A copy must not take the cores that training uses. The training thread keeps its own thread count. Only
        # threads started later inherit this one: the persister's.
        torch.set_num_threads(1)
        while (copy := self._queue.get()) is not None:
            try:
                _copy(copy.targets, copy.sources)
                copy.slot.move_to(SlotState.STAGED)
            except BaseException as error:  # wait() raises it; the training thread must not hang at a fence
                copy.error = error
            finally:
                copy.sources = []
                copy.done.set()


class LiveStager(Stager):
    """CPU, for training that waits until the slot is free: nothing is copied."""

    def begin(self, slot: Slot, view: StateView) -> None:
        slot.move_to(SlotState.STAGING)
        slot.meta = view.meta
        slot.views = {name: view.tensors[name] for name in slot.layout.entries}

    def before_forward(self) -> bool:
        return False

    def before_update(self) -> bool:
        return False

    def wait(self, slot: Slot) -> None:
        slot.move_to(SlotState.STAGED)


class StreamStager(Stager):
    """Accelerators: a side stream copies into pinned slots. All fences between streams are waits on the device.

    The copy stream waits for the update that made the state (read after write). The compute stream waits for the copy
    before it writes again (write after read). The persister waits on the host before it reads the slot.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.Stream(device=device)
        self._device = self._stream.device  # with its index
        self._buffers_copied: torch.Event | None = None
        self._all_copied: torch.Event | None = None
        self._events: dict[int, torch.Event] = {}

    def begin(self, slot: Slot, view: StateView) -> None:
        if not slot.payload.is_pinned():  # with a pageable target, the copy would make the host wait
            raise AssertionError("snapshot slots of an accelerator must be pinned")
        slot.move_to(SlotState.STAGING)
        slot.meta = view.meta
        self._copy_host(slot, view)
        self._follow_update()
        with self._stream:
            self._copy_on_stream(slot, view.local | view.host)
            self._buffers_copied = self._record_event()
            self._copy_on_stream(slot, view.updated)
            self._all_copied = self._events[id(slot)] = self._record_event()

    def _copy_host(self, slot: Slot, view: StateView) -> None:
        """Copy the tensors in host memory, e.g. Adam's step counters, before this returns."""
        # The host changes these tensors outside any stream, so no event can order the copy.
        for name, tensor in view.tensors.items():
            if name in slot.views and tensor.device.type == "cpu":
                slot.views[name].copy_(tensor)

    def _follow_update(self) -> None:
        """Make the copy stream wait for the update that is queued on the compute stream."""
        updated = torch.Event(self._device)
        updated.record(torch.accelerator.current_stream(self._device))
        self._stream.wait_event(updated)

    def _copy_on_stream(self, slot: Slot, sources: dict[str, torch.Tensor]) -> None:
        for name, tensor in sources.items():
            if name in slot.views and tensor.device.type != "cpu":
                slot.views[name].copy_(tensor, non_blocking=True)

    def _record_event(self) -> torch.Event:
        event = torch.Event(self._device)
        event.record(self._stream)
        return event

    def before_forward(self) -> bool:
        if self._buffers_copied is not None:
            torch.accelerator.current_stream(self._device).wait_event(self._buffers_copied)
            self._buffers_copied = None
        return False

    def before_update(self) -> bool:
        if self._all_copied is not None:
            torch.accelerator.current_stream(self._device).wait_event(self._all_copied)
            self._all_copied = None
        return False

    def wait(self, slot: Slot) -> None:
        # A new thread starts on GPU 0. If the event is destroyed here, torch switches back to the thread's device
        # afterwards, which would create a context of some 500 MB on GPU 0 for every rank.
        torch.accelerator.set_device_index(self._device)
        copied = self._events.pop(id(slot))
        while not copied.query():  # `synchronize` would spin and take a core from training during the whole copy
            time.sleep(_POLL_S)
        slot.move_to(SlotState.STAGED)

    def synchronize(self) -> None:
        torch.accelerator.synchronize(self._device)

    def close(self) -> None:
        self._stream.synchronize()


def _copy(targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
    if targets:
        with torch.no_grad():
            torch._foreach_copy_(targets, sources)  # one call, which releases the GIL once for all tensors
