"""What the stand-in itself does, one fact a function. Prints {name of the function: what it returned}."""

import json
from typing import Any

import torch

from tests.cuda_standin.library import StandIn

STANDIN = StandIn()
DEVICE = torch.device("cuda")
ONE, TWO = (torch.full((1024,), value).pin_memory() for value in (1.0, 2.0))


def name() -> str:
    return torch.cuda.get_device_name()


def kernel_launch() -> str:
    try:
        torch.ones(3, device=DEVICE)
    except RuntimeError as error:
        return str(error)
    return "nothing was raised"


def four_queries_of_a_pending_event() -> list[bool]:
    STANDIN.reset("lazy")
    tensor = torch.empty_like(ONE, device=DEVICE)
    tensor.copy_(ONE, non_blocking=True)
    event = torch.Event(DEVICE)
    event.record()
    return [event.query() for _ in range(4)]


def copy_to_pinned_before_and_after_a_wait() -> list[bool]:
    """Whether the values are there."""
    STANDIN.reset("lazy")
    target = torch.empty_like(ONE).pin_memory()
    target.copy_(ONE.to(DEVICE, non_blocking=True), non_blocking=True)
    before = torch.equal(target, ONE)
    torch.cuda.synchronize()
    return [before, torch.equal(target, ONE)]


def copy_to_pageable_before_a_wait() -> bool:
    """non_blocking does not help: the call returns when the copy is over."""
    STANDIN.reset("lazy")
    target = torch.empty_like(ONE)
    target.copy_(ONE.to(DEVICE, non_blocking=True), non_blocking=True)
    return torch.equal(target, ONE)


def fresh_pinned_memory() -> list[int]:
    fresh = torch.empty(3 << 20, dtype=torch.uint8, pin_memory=True)
    return sorted(set(bytes(fresh.numpy())))


def fresh_device_memory() -> list[int]:
    fresh = torch.empty(30 << 20, dtype=torch.uint8, device=DEVICE)
    return sorted(set(bytes(fresh.cpu().numpy())))


def value_behind_a_wait_for_an_event_recorded_again() -> float:
    """The wait means the recording of its time, so the copy may run before the second write, and here does."""
    STANDIN.reset("lazy")
    tensor, target, event = (
        torch.empty_like(ONE, device=DEVICE),
        torch.empty_like(ONE).pin_memory(),
        torch.Event(DEVICE),
    )
    side = torch.Stream(DEVICE)
    tensor.copy_(ONE, non_blocking=True)
    event.record()
    side.wait_event(event)
    with side:
        target.copy_(tensor, non_blocking=True)
    tensor.copy_(TWO, non_blocking=True)
    event.record()
    side.synchronize()
    return float(target[0])


def event_recorded_before_the_copy() -> float:
    """Protects nothing: the write that waits for it overtakes the copy under `hostile`."""
    STANDIN.reset("eager")
    tensor, target = ONE.to(DEVICE), torch.empty_like(ONE).pin_memory()
    side, early, copied = torch.Stream(DEVICE), torch.Event(DEVICE), torch.Event(DEVICE)
    STANDIN.reset("hostile")
    early.record(side)
    with side:
        target.copy_(tensor, non_blocking=True)
    copied.record(side)
    torch.accelerator.current_stream().wait_event(early)
    tensor.copy_(TWO, non_blocking=True)
    copied.synchronize()
    return float(target[0])


def lock_while_setting_the_device() -> list[str]:
    """A call that torch makes without letting go of Python's lock."""
    begun = STANDIN.mark()
    torch.accelerator.set_device_index(1)
    torch.accelerator.set_device_index(0)
    return [entry.memory for entry in STANDIN.log(begun) if entry.kind == "set_device"]


FACTS = [
    name,
    kernel_launch,
    four_queries_of_a_pending_event,
    copy_to_pinned_before_and_after_a_wait,
    copy_to_pageable_before_a_wait,
    fresh_pinned_memory,
    fresh_device_memory,
    value_behind_a_wait_for_an_event_recorded_again,
    event_recorded_before_the_copy,
    lock_while_setting_the_device,
]


def main() -> None:
    results: dict[str, Any] = {fact.__name__: fact() for fact in FACTS}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
