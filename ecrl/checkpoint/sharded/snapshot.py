"""Snapshots: copying live state into host slots while training goes on, and the fences that make it safe.

A slot goes free -> staging -> staged -> persisting -> free; any other move is refused, so a second snapshot
into a busy slot cannot happen. Two fences protect the state that a copy still reads:

    before_forward  buffers (BatchNorm) are next written by the forward, so their copy must be over by then
    before_update   parameters and optimizer state are next written by `optimizer.step`

Host state (RNG, counters on the CPU, JSON) is copied at the call. On CPU the large copy runs in a thread,
outside the GIL; on an accelerator on a side stream, into pinned memory, ordered by events both ways.
"""

import queue
import threading
import time
from enum import Enum
from functools import cache
from typing import Any

import torch

from ecrl.checkpoint.state_view import Layout, StateView

_ROUNDED = 1 << 20  # bytes; pinned blocks up to here are rounded up whatever torch is told
_POLL_S = 0.001  # between two looks whether a device has copied; a checkpoint takes some hundred times as long


class SlotState(Enum):
    """Where a slot stands; `Slot.move_to` lists the only moves there are."""

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
    """Whether torch rounds every pinned block up to a power of two, up to twice what a slot needs. From here on it does
    so only for small ones, where it can be told (torch 2.14; an older one does not know the key)."""
    try:
        already = torch._C._accelerator_getAllocatorSettings()
    except AttributeError:
        return True
    key = f"pinned_max_round_threshold_mb:{_ROUNDED >> 20}"
    try:
        # what is not said again goes back to its default, and variants would train with different allocators
        torch._C._accelerator_setAllocatorSettings(f"{already},{key}" if already else key)
    except (ValueError, RuntimeError):
        torch._C._accelerator_setAllocatorSettings(already)
        return True
    return False


def slot_bytes(layout: Layout, pinned: bool) -> int:
    """Host memory that a slot takes."""
    asked = layout.payload_bytes
    rounded = pinned and (asked <= _ROUNDED or _has_rounded_blocks())
    return 1 << (asked - 1).bit_length() if rounded else asked


class Slot:
    """Host memory for one snapshot of this rank's share, laid out as the payload of its shard."""

    def __init__(self, layout: Layout, pinned: bool) -> None:
        self.layout = layout
        if pinned:
            _has_rounded_blocks()
        self.payload = torch.empty(layout.payload_bytes, dtype=torch.uint8, pin_memory=pinned)
        self.payload.zero_()  # touch every page now: the first snapshot must not pay for page faults
        self.views = layout.views(self.payload)
        self.meta: dict[str, Any] = {}
        self.state = SlotState.FREE

    def move_to(self, to: SlotState) -> None:
        """Advance to the next state.

        Raises:
            AssertionError: not the next state; two snapshots would share the slot.
        """
        if _NEXT[self.state] is not to:
            raise AssertionError(f"slot cannot go from {self.state.value} to {to.value}")
        self.state = to


class Stager:
    """Starts copies into slots and holds training back, at the fences, only where a copy still reads.

    `failed` copies surface in `wait`. The base class is the contract; `make_stager` picks the device's.
    """

    def begin(self, slot: Slot, view: StateView) -> None:
        """Start copying `view` into a free slot; host state and metadata are copied before this returns."""
        raise NotImplementedError

    def before_forward(self) -> bool:
        """Fence buffers. True if the calling thread had to wait on the host."""
        raise NotImplementedError

    def before_update(self) -> bool:
        """Fence parameters and optimizer state. True if the calling thread had to wait on the host."""
        raise NotImplementedError

    def wait(self, slot: Slot) -> None:
        """Block the calling (persisting) thread until the slot is staged; raises what the copy raised."""
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait until the device has done all work queued so far (nothing to do on CPU)."""

    def close(self) -> None:
        """End helper threads; every begun copy is over."""


def make_stager(device: torch.device) -> Stager:
    """The stager of a device type."""
    return ThreadStager() if device.type == "cpu" else StreamStager(device)


class _Copy:
    """One copy in the thread: done is set at its end, well or not."""

    def __init__(self, slot: Slot, targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
        self.slot, self.targets, self.sources = slot, targets, sources
        self.done = threading.Event()
        self.error: BaseException | None = None


class ThreadStager(Stager):
    """CPU: buffers and host state are copied at the call (kilobytes), the rest by one thread outside the GIL."""

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
        names = [name for name in view.replicated if name in slot.views]
        copy = _Copy(slot, [slot.views[n] for n in names], [view.replicated[n] for n in names])
        self._copies[id(slot)] = self._latest = copy
        self._queue.put(copy)

    def before_forward(self) -> bool:
        return False  # buffers were copied at the call

    def before_update(self) -> bool:
        copy, self._latest = self._latest, None
        if copy is None or copy.done.is_set():  # copies are made in order: the latest done means all done
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
        # A copy must not take the cores that training uses. The training thread keeps its own count; only
        # threads started later inherit this one, and those persist.
        torch.set_num_threads(1)
        while (copy := self._queue.get()) is not None:
            try:
                _copy(copy.targets, copy.sources)
                copy.slot.move_to(SlotState.STAGED)
            except BaseException as error:  # surfaces in wait(); the training thread must not hang at a fence
                copy.error = error
            finally:
                copy.sources = []
                copy.done.set()


class StreamStager(Stager):
    """Accelerators: a side stream copies into pinned slots; all fences between streams are GPU-side waits.

    The copy stream waits for the update that made the state (read after write), the compute stream for the
    copy before it writes again (write after read), and the persister on the host before it reads the slot.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.Stream(device=device)
        self._device = self._stream.device  # with its index
        self._buffers_copied: torch.Event | None = None
        self._all_copied: torch.Event | None = None
        self._events: dict[int, torch.Event] = {}

    def begin(self, slot: Slot, view: StateView) -> None:
        if not slot.payload.is_pinned():  # a pageable target turns the copy into a silent host wait
            raise AssertionError("snapshot slots of an accelerator must be pinned")
        slot.move_to(SlotState.STAGING)
        slot.meta = view.meta
        self._copy_host(slot, view)
        self._follow_update()
        with self._stream:
            self._copy_on_stream(slot, view.local | view.host)
            self._buffers_copied = self._record_event()
            self._copy_on_stream(slot, view.replicated)
            self._all_copied = self._events[id(slot)] = self._record_event()

    def _copy_host(self, slot: Slot, view: StateView) -> None:
        """Copy at the call what lies in host memory, e.g. Adam's step counters: the host changes it, by no stream."""
        for name, tensor in (view.replicated | view.local | view.host).items():
            if name in slot.views and tensor.device.type == "cpu":
                slot.views[name].copy_(tensor)

    def _follow_update(self) -> None:
        """Fence the copy: it reads what the update now queued on the compute stream leaves behind."""
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
        # A new thread is on GPU 0. The event may die here, and torch ends that by going back to the thread's
        # device, which would make every rank a context of some 500 MB on GPU 0.
        torch.accelerator.set_device_index(self._device)
        copied = self._events.pop(id(slot))
        while not copied.query():  # `synchronize` would spin: a core that training needs, for as long as the copy takes
            time.sleep(_POLL_S)
        slot.move_to(SlotState.STAGED)

    def synchronize(self) -> None:
        torch.accelerator.synchronize(self._device)

    def close(self) -> None:
        self._stream.synchronize()


def _copy(targets: list[torch.Tensor], sources: list[torch.Tensor]) -> None:
    if targets:
        with torch.no_grad():
            torch._foreach_copy_(targets, sources)  # one call, so the GIL is given up once for all of them
