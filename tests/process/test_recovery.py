"""Real torchrun, gloo, SIGKILL: every planned crash is survived, and the end has the uninterrupted run's bits."""

import json
import os
import subprocess
import sys

import pytest

from ecrl.records.gates import fired, restarts
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord, read_run
from ecrl.spec.matrix import load
from ecrl.spec.suite import Suite, expand
from ecrl.storage.commit import committed_steps, verify

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

MATRIX = """
[matrix]
datasets = ["fashion-mini"]
models = ["cnn"]
checkpoint_every = [5]
max_inflight = [2]
variants = ["reference", "blocking", "overlapped"]
[failures]
inside = [8]                   # inside an interval: 6, 7 and 8 are lost
early = [3]                    # before the first checkpoint: begin again at step 0
two = [8, 17]                  # both ranks in turn
replay = [9, { at = 7, rank = 0 }]   # the second strikes while 6 to 9 are run again
[train]
steps = 22
batch_size = 8
nproc = 2
optimizer = "adamw"
lr = 0.001
[run]
device = "cpu"
"""

CRASHES = ("inside", "early", "two", "replay")


class Campaign:
    """A finished campaign and its records."""

    def __init__(self, paths: CampaignPaths) -> None:
        self.paths = paths
        self.suites: dict[str, Suite] = {s.failure_label: s for s in expand(load(paths.matrix))}

    def record(self, label: str, variant: str) -> RunRecord:
        return read_run(self.paths.run(self.suites[label].suite_id, variant, 1337))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    folder = tmp_path_factory.mktemp("recovery")
    (folder / "matrix.toml").write_text(MATRIX)
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
    return {rank: (e["digest"], e["rng_digest"]) for _, rank, e in record.of_kind("final")}


@pytest.mark.parametrize("variant", ["blocking", "overlapped"])
@pytest.mark.parametrize("label", CRASHES)
def test_every_rank_ends_with_the_bits_of_the_uninterrupted_run(campaign: Campaign, label: str, variant: str) -> None:
    expected = final(campaign.record(label, "reference"))
    assert len(expected) == 2
    assert final(campaign.record(label, variant)) == expected


@pytest.mark.parametrize("variant", ["blocking", "overlapped"])
@pytest.mark.parametrize("label", CRASHES)
def test_each_planned_failure_strikes_once_on_its_rank(campaign: Campaign, label: str, variant: str) -> None:
    record = campaign.record(label, variant)
    planned = [(f["index"], f["rank"], f["at"]) for f in record.spec["failures"]]
    assert [(e["index"], rank, e["at"]) for _, rank, e in record.of_kind("failure")] == planned
    assert restarts(record) == len(planned)
    assert fired(record) == [index for index, _, _ in planned]
    assert record.result is not None
    assert record.result["outcome"] == "completed"
    assert record.result["gates"]["C1"]["passed"] is True
    if label != "early":
        assert record.result["gates"]["C2"]["passed"] is True


def test_blocking_loses_exactly_the_steps_since_the_boundary(campaign: Campaign) -> None:
    restored = {
        label: [e["step"] for _, rank, e in campaign.record(label, "blocking").of_kind("restored") if rank == 0]
        for label in CRASHES
    }
    assert restored == {"inside": [0, 5], "early": [0, 0], "two": [0, 5, 15], "replay": [0, 5, 5]}


def test_the_reference_has_neither_checkpoints_nor_failures(campaign: Campaign) -> None:
    record = campaign.record("two", "reference")
    kinds = {kind for kind in ("save", "failure", "committed", "restored") if record.of_kind(kind)}
    assert kinds == {"restored"}  # which says: step 0
    assert restarts(record) == 0


@pytest.mark.parametrize("variant", ["blocking", "overlapped"])
def test_the_newest_checkpoint_remains_and_verifies(campaign: Campaign, variant: str) -> None:
    paths = campaign.paths.run(campaign.suites["two"].suite_id, variant, 1337)
    assert committed_steps(paths.checkpoints) == [20]
    assert verify(paths.checkpoints, 20).state == "valid"


def test_every_suite_is_completed_in_the_manifest(campaign: Campaign) -> None:
    command = [sys.executable, "-m", "ecrl", "matrix", "status", "--prefix", "crashes", "--json"]
    told = subprocess.run(
        [*command, "--results", str(campaign.paths.results)], capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout)["counts"]["completed"] == len(CRASHES)
