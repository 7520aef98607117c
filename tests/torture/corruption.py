"""Corruption sweep: single-bit flips and truncations anywhere in the newest checkpoint are noticed by every rank,
all ranks fall back to the same older checkpoint, and its state is whole."""

import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch

from ecrl.storage import commit
from ecrl.storage.commit import step_folder
from tests.torture.verdict import Verdict, told
from tests.unit.checkpoint.ranks_in_threads import Group

OLDER, NEWEST = 10, 20
WORLD_SIZE = 2


def damaged(folder: Path, rng: random.Random, *, cut: bool) -> str:
    """Damage one file of a checkpoint and say how. Files are drawn evenly, so that small ones are hit too."""
    path = rng.choice(sorted(folder.iterdir()))
    data = path.read_bytes()
    if cut:
        length = rng.randrange(len(data))
        path.write_bytes(data[:length])
        return f"{path.name} cut to {length} of {len(data)} bytes"
    place, bit = rng.randrange(len(data)), rng.randrange(8)
    path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
    return f"{path.name} byte {place} bit {bit}"


def sweep(flips: int = 200, cuts: int = 50, seed: int = 1) -> Verdict:
    """Damage a checkpoint flips + cuts times and restore after each."""
    rng = random.Random(seed)
    faults: list[str] = []
    hit: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        first = Group(whole, "blocking", WORLD_SIZE)
        first.train(1, NEWEST)
        first.settle()
        for trial in range(flips + cuts):
            folder = Path(temporary) / f"trial-{trial}"
            shutil.copytree(whole, folder)
            how = damaged(step_folder(folder / "checkpoints", NEWEST), rng, cut=trial >= flips)
            hit[how.split()[0]] += 1
            faults += [f"{how}: {fault}" for fault in after_restore(folder)]
            shutil.rmtree(folder)
    trials, wrong = flips + cuts, len({fault.partition(":")[0] for fault in faults})
    text = f"{trials - wrong} of {trials} damaged checkpoints detected, all {WORLD_SIZE} ranks fell back to {OLDER}"
    return Verdict("corruption", text, faults, {"flips": flips, "cuts": cuts, "files_hit": dict(sorted(hit.items()))})


def after_restore(folder: Path) -> list[str]:
    """What is wrong with the restore of a damaged run."""
    if (verdict := commit.verify(folder / "checkpoints", NEWEST)).state == "valid":
        return [f"`checkpoint verify` calls it {verdict.state}"]
    group = Group(folder, "overlapped", WORLD_SIZE, attempt=1)
    restored = group.each(lambda rank: group.engines[rank].restore())
    group.settle()
    faults = []
    for rank, (found, state) in enumerate(zip(restored, group.states, strict=True)):
        if found.step != OLDER or [p["step"] for p in found.passed_over] != [NEWEST]:
            faults.append(f"rank {rank} restored {found.step}")
        elif found.digest_live != found.digest_recorded or not _is_of(state.view(OLDER).updated, OLDER):
            faults.append(f"rank {rank} has another state")
        elif not _is_of(state.buffers, 100 * rank + OLDER):
            faults.append(f"rank {rank} has other buffers")
    return faults


def _is_of(tensors: dict[str, torch.Tensor], value: int) -> bool:
    return all(bool((tensor == value).all()) for tensor in tensors.values())


if __name__ == "__main__":
    sys.exit(told(sweep, __doc__, {"flips": 200, "cuts": 50, "seed": 1}))
