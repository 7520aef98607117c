"""Torn-snapshot probe: overlapped saves of a state that carries its own step in every element.

Training overwrites the state as soon as the fences let it, with nothing in between, so a fence that is
missing or early shows; the control, without fences, must be seen to tear.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file

from ecrl.checkpoint.sharded import engine as sharded
from ecrl.checkpoint.sharded.persist import write_rank
from ecrl.checkpoint.sharded.snapshot import ThreadStager
from ecrl.storage.commit import FileFacts, ShardNames
from tests.torture.verdict import Verdict, told
from tests.unit.checkpoint.ranks_in_threads import Group, ToyState

_WIDE = 512 * 1024  # elements; copying takes longer than getting to the next write


class LargeState(ToyState):
    """The toy state with enough bytes to be caught in the copy: many tensors, so that a copy has a middle."""

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        for place in range(4):
            self.weights[f"model/layer{place}"] = torch.zeros(_WIDE // 4)
            self.weights[f"optimizer/layer{place}/step"] = torch.tensor(0.0)  # like Adam's, in host memory


class Probe:
    """Reads back every shard right after it was written, before it can be committed."""

    def __init__(self) -> None:
        self.looked = 0
        self.torn: list[str] = []

    def write_and_look(self, folder: Path, slot: Any, **facts: Any) -> dict[str, FileFacts]:
        written = write_rank(folder, slot, **facts)
        step, rank = facts["step"], facts["rank"]
        self.looked += 1
        for name, tensor in load_file(folder / ShardNames(rank).tensors).items():
            value = 100 * rank + step if name.startswith("own/buffers/") else step
            expected = torch.tensor(value).to(tensor.dtype)  # bfloat16 rounds steps above 256
            if name != "own/rng" and not bool((tensor == expected).all()):
                found = sorted({int(value) for value in tensor.double().flatten().tolist()})[:4]
                self.torn.append(f"checkpoint {step}, rank {rank}, {name}: holds steps {found}")
        if slot.meta["step"] != step:
            self.torn.append(f"checkpoint {step}, rank {rank}: meta of step {slot.meta['step']}")
        return written


def saved(saves: int, world_size: int) -> Probe:
    """Make overlapped saves, one after every step, and look at each."""
    probe = Probe()
    with (
        tempfile.TemporaryDirectory() as temporary,
        patch.object(sharded, "write_rank", probe.write_and_look),
    ):
        group = Group(Path(temporary), "overlapped", world_size, state=LargeState, checkpoint_every=1, max_inflight=3)
        group.train(1, saves)
        group.settle()
    return probe


def sweep(saves: int = 1000, control: int = 50) -> Verdict:
    """The saves, with two ranks, and as many without the fence as `control` says."""
    probe = saved(saves, 2)
    with patch.object(ThreadStager, "before_update", lambda _: False):
        unfenced = saved(control, 1)
    torn = {text.partition(",")[0] for text in probe.torn}
    control_torn = {text.partition(",")[0] for text in unfenced.torn}
    faults = list(probe.torn)
    if probe.looked != 2 * saves:
        faults.append(f"looked at {probe.looked} shards, expected {2 * saves}")
    if not control_torn:
        faults.append(f"the probe is blind: none of {control} snapshots without a fence was torn")
    text = f"{len(torn)} of {saves} overlapped saves torn (without the fence {len(control_torn)} of {control})"
    return Verdict("torn", text, faults)


if __name__ == "__main__":
    sys.exit(told(sweep, __doc__, {"saves": 1000, "control": 50}))
