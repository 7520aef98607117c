"""The production stager with one fence taken out. What cannot see these torn proves nothing about the rest."""

import torch

from ecrl.checkpoint.sharded.snapshot import Slot, SlotState, StreamStager
from ecrl.checkpoint.state_view import StateView


class CopyIgnoresUpdate(StreamStager):
    """The copy stream does not wait for the update that makes the state (read after write)."""

    def _follow_update(self) -> None:
        pass


class ForwardIgnoresCopy(StreamStager):
    """The next forward does not wait for the copy of the buffers (write after read)."""

    def before_forward(self) -> bool:
        return False


class UpdateIgnoresCopy(StreamStager):
    """The next update does not wait for the copy of parameters and optimizer state (write after read)."""

    def before_update(self) -> bool:
        return False


class PersisterIgnoresCopy(StreamStager):
    """The persister reads the slot without waiting for the copy into it."""

    def wait(self, slot: Slot) -> None:
        slot.move_to(SlotState.STAGED)


class HostStateCopiedLate(StreamStager):
    """Tensors in host memory are copied by the persister instead of at the call."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._late: dict[int, StateView] = {}

    def _copy_host(self, slot: Slot, view: StateView) -> None:
        self._late[id(slot)] = view

    def wait(self, slot: Slot) -> None:
        super()._copy_host(slot, self._late.pop(id(slot)))
        super().wait(slot)


FENCES: dict[str, type[StreamStager]] = {
    "right": StreamStager,
    "copy_ignores_update": CopyIgnoresUpdate,
    "forward_ignores_copy": ForwardIgnoresCopy,
    "update_ignores_copy": UpdateIgnoresCopy,
    "persister_ignores_copy": PersisterIgnoresCopy,
    "host_state_copied_late": HostStateCopiedLate,
}


class CopiesOnComputeStream(StreamStager):
    """Makes its side stream and does not use it: exact, and no overlap at all."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._stream = torch.accelerator.current_stream(device)


class CopiesBlock(StreamStager):
    """Each copy is waited for on the host: exact, and training stands still."""

    def _copy_on_stream(self, slot: Slot, sources: dict[str, torch.Tensor]) -> None:
        super()._copy_on_stream(slot, sources)
        self._stream.synchronize()


class FenceBlocks(StreamStager):
    """The fence before the update is a wait on the host instead of one on the device."""

    def before_update(self) -> bool:
        self._stream.synchronize()
        return True


OVERLAP: dict[str, type[StreamStager]] = {
    "right": StreamStager,
    "copies_on_compute_stream": CopiesOnComputeStream,
    "copies_block": CopiesBlock,
    "fence_blocks": FenceBlocks,
}
