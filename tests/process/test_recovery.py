"""Real torchrun, gloo, SIGKILL: every planned crash is survived, and the end has the uninterrupted run's bits."""

import json
import subprocess
import sys

import pytest

from ecrl.records.correctness import count_restarts, list_fired
from ecrl.storage.commit import list_committed_steps, verify
from tests.process.crashes import ENGINES, Campaign, final

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]


@pytest.mark.parametrize("variant", ENGINES)
def test_every_rank_ends_with_the_bits_of_the_uninterrupted_run(crashes: Campaign, variant: str) -> None:
    expected = final(crashes.record("crashes", "reference"))
    assert len(expected) == 2
    assert final(crashes.record("crashes", variant)) == expected


@pytest.mark.parametrize("variant", ENGINES)
def test_each_planned_failure_strikes_once_on_its_rank(crashes: Campaign, variant: str) -> None:
    record = crashes.record("crashes", variant)
    planned = [(f["index"], f["rank"], 0 if f.get("phase") == "init" else f["at"]) for f in record.spec["failures"]]
    assert [(rank, at) for _, rank, at in planned] == [(0, 3), (1, 9), (0, 7), (1, 0), (0, 17)]
    assert [(e["index"], rank, e["at"]) for _, rank, e in record.get_events("failure")] == planned
    assert count_restarts(record) == len(planned)
    assert list_fired(record) == [index for index, _, _ in planned]
    assert record.result is not None
    assert record.result["outcome"] == "completed"
    assert record.result["gates"]["C1"]["passed"] is True
    assert record.result["gates"]["C2"]["passed"] is True


def test_blocking_loses_exactly_the_steps_since_the_boundary(crashes: Campaign) -> None:
    restored = crashes.record("crashes", "blocking").get_events("restored")
    # attempt 4 is struck before it restores
    told = {attempt: e["step"] for attempt, rank, e in restored if rank == 0}
    assert told == {0: 0, 1: 0, 2: 5, 4: 5, 5: 15}


def test_the_reference_has_neither_checkpoints_nor_failures(crashes: Campaign) -> None:
    record = crashes.record("crashes", "reference")
    kinds = {kind for kind in ("save", "failure", "committed", "restored") if record.get_events(kind)}
    assert kinds == {"restored"}  # which says: step 0
    assert count_restarts(record) == 0


@pytest.mark.parametrize("variant", ENGINES)
def test_the_newest_checkpoint_remains_and_verifies(crashes: Campaign, variant: str) -> None:
    paths = crashes.paths.run(crashes.suites["crashes"].suite_id, variant, 1337)
    assert list_committed_steps(paths.checkpoints) == [20]
    assert verify(paths.checkpoints, 20).state == "valid"


def test_every_suite_is_completed_in_the_manifest(crashes: Campaign) -> None:
    command = [sys.executable, "-m", "ecrl", "matrix", "status", "--prefix", "crashes", "--json"]
    told = subprocess.run(
        [*command, "--results", str(crashes.paths.results)], capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout)["counts"]["completed"] == len(crashes.suites) == 1
