"""The production stager of the CPU with delays, and its mutants, each of which lacks one fence."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ecrl.checkpoint.sharded.snapshot import Slot, SlotState, ThreadStager
from ecrl.checkpoint.state_view import StateView
from ecrl.selftest.progress import Progress

_PAUSE_S = 0.002


class _InHalves(TorchFunctionMode):
    """Delays every copy of its thread: `before` runs before the copy, `middle` after half of it."""

    def __init__(self, before: Callable[[], None], middle: Callable[[], None]) -> None:
        super().__init__()
        self._before, self._middle = before, middle

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch._foreach_copy_:
            return func(*args, **(kwargs or {}))
        targets, sources = args
        half = len(targets) // 2
        self._before()
        func(targets[:half], sources[:half])
        self._middle()
        return func(targets[half:], sources[half:])


class LateThreadStager(ThreadStager):
    """Starts each copy when training has reached the fence, and pauses it half way until the update is over.

    The pause ends after `patience_s` seconds if the fence delays the update, as it must.
    """

    def __init__(self, progress: Progress, patience_s: float) -> None:
        self.progress, self._patience_s = progress, patience_s
        self._newest = 0
        super().__init__()

    def begin(self, slot: Slot, view: StateView) -> None:
        self._newest = view.meta["step"]
        super().begin(slot, view)

    def _run(self) -> None:
        with _InHalves(self._delay_begin, self._delay_middle):
            super()._run()

    def _delay_begin(self) -> None:
        self.progress.wait_for("forward", self._newest + 1)
        time.sleep(_PAUSE_S)

    def _delay_middle(self) -> None:
        self.progress.wait_for("update", self._newest + 1, self._patience_s)


class UpdateIgnoresCopy(LateThreadStager):
    """The update does not wait for the copy of parameters and optimizer state."""

    def before_update(self) -> bool:
        return False


class BuffersCopiedLate(LateThreadStager):
    """The thread copies the buffers with all the rest, instead of `begin`."""

    def begin(self, slot: Slot, view: StateView) -> None:
        super().begin(slot, replace(view, replicated=view.replicated | view.local, local={}))


class _NoSlot:
    """Ignores the state changes of a copy that no caller waits for."""

    def move(self, to: SlotState) -> None:
        """Do nothing."""


class PersisterIgnoresCopy(LateThreadStager):
    """The persister reads the slot without waiting for the copy into it."""

    def wait(self, slot: Slot) -> None:
        copy: Any = self._copies.pop(id(slot))
        if not copy.done.is_set():
            copy.slot = _NoSlot()
            slot.move_to(SlotState.STAGED)


class GeneratorsReadLate(LateThreadStager):
    """The persister reads the random generators, instead of `begin`."""

    def wait(self, slot: Slot) -> None:
        super().wait(slot)
        self.progress.wait_for("forward", slot.meta["step"] + 1)
        slot.views["own/rng/torch"].copy_(torch.get_rng_state())
