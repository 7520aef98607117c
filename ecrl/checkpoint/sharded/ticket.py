"""One checkpoint in flight. Its outcome is always recorded."""

from dataclasses import dataclass

from ecrl.checkpoint.sharded.snapshot import Slot


@dataclass(frozen=True)
class Ticket:
    """The checkpoint of `step` and the slot that holds its snapshot until it is committed or given up."""

    step: int
    slot: Slot
