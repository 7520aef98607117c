"""Host memory: saving costs the slots and nothing more, and 100 saves leave it where it was (within 2 %)."""

import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch

from tests.torture.verdict import Verdict, told
from tests.unit.checkpoint.ranks_in_threads import Group, ToyState

_SETTLING_SAVES = 10  # threads and their buffers come with the first ones
_GROWTH_RATIO = 1.02
_SLOT_RATIO = 1.1
_SLOTS = 2


class StateOf(ToyState):
    """The toy state, `mib` MiB large, in 16 tensors."""

    mib = 80

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        for place in range(16):
            self.weights[f"model/layer{place}"] = torch.zeros(self.mib * 2**20 // 4 // 16)


def resident_bytes() -> int:
    """Anonymous memory of this process that lies in RAM: without files, whose mapped pages come and go."""
    with open("/proc/self/smaps_rollup") as file:  # noqa: PTH123 (not a file to have a Path)
        fields = dict(line.split()[:2] for line in file if ":" in line.split()[0] and len(line.split()) == 3)
    return int(fields["Anonymous:"]) * 1024


def sweep(saves: int = 100, mib: int = 80) -> Verdict:
    """Overlapped saves of a state of `mib` MiB, one rank, two slots, in this process."""
    faults, seen = [], []
    with (
        tempfile.TemporaryDirectory() as temporary,
        patch.object(StateOf, "mib", mib),
    ):
        begun = resident_bytes()
        group = Group(Path(temporary), "overlapped", 1, state=StateOf, checkpoint_every=1, max_inflight=_SLOTS)
        state_bytes = sum(t.nbytes for t in (group.states[0].weights | group.states[0].buffers).values())
        # the state itself is touched by its first step; the slots were touched when they were made
        group.train(1, _SETTLING_SAVES)
        settled = resident_bytes()
        for step in range(_SETTLING_SAVES + 1, _SETTLING_SAVES + saves + 1):
            group.train(step, step)
            seen.append(resident_bytes())
        group.settle()
    cost = max(settled, *seen) - begun - state_bytes  # beyond the training state
    growth = max(seen) / settled
    if growth > _GROWTH_RATIO:
        faults.append(f"memory grew to {growth:.3f} of what it was after {_SETTLING_SAVES} saves")
    if cost > _SLOT_RATIO * state_bytes * _SLOTS:
        faults.append(f"saving takes {cost / state_bytes / _SLOTS:.3f} x (snapshot x slots)")
    text = (
        f"highest of {saves} saves is {growth:.4f} x the start; beyond the state {cost / state_bytes / _SLOTS:.3f} x"
        f" (snapshot x {_SLOTS} slots)"
    )
    facts = {"snapshot_bytes": state_bytes, "resident_after_settling": settled, "highest": max(seen), "last": seen[-1]}
    return Verdict("memory", text, faults, facts)


if __name__ == "__main__":
    sys.exit(told(sweep, __doc__, {"saves": 100, "mib": 80}))
