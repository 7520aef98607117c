"""Finished campaigns of planned crashes, which several tests look at: made once, as few worker groups as it takes.

Every start of a cold worker group imports torch in every rank, and that is nearly all the time there is. So one
cold suite goes through every crash that a launcher has a part in, one after another; crashes inside the phases of a
checkpoint, which know of no launcher, are made warm (`test_phases`; `make torture` has all of them cold).
"""

import os
import subprocess
import sys
from pathlib import Path

from ecrl.config.load import load
from ecrl.config.suite import Suite, expand_matrix
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord, read_run

EVERY = 5
STEPS = 24
ENGINES = ("blocking", "overlapped")
# One training for all of them, so that one uninterrupted run tells how each must end.
MATRIX = """
[matrix]
datasets = ["fashion-mini"]
models = ["cnn"]
checkpoint_every = [{every}]
max_inflight = [2]
variants = {variants}
[failures]
{failures}
[train]
steps = {steps}
batch_size = 8
nproc = 2
optimizer = "adamw"
lr = 0.001
launcher = "{launcher}"
[run]
device = "cpu"
"""


class Campaign:
    """A finished campaign and its records."""

    def __init__(self, paths: CampaignPaths) -> None:
        self.paths = paths
        self.suites: dict[str, Suite] = {s.failure_label: s for s in expand_matrix(load(paths.matrix))}

    def record(self, label: str, variant: str) -> RunRecord:
        return read_run(self.paths.run(self.suites[label].suite_id, variant, 1337))


def finished(folder: Path, variants: tuple[str, ...], failures: str, launcher: str) -> Campaign:
    """Run the training under these failure schedules, as a user does."""
    matrix = MATRIX.format(every=EVERY, steps=STEPS, variants=list(variants), failures=failures, launcher=launcher)
    (folder / "matrix.toml").write_text(matrix)
    command = [sys.executable, "-m", "ecrl", "matrix", "run", "--prefix", "crashes", "--yes"]
    done = subprocess.run(
        [*command, "--results", str(folder / "results"), str(folder / "matrix.toml")],
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr
    return Campaign(CampaignPaths(folder / "results", "crashes"))


def final(record: RunRecord) -> dict[int, tuple[str, str]]:
    """Digests of each rank's state and random generators at the end."""
    return {rank: (e["digest"], e["rng_digest"]) for _, rank, e in record.get_events("final")}
