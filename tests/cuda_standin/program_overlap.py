"""What a snapshot makes the device and the host do. Prints, per stager, the log of the calls around one."""

import json
import threading
from typing import Any

import torch

from ecrl.checkpoint.sharded.snapshot import Slot, SlotState, Stager, slot_bytes
from ecrl.checkpoint.state_view import Layout
from tests.cuda_standin.drill import take_snapshots
from tests.cuda_standin.library import StandIn
from tests.cuda_standin.mutants import OVERLAP
from tests.cuda_standin.toy import HOST_RNG, HOST_STEP, ToyTraining


def log_of_one_snapshot(standin: StandIn, stager: Stager) -> dict[str, Any]:
    """The log from `begin` up to the next update, of the second snapshot: the first may still allocate."""
    standin.reset("lazy")
    training = ToyTraining(torch.device("cuda"), steps=3)
    view = training.view(0)
    layout = Layout(view.replicated | view.local | view.host)
    slot = Slot(layout, pinned=True)
    for step in (1, 2):
        training.forward(step)
        training.update(step)
        begun = standin.mark()
        stager.begin(slot, training.view(step))
        staged = standin.mark()
        stager.before_forward()
        training.forward(step + 1)
        stager.before_update()
        fenced = standin.mark()
        stager.wait(slot)
        slot.move_to(SlotState.PERSISTING)
        slot.move_to(SlotState.FREE)
    return {
        "begin": standin.log(begun, staged),
        "fences": standin.log(staged, fenced),
        "wait": standin.log(fenced),
        "payload_bytes": layout.payload_bytes,
        "host_bytes": sum(layout.entries[name].end - layout.entries[name].begin for name in (HOST_STEP, HOST_RNG)),
    }


def pageable_slot_is_refused(device: torch.device) -> str:
    training = ToyTraining(device, steps=1)
    view = training.view(0)
    slot = Slot(Layout(view.replicated | view.local | view.host), pinned=False)
    try:
        OVERLAP["right"](device).begin(slot, view)
    except AssertionError as error:
        return str(error)
    return "accepted"


def bytes_of_a_slot(standin: StandIn, payload_bytes: int) -> dict[str, int]:
    """What `slot_bytes` says, and what torch allocates."""
    layout = Layout({"model/weight": torch.empty(payload_bytes, dtype=torch.uint8)})
    begun = standin.mark()
    slot = Slot(layout, pinned=True)
    allocated = sum(entry.bytes for entry in standin.log(begun) if entry.kind == "pinned_alloc")
    assert slot.payload.nbytes == payload_bytes
    return {"said": slot_bytes(layout, pinned=True), "allocated": allocated}


def devices_set_by_the_persister(standin: StandIn) -> list[int]:
    """On the second GPU of a machine: devices that the persister thread makes its own, in order."""
    device = torch.device("cuda", 1)
    torch.accelerator.set_device_index(device)
    training = ToyTraining(device, steps=4)
    begun = standin.mark()
    assert take_snapshots(OVERLAP["right"](device), training, 4, in_step=True) == {}
    here = threading.get_native_id()
    entries = [e for e in standin.log(begun) if e.thread != here]
    torch.accelerator.set_device_index(0)
    return [entry.bytes for entry in entries if entry.kind == "set_device"]


def main() -> None:
    standin = StandIn()
    device = torch.device("cuda")
    logs = {name: log_of_one_snapshot(standin, stager(device)) for name, stager in OVERLAP.items()}
    print(
        json.dumps(
            {
                "logs": logs,
                "training_thread": threading.get_native_id(),
                "pageable": pageable_slot_is_refused(device),
                "slots": [bytes_of_a_slot(standin, size) for size in (1 << 20, (1 << 20) + 1, (1 << 22) + 1)],
                "devices": devices_set_by_the_persister(standin),
            }
        )
    )


if __name__ == "__main__":
    main()
