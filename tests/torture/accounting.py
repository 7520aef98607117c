"""No silent skips: every checkpoint that was asked for is committed, or recorded as failed on every rank."""

import errno
import random
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ecrl.checkpoint.sharded import engine as sharded
from ecrl.checkpoint.sharded.persist import write_rank
from ecrl.storage import commit
from ecrl.storage.commit import FileFacts
from tests.torture.verdict import Verdict, told
from tests.unit.checkpoint.ranks_in_threads import Group

WORLD_SIZE = 2


def sweep(saves: int = 500, seed: int = 1) -> Verdict:
    """Overlapped saves of which every fifth write of a rank and every tenth commit meets a full or failing disk."""
    rng = random.Random(seed)
    broken = {(step, rank) for step in range(1, saves + 1) for rank in range(WORLD_SIZE) if rng.random() < 0.2}
    uncommitted = {step for step in range(1, saves + 1) if rng.random() < 0.1}
    whole_commit = commit.commit

    def failing_write(folder: Path, slot: Any, **facts: Any) -> dict[str, FileFacts]:
        if (facts["step"], facts["rank"]) in broken:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        return write_rank(folder, slot, **facts)

    def failing_commit(folder: Path, **facts: Any) -> None:
        if facts["step"] in uncommitted:
            raise OSError(errno.EIO, "Input/output error")
        whole_commit(folder, **facts)

    with (
        tempfile.TemporaryDirectory() as temporary,
        patch.object(sharded, "write_rank", failing_write),
        patch.object(commit, "commit", failing_commit),
    ):
        group = Group(Path(temporary), "overlapped", WORLD_SIZE, checkpoint_every=1)
        group.train(1, saves)
        group.settle()
        requested = [[e["s"] for e in group.events(rank, "save")] for rank in range(WORLD_SIZE)]
        committed = [e["s"] for e in group.events(0, "committed")]
        failed = [[e["s"] for e in group.events(rank, "persist_failed")] for rank in range(WORLD_SIZE)]
        on_disk = commit.list_committed_steps(group.folder / "checkpoints")
    expected = sorted({step for step, _ in broken} | uncommitted)
    faults = [f"rank {rank} counted {len(own)} failures of {len(expected)}" for rank, own in enumerate(failed)
              if own != expected]  # fmt: skip
    faults += [
        f"rank {rank}: {len(asked)} requested, {len(committed)} committed, {len(failed[rank])} counted as failed"
        for rank, asked in enumerate(requested)
        if sorted([*committed, *failed[rank]]) != asked
    ]
    if committed != sorted(committed) or on_disk != committed[-2:]:
        faults.append(f"committed out of order, or not on disk: {on_disk}")
    text = f"{saves} requested = {len(committed)} committed + {len(failed[0])} counted as failed, on {WORLD_SIZE} ranks"
    return Verdict("accounting", text, faults)


if __name__ == "__main__":
    sys.exit(told(sweep, __doc__, {"saves": 500, "seed": 1}))
